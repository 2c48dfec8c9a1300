// SPDX-License-Identifier: Apache-2.0
// F32x16 for x86-64-v4 (AVX-512), and for v4dot, which adds dot products. Included by simd.h only,
// which has the contract.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace eddy::cpu::EDDY_TARGET {

struct F32x16 {
  __m512 v;
};
struct I32x16 {
  __m512i v;
};
struct Mask16 {
  __mmask16 v;
};

inline __mmask16 LaneMask(int64_t n) { return static_cast<__mmask16>((1u << n) - 1u); }

inline F32x16 Set(float x) { return {_mm512_set1_ps(x)}; }
inline I32x16 SetI32(int32_t x) { return {_mm512_set1_epi32(x)}; }
inline F32x16 Load(const float* p) { return {_mm512_loadu_ps(p)}; }
inline void Store(float* p, F32x16 x) { _mm512_storeu_ps(p, x.v); }
// The first n lanes, 0 <= n <= 16; the others are zero, and memory behind them is not touched.
inline F32x16 LoadPartial(const float* p, int64_t n) {
  return {_mm512_maskz_loadu_ps(LaneMask(n), p)};
}
inline void StorePartial(float* p, F32x16 x, int64_t n) {
  _mm512_mask_storeu_ps(p, LaneMask(n), x.v);
}
// Lanes from n on become zero.
inline F32x16 KeepFirst(F32x16 x, int64_t n) { return {_mm512_maskz_mov_ps(LaneMask(n), x.v)}; }

inline F32x16 operator+(F32x16 a, F32x16 b) { return {_mm512_add_ps(a.v, b.v)}; }
inline F32x16 operator-(F32x16 a, F32x16 b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline F32x16 operator*(F32x16 a, F32x16 b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline F32x16 operator/(F32x16 a, F32x16 b) { return {_mm512_div_ps(a.v, b.v)}; }
// a b + c, rounded once.
inline F32x16 Fma(F32x16 a, F32x16 b, F32x16 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
inline F32x16 Min(F32x16 a, F32x16 b) { return {_mm512_min_ps(a.v, b.v)}; }
inline F32x16 Max(F32x16 a, F32x16 b) { return {_mm512_max_ps(a.v, b.v)}; }

inline I32x16 ToI32(F32x16 x) { return {_mm512_castps_si512(x.v)}; }  // the bits
inline F32x16 ToF32(I32x16 x) { return {_mm512_castsi512_ps(x.v)}; }  // the bits
inline I32x16 operator+(I32x16 a, I32x16 b) { return {_mm512_add_epi32(a.v, b.v)}; }
inline I32x16 operator-(I32x16 a, I32x16 b) { return {_mm512_sub_epi32(a.v, b.v)}; }
inline I32x16 operator&(I32x16 a, I32x16 b) { return {_mm512_and_si512(a.v, b.v)}; }
inline I32x16 operator|(I32x16 a, I32x16 b) { return {_mm512_or_si512(a.v, b.v)}; }
inline I32x16 operator^(I32x16 a, I32x16 b) { return {_mm512_xor_si512(a.v, b.v)}; }
template <int kBits>
inline I32x16 ShiftLeft(I32x16 x) {
  return {_mm512_slli_epi32(x.v, kBits)};
}
template <int kBits>
inline I32x16 ShiftRight(I32x16 x) {  // with the sign
  return {_mm512_srai_epi32(x.v, kBits)};
}

inline Mask16 Less(F32x16 a, F32x16 b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ)}; }
inline Mask16 operator&(Mask16 a, Mask16 b) { return {static_cast<__mmask16>(a.v & b.v)}; }
inline Mask16 AllLanes() { return {0xffff}; }
inline bool All(Mask16 m) { return m.v == 0xffff; }
inline F32x16 Select(Mask16 m, F32x16 yes, F32x16 no) {
  return {_mm512_mask_blend_ps(m.v, no.v, yes.v)};
}

inline float ReduceAdd(F32x16 x) {
  const __m256 high = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(x.v), 1));
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(x.v), high);
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}
inline float ReduceMax(F32x16 x) {
  const __m256 high = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(x.v), 1));
  const __m256 eight = _mm256_max_ps(_mm512_castps512_ps256(x.v), high);
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps(two, two, 1)));
}

