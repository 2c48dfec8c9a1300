// SPDX-License-Identifier: Apache-2.0
// F32x16 for x86-64-v2 (SSE4.2, no FMA instruction): four vectors of four. Included by simd.h only,
// which has the contract. fmaf is the one libm function here: it is rounded correctly, so it has
// one right answer everywhere.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace eddy::cpu::EDDY_TARGET {

struct F32x16 {
  __m128 v[4];
};
struct I32x16 {
  __m128i v[4];
};
struct Mask16 {
  __m128 v[4];
};

// fn(quarter) for each quarter of the vector.
template <typename Out, typename Fn>
inline Out Quarters(const Fn& fn) {
  return Out{{fn(0), fn(1), fn(2), fn(3)}};
}

inline F32x16 Set(float x) {
  const __m128 v = _mm_set1_ps(x);
  return {{v, v, v, v}};
}
inline I32x16 SetI32(int32_t x) {
  const __m128i v = _mm_set1_epi32(x);
  return {{v, v, v, v}};
}
inline F32x16 Load(const float* p) {
  return Quarters<F32x16>([p](int i) { return _mm_loadu_ps(p + 4 * i); });
}
inline void Store(float* p, F32x16 x) {
  for (int i = 0; i < 4; ++i) _mm_storeu_ps(p + 4 * i, x.v[i]);
}
// The first n lanes, 0 <= n <= 16; the others are zero, and memory behind them is not touched.
inline F32x16 LoadPartial(const float* p, int64_t n) {
  if (n == 16) return Load(p);
  alignas(16) float lanes[16] = {};
  for (int64_t i = 0; i < n; ++i) lanes[i] = p[i];
  return Load(lanes);
}
inline void StorePartial(float* p, F32x16 x, int64_t n) {
  if (n == 16) return Store(p, x);
  alignas(16) float lanes[16];
  Store(lanes, x);
  for (int64_t i = 0; i < n; ++i) p[i] = lanes[i];
}
// Lanes from n on become zero.
inline F32x16 KeepFirst(F32x16 x, int64_t n) {
  const __m128i count = _mm_set1_epi32(static_cast<int>(n));
  return Quarters<F32x16>([&](int i) {
    const __m128i lane = _mm_add_epi32(_mm_setr_epi32(0, 1, 2, 3), _mm_set1_epi32(4 * i));
    return _mm_and_ps(x.v[i], _mm_castsi128_ps(_mm_cmplt_epi32(lane, count)));
  });
}

inline F32x16 operator+(F32x16 a, F32x16 b) {
  return Quarters<F32x16>([&](int i) { return _mm_add_ps(a.v[i], b.v[i]); });
}
inline F32x16 operator-(F32x16 a, F32x16 b) {
  return Quarters<F32x16>([&](int i) { return _mm_sub_ps(a.v[i], b.v[i]); });
}
inline F32x16 operator*(F32x16 a, F32x16 b) {
  return Quarters<F32x16>([&](int i) { return _mm_mul_ps(a.v[i], b.v[i]); });
}
inline F32x16 operator/(F32x16 a, F32x16 b) {
  return Quarters<F32x16>([&](int i) { return _mm_div_ps(a.v[i], b.v[i]); });
}
// Out of line: sixteen calls at every use would swell the kernels.
__attribute__((noinline)) inline __m128 Fma(__m128 a, __m128 b, __m128 c) {
  alignas(16) float x[4];
  alignas(16) float y[4];
  alignas(16) float z[4];
  _mm_store_ps(x, a);
  _mm_store_ps(y, b);
  _mm_store_ps(z, c);
  for (int i = 0; i < 4; ++i) z[i] = __builtin_fmaf(x[i], y[i], z[i]);
  return _mm_load_ps(z);
}
// a b + c, rounded once.
inline F32x16 Fma(F32x16 a, F32x16 b, F32x16 c) {
  return Quarters<F32x16>([&](int i) { return Fma(a.v[i], b.v[i], c.v[i]); });
}
inline F32x16 Min(F32x16 a, F32x16 b) {
  return Quarters<F32x16>([&](int i) { return _mm_min_ps(a.v[i], b.v[i]); });
}
inline F32x16 Max(F32x16 a, F32x16 b) {
  return Quarters<F32x16>([&](int i) { return _mm_max_ps(a.v[i], b.v[i]); });
}

inline I32x16 ToI32(F32x16 x) {  // the bits
  return Quarters<I32x16>([&](int i) { return _mm_castps_si128(x.v[i]); });
}
inline F32x16 ToF32(I32x16 x) {  // the bits
  return Quarters<F32x16>([&](int i) { return _mm_castsi128_ps(x.v[i]); });
}
inline I32x16 operator+(I32x16 a, I32x16 b) {
  return Quarters<I32x16>([&](int i) { return _mm_add_epi32(a.v[i], b.v[i]); });
}
inline I32x16 operator-(I32x16 a, I32x16 b) {
  return Quarters<I32x16>([&](int i) { return _mm_sub_epi32(a.v[i], b.v[i]); });
}
inline I32x16 operator&(I32x16 a, I32x16 b) {
  return Quarters<I32x16>([&](int i) { return _mm_and_si128(a.v[i], b.v[i]); });
}
inline I32x16 operator|(I32x16 a, I32x16 b) {
  return Quarters<I32x16>([&](int i) { return _mm_or_si128(a.v[i], b.v[i]); });
}
inline I32x16 operator^(I32x16 a, I32x16 b) {
  return Quarters<I32x16>([&](int i) { return _mm_xor_si128(a.v[i], b.v[i]); });
}
template <int kBits>
inline I32x16 ShiftLeft(I32x16 x) {
  return Quarters<I32x16>([&](int i) { return _mm_slli_epi32(x.v[i], kBits); });
}
template <int kBits>
inline I32x16 ShiftRight(I32x16 x) {  // with the sign
  return Quarters<I32x16>([&](int i) { return _mm_srai_epi32(x.v[i], kBits); });
}

