// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/weights.h"
#include "kernels/quantise.h"

namespace eddy {
namespace {

StoredType IntegerType(DType dtype) {
  return dtype == DType::kI8 ? StoredType::kI8 : StoredType::kU8;
}

Shape ScaleShape(DType dtype, int64_t out_size, int64_t in_size) {
  if (dtype == DType::kI8) return {out_size};
  return {out_size, ScaleCount(dtype, in_size)};
}

// [in, out] to [out, in].
std::vector<int8_t> Transposed(const std::vector<int8_t>& integers, size_t in_size,
                               size_t out_size) {
  std::vector<int8_t> turned(integers.size());
  for (size_t in = 0; in < in_size; ++in) {
    for (size_t out = 0; out < out_size; ++out) {
      turned[out * in_size + in] = integers[in * out_size + out];
    }
  }
  return turned;
}

}  // namespace

bool Weights::HasQuantised(const std::string& name) const {
  if (dtype_ != DType::kI8 && dtype_ != DType::kI4) return false;
  const StoredTensor* tensor = file_.Find(name);
  return tensor != nullptr && tensor->type == IntegerType(dtype_) && tensor->shape.rank() == 2;
}

Matrix Weights::ReadQuantised(const std::string& name, const Shape& shape, bool transposed) {
  Expect(name);
  const StoredTensor& tensor = *file_.Find(name);
  const bool fits = *StoredShape(name) == shape;
  if (!fits) {
    problems_.push_back(absl::StrCat(name, " is ", StoredTypeName(tensor.type), " ",
                                     tensor.shape.ToString(), ", expected ", DTypeName(dtype_),
                                     " numbers of ", shape.ToString(),
                                     dtype_ == DType::kI4 ? ", two to a byte" : ""));
  }
  const int64_t out_size = shape[transposed ? 1 : 0], in_size = shape[transposed ? 0 : 1];
  const std::vector<float> scales = QuantisedScales(name + ".scale", out_size, in_size);
  if (!fits || failed()) return {};
  loaded_.parameter_count += shape.element_count();
  const std::vector<std::byte> integers = QuantisedIntegers(name, shape, transposed);
  if (failed()) return {};
  return Keep(name, backend_.PackQuantised({dtype_, out_size, in_size,
                                            integers.empty() ? tensor.data.data() : integers.data(),
                                            scales.data()}));
}

// Empty where they may be taken from the file as they are.
std::vector<std::byte> Weights::QuantisedIntegers(const std::string& name, const Shape& shape,
                                                  bool transposed) {
  const StoredTensor& tensor = *file_.Find(name);
  if (dtype_ == DType::kI8) {
    for (size_t i = 0; i < tensor.data.size(); ++i) {
      if (static_cast<int8_t>(tensor.data[i]) >= -kInt8Max) continue;
      problems_.push_back(absl::StrCat(name, " has the integer -128 at index ", i,
                                       ", expected one from -127 to 127"));
      return {};
    }
  }
  if (!transposed) return {};
  // This matrix only, and only until it is packed. The numbers of int4 go on from row to row: their
  // count in one is even.
  std::vector<int8_t> integers(static_cast<size_t>(shape.element_count()));
  LoadIntegers(dtype_, tensor.data.data(), integers);
  const auto in_size = static_cast<size_t>(shape[0]), out_size = static_cast<size_t>(shape[1]);
  integers = Transposed(integers, in_size, out_size);
  const auto row_bytes = static_cast<size_t>(IntegerBytes(dtype_, shape[0]));
  std::vector<std::byte> bytes(out_size * row_bytes);
  for (size_t out = 0; out < out_size; ++out) {
    StoreIntegers(dtype_, std::span(integers).subspan(out * in_size, in_size),
                  bytes.data() + out * row_bytes);
  }
  return bytes;
}

std::vector<float> Weights::QuantisedScales(const std::string& name, int64_t out_size,
                                            int64_t in_size) {
  Expect(name);
  const Shape shape = ScaleShape(dtype_, out_size, in_size);
  const StoredType type = dtype_ == DType::kI8 ? StoredType::kF32 : StoredType::kBF16;
  const StoredTensor* tensor = file_.Find(name);
  if (tensor == nullptr || tensor->type != type || tensor->shape != shape) {
    problems_.push_back(absl::StrCat(
        name, " is ",
        tensor == nullptr
            ? "missing"
            : absl::StrCat(StoredTypeName(tensor->type), " ", tensor->shape.ToString()),
        ", expected ", StoredTypeName(type), " ", shape.ToString()));
    return {};
  }
  const float max = dtype_ == DType::kI8 ? kInt8ScaleMax : kInt4ScaleMax;
  const float min = dtype_ == DType::kI8 ? 0.0f : -max;
  std::vector<float> scales;
  scales.reserve(static_cast<size_t>(shape.element_count()));
  for (int64_t i = 0; i < shape.element_count(); ++i) {
    const float scale = NumberAt(*tensor, i);
    if (!(min <= scale && scale <= max)) {
      problems_.push_back(absl::StrCat(name, " has the value ", scale, " at index ", i,
                                       ", expected one from ", min, " to ", max));
      return {};
    }
    scales.push_back(scale);
  }
  return scales;
}

}  // namespace eddy
