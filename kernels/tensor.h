// SPDX-License-Identifier: Apache-2.0
// Tensor: a view of numbers on a backend. It owns nothing (Buffer does) and copies like a pointer.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "kernels/check.h"
#include "kernels/dtype.h"

namespace eddy {

// Up to four dimensions, outermost first.
class Shape {
 public:
  static constexpr int kRankMax = 4;

  Shape() = default;
  Shape(std::initializer_list<int64_t> dims) {
    EDDY_CHECK_LE(dims.size(), static_cast<size_t>(kRankMax));
    for (int64_t dim : dims) dims_[static_cast<size_t>(rank_++)] = dim;
  }

  int rank() const { return rank_; }
  int64_t operator[](int axis) const { return dims_[static_cast<size_t>(axis)]; }
  int64_t element_count() const {
    int64_t count = 1;
    for (int i = 0; i < rank_; ++i) count *= dims_[static_cast<size_t>(i)];
    return count;
  }
  bool operator==(const Shape& other) const { return rank_ == other.rank_ && dims_ == other.dims_; }
  // "[2, 3]", for messages.
  std::string ToString() const {
    std::string text = "[";
    for (int i = 0; i < rank_; ++i) {
      if (i > 0) text += ", ";
      text += std::to_string(dims_[static_cast<size_t>(i)]);
    }
    return text + "]";
  }

 private:
  std::array<int64_t, kRankMax> dims_ = {};
  int rank_ = 0;
};

// Dense and row-major. A default Tensor is "absent": optional inputs (a bias, a gate) are passed
// so.
class Tensor {
 public:
  Tensor() = default;
  Tensor(void* data, DType dtype, Shape shape) : data_(data), dtype_(dtype), shape_(shape) {}

  bool present() const { return data_ != nullptr; }
  DType dtype() const { return dtype_; }
  const Shape& shape() const { return shape_; }
  int64_t dim(int axis) const { return shape_[axis]; }
  int64_t element_count() const { return shape_.element_count(); }
  int64_t bytes() const { return element_count() * DTypeBytes(dtype_); }
  void* data() const { return data_; }
  float* f32() const {
    EDDY_CHECK(dtype_ == DType::kF32) << DTypeName(dtype_);
    return static_cast<float*>(data_);
  }
  // The first `count` entries of the outermost axis.
  Tensor First(int64_t count) const {
    EDDY_CHECK_LE(count, shape_[0]);
    Shape shape;
    switch (shape_.rank()) {
      case 1:
        shape = {count};
        break;
      case 2:
        shape = {count, shape_[1]};
        break;
      case 3:
        shape = {count, shape_[1], shape_[2]};
        break;
      default:
        shape = {count, shape_[1], shape_[2], shape_[3]};
        break;
    }
    return Tensor(data_, dtype_, shape);
  }
  // Entry `index` of the outermost axis.
  Tensor At(int64_t index) const {
    EDDY_CHECK(shape_.rank() >= 2 && index >= 0 && index < shape_[0]) << index;
    const Shape shape = shape_.rank() == 2   ? Shape{shape_[1]}
                        : shape_.rank() == 3 ? Shape{shape_[1], shape_[2]}
                                             : Shape{shape_[1], shape_[2], shape_[3]};
    auto* data = static_cast<std::byte*>(data_);
    return Tensor(data + index * shape.element_count() * DTypeBytes(dtype_), dtype_, shape);
  }
  // The same numbers under another shape with as many elements.
  Tensor As(Shape shape) const {
    EDDY_CHECK_EQ(shape.element_count(), element_count());
    return Tensor(data_, dtype_, shape);
  }

 private:
  void* data_ = nullptr;
  DType dtype_ = DType::kF32;
  Shape shape_;
};

}  // namespace eddy
