// SPDX-License-Identifier: Apache-2.0
#include "engine/tensor_source.h"

#include <bit>

namespace eddy {

float F16ToF32(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
  const uint32_t exponent = (half >> 10) & 0x1fu;
  const uint32_t fraction = half & 0x3ffu;
  if (exponent == 0x1f) return std::bit_cast<float>(sign | 0x7f800000u | fraction << 13);
  if (exponent != 0) return std::bit_cast<float>(sign | (exponent + 112) << 23 | fraction << 13);
  const float tiny = static_cast<float>(fraction) * 0x1p-24f;  // subnormal or zero; exact
  return sign != 0 ? -tiny : tiny;
}

const char* StoredTypeName(StoredType type) {
  switch (type) {
    case StoredType::kF32:
      return "F32";
    case StoredType::kF16:
      return "F16";
    case StoredType::kBF16:
      return "BF16";
    case StoredType::kI8:
      return "I8";
    case StoredType::kU8:
      return "U8";
  }
  return "?";
}

const StoredTensor* TensorSource::Find(std::string_view name) const {
  const auto found = tensors().find(name);
  return found == tensors().end() ? nullptr : &found->second;
}

const StoredTensor* TensorSource::Provide(std::string_view name, const Shape&, const ValueRange&,
                                          MadeTensor*) const {
  return Find(name);
}

}  // namespace eddy
