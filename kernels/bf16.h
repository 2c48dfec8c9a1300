// SPDX-License-Identifier: Apache-2.0
// bf16, the upper half of a float, to and from float.
#pragma once

#include <bit>
#include <cstdint>

namespace eddy {

// To the nearest, ties to even; NaN stays NaN.
inline uint16_t F32ToBf16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>(bits >> 16 | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

inline float Bf16ToF32(uint16_t half) {
  return std::bit_cast<float>(static_cast<uint32_t>(half) << 16);
}

}  // namespace eddy
