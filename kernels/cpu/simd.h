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

inline float Bf16ToF32(uint16_t bits) {
  return __builtin_bit_cast(float, static_cast<uint32_t>(bits) << 16);
}

}  // namespace eddy::cpu::EDDY_TARGET