// Sixteen words of two bf16 each, widened: the low halves and the high halves.
struct Bf16Pairs {
  __m512i words;
};
inline Bf16Pairs LoadPairs(const uint32_t* p) { return {_mm512_load_si512(p)}; }
inline F32x16 Low(Bf16Pairs pairs) {
  return {_mm512_castsi512_ps(_mm512_slli_epi32(pairs.words, 16))};
}
inline F32x16 High(Bf16Pairs pairs) {
  const __m512i mask = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
  return {_mm512_castsi512_ps(_mm512_and_si512(pairs.words, mask))};
}

// ---- integers: sixteen words of 32 bits, or 32 of 16 ----

inline I32x16 LoadI32(const std::byte* p) { return {_mm512_load_si512(p)}; }
template <int kBits>
inline I32x16 ShiftRightLogical(I32x16 x) {
  return {_mm512_srli_epi32(x.v, kBits)};
}
template <int kBits>
inline I32x16 ShiftRightLogical16(I32x16 x) {
  return {_mm512_srli_epi16(x.v, kBits)};
}
// Sixteen bf16 as floats.
inline F32x16 LoadBf16(const uint16_t* p) {
  const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16))};
}
// The high halves of the words.
inline void StoreHighHalves(uint16_t* p, I32x16 x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                      _mm512_cvtepi32_epi16(_mm512_srli_epi32(x.v, 16)));
}
// In every word: sum + low halves' product + high halves' product, of signed halves; exact, but
// wraps around.
inline I32x16 DotI16(I32x16 sum, I32x16 a, I32x16 b) {
#if EDDY_TARGET_LEVEL >= 5
  // Not the intrinsic: gcc 12 moves the sums of a tile to other registers and to memory at every
  // step, as the instruction has another vector type than __m512i.
  __asm__("vpdpwssd %2, %1, %0" : "+v"(sum.v) : "v"(a.v), "v"(b.v));
  return sum;
#else
  return {_mm512_add_epi32(sum.v, _mm512_madd_epi16(a.v, b.v))};
#endif
}
inline F32x16 FromI32(I32x16 x) { return {_mm512_cvtepi32_ps(x.v)}; }
inline I32x16 RoundToI32(F32x16 x) {  // to the nearest, ties to even
  return {_mm512_cvtps_epi32(x.v)};
}
inline I32x16 TruncToI32(F32x16 x) {  // towards zero
  return {_mm512_cvttps_epi32(x.v)};
}
// The low halves of the words, which must fit 16 bits.
inline void StoreI16(int16_t* p, I32x16 x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtsepi32_epi16(x.v));
}

#if EDDY_TARGET_LEVEL >= 5
// ---- dot products of their own numeric paths ----

// In every word: sum + the products of two bf16 each (VDPBF16PS: its own rounding, no subnormals).
inline F32x16 DotBf16(F32x16 sum, I32x16 a, I32x16 b) {
  return {
      _mm512_dpbf16_ps(sum.v, reinterpret_cast<__m512bh>(a.v), reinterpret_cast<__m512bh>(b.v))};
}
// In every word: sum + the products of four unsigned bytes of a and signed ones of b; exact.
inline I32x16 DotU8I8(I32x16 sum, I32x16 a, I32x16 b) {
  __asm__("vpdpbusd %2, %1, %0" : "+v"(sum.v) : "v"(a.v), "v"(b.v));  // see DotI16
  return sum;
}
// Rounded to the nearest, ties to even; subnormals become zero.
inline void StoreBf16(uint16_t* p, F32x16 x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                      reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(x.v)));
}
// The lowest bytes of the words, which must fit 8 bits.
inline void StoreI8(int8_t* p, I32x16 x) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtsepi32_epi8(x.v));
}
#endif

}  // namespace eddy::cpu::EDDY_TARGET
