// SPDX-License-Identifier: Apache-2.0
// DType: the types of the numbers in a Tensor. No other includes: kernels compiled for one target
// use it.
#pragma once

#include <cstdint>

namespace eddy {

enum class DType : uint8_t { kF32, kBF16, kI32, kI64 };

constexpr int64_t DTypeBytes(DType dtype) {
  switch (dtype) {
    case DType::kF32:
    case DType::kI32:
      return 4;
    case DType::kBF16:
      return 2;
    case DType::kI64:
      return 8;
  }
  return 0;
}

constexpr const char* DTypeName(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "f32";
    case DType::kBF16:
      return "bf16";
    case DType::kI32:
      return "i32";
    case DType::kI64:
      return "i64";
  }
  return "?";
}

}  // namespace eddy
