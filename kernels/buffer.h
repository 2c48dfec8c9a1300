// SPDX-License-Identifier: Apache-2.0
// Buffer: the move-only owner of bytes on a backend. Made by Backend::Allocate, which must outlive
// it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "kernels/tensor.h"

namespace eddy {

class Backend;

class Buffer {
 public:
  Buffer() = default;
  Buffer(Backend* backend, void* data, int64_t bytes)
      : backend_(backend), data_(data), bytes_(bytes) {}
  Buffer(Buffer&& other) noexcept
      : backend_(other.backend_),
        data_(std::exchange(other.data_, nullptr)),
        bytes_(std::exchange(other.bytes_, 0)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    if (this != &other) {
      Free();
      backend_ = other.backend_;
      data_ = std::exchange(other.data_, nullptr);
      bytes_ = std::exchange(other.bytes_, 0);
    }
    return *this;
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { Free(); }

  void* data() const { return data_; }
  int64_t bytes() const { return bytes_; }
  // A view of the bytes from offset_bytes on; checked against the end.
  Tensor View(DType dtype, Shape shape, int64_t offset_bytes = 0) const {
    EDDY_CHECK_LE(offset_bytes + shape.element_count() * DTypeBytes(dtype), bytes_);
    return Tensor(static_cast<std::byte*>(data_) + offset_bytes, dtype, shape);
  }

 private:
  void Free();  // backend.cc

  Backend* backend_ = nullptr;
  void* data_ = nullptr;
  int64_t bytes_ = 0;
};

}  // namespace eddy
