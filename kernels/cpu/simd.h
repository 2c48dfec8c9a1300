// SPDX-License-Identifier: Apache-2.0
// F32x16: sixteen floats, the vector in which every kernel is written; one implementation per
// target.
//
// Each operation gives the same bits on every target: IEEE add, multiply, divide, square root and
// fused multiply-add, and reductions by one tree (lane i with i + 8, then + 4, + 2, + 1). No
// approximations (rcp, rsqrt). Included by kernel sources only; everything is in the target's
// namespace (see ops.h).
//   Min(a, b) = a < b ? a : b and Max(a, b) = a > b ? a : b, so a NaN in b comes out.
#pragma once

#if EDDY_TARGET_LEVEL == 2
#include "kernels/cpu/simd_v2.h"
#elif EDDY_TARGET_LEVEL == 3
#include "kernels/cpu/simd_v3.h"
#elif EDDY_TARGET_LEVEL == 4 || EDDY_TARGET_LEVEL == 5
#include "kernels/cpu/simd_v4.h"
#else
#error "EDDY_TARGET_LEVEL must be 2, 3, 4 or 5 (v4dot)"
#endif

#include <cstdint>

#if defined(__clang__)
#define EDDY_UNROLL _Pragma("unroll")
#else
#define EDDY_UNROLL _Pragma("GCC unroll 32")
#endif

namespace eddy::cpu::EDDY_TARGET {

inline F32x16 Abs(F32x16 x) { return ToF32(ToI32(x) & SetI32(0x7fffffff)); }
inline F32x16 Negate(F32x16 x) { return ToF32(ToI32(x) ^ SetI32(INT32_MIN)); }
// The magnitude of `x`, the sign of `sign`.
inline F32x16 CopySign(F32x16 x, F32x16 sign) {
  return ToF32((ToI32(x) & SetI32(0x7fffffff)) | (ToI32(sign) & SetI32(INT32_MIN)));
}
inline F32x16 Zero() { return Set(0.0f); }
// To what bf16 can hold: the nearest, ties to even. Finite numbers only.
inline F32x16 RoundToBf16(F32x16 x) {
  const I32x16 bits = ToI32(x);
  const I32x16 odd = ShiftRightLogical<16>(bits) & SetI32(1);
  const I32x16 high = SetI32(static_cast<int32_t>(0xffff0000u));
  return ToF32((bits + odd + SetI32(0x7fff)) & high);
}

inline float Bf16ToF32(uint16_t bits) {
  return __builtin_bit_cast(float, static_cast<uint32_t>(bits) << 16);
}

}  // namespace eddy::cpu::EDDY_TARGET