inline Mask16 Less(F32x16 a, F32x16 b) {
  return Quarters<Mask16>([&](int i) { return _mm_cmplt_ps(a.v[i], b.v[i]); });
}
inline Mask16 operator&(Mask16 a, Mask16 b) {
  return Quarters<Mask16>([&](int i) { return _mm_and_ps(a.v[i], b.v[i]); });
}
inline Mask16 AllLanes() {
  const __m128 ones = _mm_castsi128_ps(_mm_set1_epi32(-1));
  return {{ones, ones, ones, ones}};
}
inline bool All(Mask16 m) {
  return _mm_movemask_ps(_mm_and_ps(_mm_and_ps(m.v[0], m.v[1]), _mm_and_ps(m.v[2], m.v[3]))) == 0xf;
}
inline F32x16 Select(Mask16 m, F32x16 yes, F32x16 no) {
  return Quarters<F32x16>([&](int i) { return _mm_blendv_ps(no.v[i], yes.v[i], m.v[i]); });
}

inline float ReduceAdd(F32x16 x) {
  const __m128 four = _mm_add_ps(_mm_add_ps(x.v[0], x.v[2]), _mm_add_ps(x.v[1], x.v[3]));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}
inline float ReduceMax(F32x16 x) {
  const __m128 four = _mm_max_ps(_mm_max_ps(x.v[0], x.v[2]), _mm_max_ps(x.v[1], x.v[3]));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps(two, two, 1)));
}

// Sixteen words of two bf16 each, widened: the low halves and the high halves.
struct Bf16Pairs {
  __m128i v[4];
};
inline Bf16Pairs LoadPairs(const uint32_t* p) {
  return Quarters<Bf16Pairs>(
      [p](int i) { return _mm_load_si128(reinterpret_cast<const __m128i*>(p + 4 * i)); });
}
inline F32x16 Low(Bf16Pairs pairs) {
  return Quarters<F32x16>([&](int i) { return _mm_castsi128_ps(_mm_slli_epi32(pairs.v[i], 16)); });
}
inline F32x16 High(Bf16Pairs pairs) {
  const __m128i mask = _mm_set1_epi32(static_cast<int>(0xffff0000u));
  return Quarters<F32x16>([&](int i) { return _mm_castsi128_ps(_mm_and_si128(pairs.v[i], mask)); });
}

// ---- integers: sixteen words of 32 bits, or 32 of 16 ----

inline I32x16 LoadI32(const std::byte* p) {
  return Quarters<I32x16>(
      [p](int i) { return _mm_load_si128(reinterpret_cast<const __m128i*>(p + 16 * i)); });
}
template <int kBits>
inline I32x16 ShiftRightLogical(I32x16 x) {
  return Quarters<I32x16>([&](int i) { return _mm_srli_epi32(x.v[i], kBits); });
}
template <int kBits>
inline I32x16 ShiftRightLogical16(I32x16 x) {
  return Quarters<I32x16>([&](int i) { return _mm_srli_epi16(x.v[i], kBits); });
}
// Sixteen bf16 as floats.
inline F32x16 LoadBf16(const uint16_t* p) {
  return Quarters<F32x16>([p](int i) {
    const __m128i halves = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p + 4 * i));
    return _mm_castsi128_ps(_mm_slli_epi32(_mm_cvtepu16_epi32(halves), 16));
  });
}
// The high halves of the words.
inline void StoreHighHalves(uint16_t* p, I32x16 x) {
  for (int i = 0; i < 4; i += 2) {
    const __m128i halves =
        _mm_packus_epi32(_mm_srli_epi32(x.v[i], 16), _mm_srli_epi32(x.v[i + 1], 16));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p + 4 * i), halves);
  }
}
// In every word: sum + low halves' product + high halves' product, of signed halves; exact, but
// wraps around.
inline I32x16 DotI16(I32x16 sum, I32x16 a, I32x16 b) {
  return Quarters<I32x16>(
      [&](int i) { return _mm_add_epi32(sum.v[i], _mm_madd_epi16(a.v[i], b.v[i])); });
}
inline F32x16 FromI32(I32x16 x) {
  return Quarters<F32x16>([&](int i) { return _mm_cvtepi32_ps(x.v[i]); });
}
inline I32x16 RoundToI32(F32x16 x) {  // to the nearest, ties to even
  return Quarters<I32x16>([&](int i) { return _mm_cvtps_epi32(x.v[i]); });
}
inline I32x16 TruncToI32(F32x16 x) {  // towards zero
  return Quarters<I32x16>([&](int i) { return _mm_cvttps_epi32(x.v[i]); });
}
// The low halves of the words, which must fit 16 bits.
inline void StoreI16(int16_t* p, I32x16 x) {
  for (int i = 0; i < 4; i += 2) {
    const __m128i halves = _mm_packs_epi32(x.v[i], x.v[i + 1]);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p + 4 * i), halves);
  }
}

}  // namespace eddy::cpu::EDDY_TARGET
