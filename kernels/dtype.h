// SPDX-License-Identifier: Apache-2.0
// DType: the types of the numbers in a Tensor. No other includes: kernels compiled for one target
// use it.
#pragma once

#include <cstdint>

namespace eddy {

// kI8 and kI4 are storages of a packed Matrix only (with scales, see Backend::PackMatrix): no
// Tensor has them.
enum class DType : uint8_t { kF32, kBF16, kI32, kI64, kI8, kI4 };

constexpr int64_t DTypeBytes(DType dtype) {
  switch (dtype) {
    case DType::kF32:
    case DType::kI32:
      return 4;
    case DType::kBF16:
      return 2;
    case DType::kI64:
      return 8;
    case DType::kI8:
    case DType::kI4:
      break;
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
    case DType::kI8:
      return "int8";
    case DType::kI4:
      return "int4";
  }
  return "?";
}

}  // namespace eddy
