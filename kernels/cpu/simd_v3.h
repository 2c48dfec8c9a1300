// SPDX-License-Identifier: Apache-2.0
// F32x16 for x86-64-v3 (AVX2 and FMA): two vectors of eight. Included by simd.h only, which has the
// contract.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace eddy::cpu::EDDY_TARGET {

struct F32x16 {
  __m256 lo;
  __m256 hi;
};
struct I32x16 {
  __m256i lo;
  __m256i hi;
};
struct Mask16 {
  __m256 lo;
  __m256 hi;
};

inline __m256i LaneMask(int64_t n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)),
                            _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

inline F32x16 Set(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
inline I32x16 SetI32(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
inline F32x16 Load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline void Store(float* p, F32x16 x) {
  _mm256_storeu_ps(p, x.lo);
  _mm256_storeu_ps(p + 8, x.hi);
}
// The first n lanes, 0 <= n <= 16; the others are zero, and memory behind them is not touched.
inline F32x16 LoadPartial(const float* p, int64_t n) {
  const __m256 lo = _mm256_maskload_ps(p, LaneMask(n));
  if (n <= 8) return {lo, _mm256_setzero_ps()};
  return {lo, _mm256_maskload_ps(p + 8, LaneMask(n - 8))};
}
inline void StorePartial(float* p, F32x16 x, int64_t n) {
  _mm256_maskstore_ps(p, LaneMask(n), x.lo);
  if (n > 8) _mm256_maskstore_ps(p + 8, LaneMask(n - 8), x.hi);
}
// Lanes from n on become zero.
inline F32x16 KeepFirst(F32x16 x, int64_t n) {
  return {_mm256_and_ps(x.lo, _mm256_castsi256_ps(LaneMask(n))),
          _mm256_and_ps(x.hi, _mm256_castsi256_ps(LaneMask(n - 8)))};
}

inline F32x16 operator+(F32x16 a, F32x16 b) {
  return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)};
}
inline F32x16 operator-(F32x16 a, F32x16 b) {
  return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)};
}
inline F32x16 operator*(F32x16 a, F32x16 b) {
  return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)};
}
inline F32x16 operator/(F32x16 a, F32x16 b) {
  return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)};
}
// a b + c, rounded once.
inline F32x16 Fma(F32x16 a, F32x16 b, F32x16 c) {
  return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
inline F32x16 Min(F32x16 a, F32x16 b) {
  return {_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)};
}
inline F32x16 Max(F32x16 a, F32x16 b) {
  return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)};
}

inline I32x16 ToI32(F32x16 x) {  // the bits
  return {_mm256_castps_si256(x.lo), _mm256_castps_si256(x.hi)};
}
inline F32x16 ToF32(I32x16 x) {  // the bits
  return {_mm256_castsi256_ps(x.lo), _mm256_castsi256_ps(x.hi)};
}
inline I32x16 operator+(I32x16 a, I32x16 b) {
  return {_mm256_add_epi32(a.lo, b.lo), _mm256_add_epi32(a.hi, b.hi)};
}
inline I32x16 operator-(I32x16 a, I32x16 b) {
  return {_mm256_sub_epi32(a.lo, b.lo), _mm256_sub_epi32(a.hi, b.hi)};
}
inline I32x16 operator&(I32x16 a, I32x16 b) {
  return {_mm256_and_si256(a.lo, b.lo), _mm256_and_si256(a.hi, b.hi)};
}
inline I32x16 operator|(I32x16 a, I32x16 b) {
  return {_mm256_or_si256(a.lo, b.lo), _mm256_or_si256(a.hi, b.hi)};
}
inline I32x16 operator^(I32x16 a, I32x16 b) {
  return {_mm256_xor_si256(a.lo, b.lo), _mm256_xor_si256(a.hi, b.hi)};
}
template <int kBits>
inline I32x16 ShiftLeft(I32x16 x) {
  return {_mm256_slli_epi32(x.lo, kBits), _mm256_slli_epi32(x.hi, kBits)};
}
template <int kBits>
inline I32x16 ShiftRight(I32x16 x) {  // with the sign
  return {_mm256_srai_epi32(x.lo, kBits), _mm256_srai_epi32(x.hi, kBits)};
}

