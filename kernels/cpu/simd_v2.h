// SPDX-License-Identifier: Apache-2.0
// F32x16 for x86-64-v2 (SSE4.2, no FMA instruction): plain loops. Included by simd.h only, which
// has the contract. fmaf is the one libm function here: it is rounded correctly, so it has one
// right answer everywhere.
#pragma once

#include <cstdint>

namespace eddy::cpu::EDDY_TARGET {

struct F32x16 {
  float v[16];
};
struct I32x16 {
  uint32_t v[16];  // unsigned: wraps without undefined behaviour
};
struct Mask16 {
  bool v[16];
};

template <typename Out, typename Fn>
inline Out Lanes(Fn fn) {
  Out out;
  for (int i = 0; i < 16; ++i) out.v[i] = fn(i);
  return out;
}

inline F32x16 Set(float x) {
  return Lanes<F32x16>([x](int) { return x; });
}
inline I32x16 SetI32(int32_t x) {
  return Lanes<I32x16>([x](int) { return static_cast<uint32_t>(x); });
}
inline F32x16 Load(const float* p) {
  return Lanes<F32x16>([p](int i) { return p[i]; });
}
inline void Store(float* p, F32x16 x) {
  for (int i = 0; i < 16; ++i) p[i] = x.v[i];
}
// The first n lanes, 0 <= n <= 16; the others are zero, and memory behind them is not touched.
inline F32x16 LoadPartial(const float* p, int64_t n) {
  return Lanes<F32x16>([p, n](int i) { return i < n ? p[i] : 0.0f; });
}
inline void StorePartial(float* p, F32x16 x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) p[i] = x.v[i];
}
// Lanes from n on become zero.
inline F32x16 KeepFirst(F32x16 x, int64_t n) {
  return Lanes<F32x16>([&x, n](int i) { return i < n ? x.v[i] : 0.0f; });
}

inline F32x16 operator+(F32x16 a, F32x16 b) {
  return Lanes<F32x16>([&](int i) { return a.v[i] + b.v[i]; });
}
inline F32x16 operator-(F32x16 a, F32x16 b) {
  return Lanes<F32x16>([&](int i) { return a.v[i] - b.v[i]; });
}
inline F32x16 operator*(F32x16 a, F32x16 b) {
  return Lanes<F32x16>([&](int i) { return a.v[i] * b.v[i]; });
}
// Division by zero is IEEE infinity, as in the vector units.
__attribute__((no_sanitize("float-divide-by-zero"))) inline F32x16 operator/(F32x16 a, F32x16 b) {
  F32x16 out;
  for (int i = 0; i < 16; ++i) out.v[i] = a.v[i] / b.v[i];
  return out;
}
// a b + c, rounded once.
inline F32x16 Fma(F32x16 a, F32x16 b, F32x16 c) {
  return Lanes<F32x16>([&](int i) { return __builtin_fmaf(a.v[i], b.v[i], c.v[i]); });
}
inline F32x16 Min(F32x16 a, F32x16 b) {
  return Lanes<F32x16>([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
}
inline F32x16 Max(F32x16 a, F32x16 b) {
  return Lanes<F32x16>([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
}

inline I32x16 ToI32(F32x16 x) {  // the bits
  return Lanes<I32x16>([&](int i) { return __builtin_bit_cast(uint32_t, x.v[i]); });
}
inline F32x16 ToF32(I32x16 x) {  // the bits
  return Lanes<F32x16>([&](int i) { return __builtin_bit_cast(float, x.v[i]); });
}
inline I32x16 operator+(I32x16 a, I32x16 b) {
  return Lanes<I32x16>([&](int i) { return a.v[i] + b.v[i]; });
}
inline I32x16 operator-(I32x16 a, I32x16 b) {
  return Lanes<I32x16>([&](int i) { return a.v[i] - b.v[i]; });
}
inline I32x16 operator&(I32x16 a, I32x16 b) {
  return Lanes<I32x16>([&](int i) { return a.v[i] & b.v[i]; });
}
inline I32x16 operator|(I32x16 a, I32x16 b) {
  return Lanes<I32x16>([&](int i) { return a.v[i] | b.v[i]; });
}
inline I32x16 operator^(I32x16 a, I32x16 b) {
  return Lanes<I32x16>([&](int i) { return a.v[i] ^ b.v[i]; });
}
template <int kBits>
inline I32x16 ShiftLeft(I32x16 x) {
  return Lanes<I32x16>([&](int i) { return x.v[i] << kBits; });
}
template <int kBits>
inline I32x16 ShiftRight(I32x16 x) {  // with the sign
  return Lanes<I32x16>(
      [&](int i) { return static_cast<uint32_t>(static_cast<int32_t>(x.v[i]) >> kBits); });
}

inline Mask16 Less(F32x16 a, F32x16 b) {
  return Lanes<Mask16>([&](int i) { return a.v[i] < b.v[i]; });
}
inline Mask16 operator&(Mask16 a, Mask16 b) {
  return Lanes<Mask16>([&](int i) { return a.v[i] && b.v[i]; });
}
inline Mask16 AllLanes() {
  return Lanes<Mask16>([](int) { return true; });
}
inline bool All(Mask16 m) {
  bool all = true;
  for (int i = 0; i < 16; ++i) all = all && m.v[i];
  return all;
}
inline F32x16 Select(Mask16 m, F32x16 yes, F32x16 no) {
  return Lanes<F32x16>([&](int i) { return m.v[i] ? yes.v[i] : no.v[i]; });
}

inline float ReduceAdd(F32x16 x) {
  for (int half = 8; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) x.v[i] = x.v[i] + x.v[i + half];
  }
  return x.v[0];
}
inline float ReduceMax(F32x16 x) {
  for (int half = 8; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) x.v[i] = x.v[i] > x.v[i + half] ? x.v[i] : x.v[i + half];
  }
  return x.v[0];
}

// Sixteen words of two bf16 each, widened: the low halves and the high halves.
struct Bf16Pairs {
  const uint32_t* words;
};
inline Bf16Pairs LoadPairs(const uint32_t* p) { return {p}; }
inline F32x16 Low(Bf16Pairs pairs) {
  return Lanes<F32x16>([&](int i) { return __builtin_bit_cast(float, pairs.words[i] << 16); });
}
inline F32x16 High(Bf16Pairs pairs) {
  return Lanes<F32x16>(
      [&](int i) { return __builtin_bit_cast(float, pairs.words[i] & 0xffff0000u); });
}

}  // namespace eddy::cpu::EDDY_TARGET