inline Mask16 Less(F32x16 a, F32x16 b) {
  return {_mm256_cmp_ps(a.lo, b.lo, _CMP_LT_OQ), _mm256_cmp_ps(a.hi, b.hi, _CMP_LT_OQ)};
}
inline Mask16 operator&(Mask16 a, Mask16 b) {
  return {_mm256_and_ps(a.lo, b.lo), _mm256_and_ps(a.hi, b.hi)};
}
inline Mask16 AllLanes() {
  const __m256 ones = _mm256_castsi256_ps(_mm256_set1_epi32(-1));
  return {ones, ones};
}
inline bool All(Mask16 m) { return _mm256_movemask_ps(_mm256_and_ps(m.lo, m.hi)) == 0xff; }
inline F32x16 Select(Mask16 m, F32x16 yes, F32x16 no) {
  return {_mm256_blendv_ps(no.lo, yes.lo, m.lo), _mm256_blendv_ps(no.hi, yes.hi, m.hi)};
}

inline float ReduceAdd(F32x16 x) {
  const __m256 eight = _mm256_add_ps(x.lo, x.hi);
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}
inline float ReduceMax(F32x16 x) {
  const __m256 eight = _mm256_max_ps(x.lo, x.hi);
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps(two, two, 1)));
}

// Sixteen words of two bf16 each, widened: the low halves and the high halves.
struct Bf16Pairs {
  __m256i lo;
  __m256i hi;
};
inline Bf16Pairs LoadPairs(const uint32_t* p) {
  return {_mm256_load_si256(reinterpret_cast<const __m256i*>(p)),
          _mm256_load_si256(reinterpret_cast<const __m256i*>(p + 8))};
}
inline F32x16 Low(Bf16Pairs pairs) {
  return {_mm256_castsi256_ps(_mm256_slli_epi32(pairs.lo, 16)),
          _mm256_castsi256_ps(_mm256_slli_epi32(pairs.hi, 16))};
}
inline __m256 HighHalves(__m256i words) {
  alignas(32) static constexpr uint32_t kMask[8] = {0xffff0000u, 0xffff0000u, 0xffff0000u,
                                                    0xffff0000u, 0xffff0000u, 0xffff0000u,
                                                    0xffff0000u, 0xffff0000u};
  // From memory: in a tile of the matrix product there is no register left for it.
  __m256 high;
  __asm__("vpand %2, %1, %0" : "=x"(high) : "x"(words), "m"(kMask));
  return high;
}
inline F32x16 High(Bf16Pairs pairs) { return {HighHalves(pairs.lo), HighHalves(pairs.hi)}; }

// ---- integers: sixteen words of 32 bits, or 32 of 16 ----

inline I32x16 LoadI32(const std::byte* p) {
  return {_mm256_load_si256(reinterpret_cast<const __m256i*>(p)),
          _mm256_load_si256(reinterpret_cast<const __m256i*>(p + 32))};
}
template <int kBits>
inline I32x16 ShiftRightLogical(I32x16 x) {
  return {_mm256_srli_epi32(x.lo, kBits), _mm256_srli_epi32(x.hi, kBits)};
}
template <int kBits>
inline I32x16 ShiftRightLogical16(I32x16 x) {
  return {_mm256_srli_epi16(x.lo, kBits), _mm256_srli_epi16(x.hi, kBits)};
}
// Sixteen bf16 as floats.
inline F32x16 LoadBf16(const uint16_t* p) {
  const auto widen = [](const uint16_t* half) {
    const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(half));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
  };
  return {widen(p), widen(p + 8)};
}
// The high halves of the words.
inline void StoreHighHalves(uint16_t* p, I32x16 x) {
  const __m256i mixed =
      _mm256_packus_epi32(_mm256_srli_epi32(x.lo, 16), _mm256_srli_epi32(x.hi, 16));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_permute4x64_epi64(mixed, 0xd8));
}
// In every word: sum + low halves' product + high halves' product, of signed halves; exact, but
// wraps around.
inline I32x16 DotI16(I32x16 sum, I32x16 a, I32x16 b) {
  return {_mm256_add_epi32(sum.lo, _mm256_madd_epi16(a.lo, b.lo)),
          _mm256_add_epi32(sum.hi, _mm256_madd_epi16(a.hi, b.hi))};
}
inline F32x16 FromI32(I32x16 x) { return {_mm256_cvtepi32_ps(x.lo), _mm256_cvtepi32_ps(x.hi)}; }
inline I32x16 RoundToI32(F32x16 x) {  // to the nearest, ties to even
  return {_mm256_cvtps_epi32(x.lo), _mm256_cvtps_epi32(x.hi)};
}
inline I32x16 TruncToI32(F32x16 x) {  // towards zero
  return {_mm256_cvttps_epi32(x.lo), _mm256_cvttps_epi32(x.hi)};
}
// The low halves of the words, which must fit 16 bits.
inline void StoreI16(int16_t* p, I32x16 x) {
  const __m256i mixed = _mm256_packs_epi32(x.lo, x.hi);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_permute4x64_epi64(mixed, 0xd8));
}

}  // namespace eddy::cpu::EDDY_TARGET
