// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/probe_loops.h"

#include <immintrin.h>

#include <cstring>

namespace eddy {
namespace {

// Independent chains hide the latency of an instruction: two a cycle of four or five cycles each.
constexpr int kChainCount = 12;

// Steps of kChainCount times `instructions`: %0 the chain, %1 scratch, %2 some numbers. Written as
// they are, for compilers find ways around the same multiplication over and over, or keep chains in
// memory.
#define EDDY_ARITHMETIC_LOOP(name, isa, Vector, instructions)                     \
  __attribute__((target(isa))) void name(int64_t step_count) {                    \
    Vector chains[kChainCount] = {};                                              \
    Vector scratch, numbers;                                                      \
    std::memset(&numbers, 0x3c, sizeof(numbers)); /* 0.0115 as f32 and as bf16 */ \
    for (int64_t step = 0; step < step_count; ++step) {                           \
      for (auto& chain : chains) {                                                \
        asm volatile(instructions : "+v"(chain), "=&v"(scratch) : "v"(numbers));  \
      }                                                                           \
    }                                                                             \
  }

EDDY_ARITHMETIC_LOOP(FmaV4, "avx512f", __m512, "vfmadd213ps %2, %2, %0")
EDDY_ARITHMETIC_LOOP(FmaV3, "avx2,fma", __m256, "vfmadd213ps %2, %2, %0")
EDDY_ARITHMETIC_LOOP(MulAddV2, "sse2", __m128, "mulps %2, %0; addps %2, %0")
EDDY_ARITHMETIC_LOOP(Bf16V4, "avx512f,avx512bf16", __m512, "vdpbf16ps %2, %2, %0")
EDDY_ARITHMETIC_LOOP(Int16Vnni, "avx512f,avx512vnni", __m512, "vpdpwssd %2, %2, %0")
EDDY_ARITHMETIC_LOOP(Int8Vnni, "avx512f,avx512vnni", __m512, "vpdpbusd %2, %2, %0")
EDDY_ARITHMETIC_LOOP(Int16V4, "avx512f,avx512bw", __m512, "vpmaddwd %2, %2, %1; vpaddd %1, %0, %0")
EDDY_ARITHMETIC_LOOP(Int16V3, "avx2", __m256, "vpmaddwd %2, %2, %1; vpaddd %1, %0, %0")
EDDY_ARITHMETIC_LOOP(Int16V2, "sse2", __m128, "movdqa %2, %1; pmaddwd %2, %1; paddd %1, %0")

// Operations of one step of all chains.
constexpr double PerStep(int vector_bytes, int number_bytes) {
  return 2.0 * kChainCount * vector_bytes / number_bytes;
}

}  // namespace

// As eight streams side by side, as a matrix product reads its panels: one stream alone does not
// keep enough lines in flight.
void ReadMemory(std::byte* data, int64_t bytes) {
  __m128i sums[8] = {};
  const int64_t stream_bytes = bytes / 8;
  for (int64_t i = 0; i < stream_bytes; i += 64) {
    for (int64_t stream = 0; stream < 8; ++stream) {
      const auto* p = reinterpret_cast<const __m128i*>(data + stream * stream_bytes + i);
      const __m128i a = _mm_xor_si128(_mm_load_si128(p), _mm_load_si128(p + 1));
      const __m128i b = _mm_xor_si128(_mm_load_si128(p + 2), _mm_load_si128(p + 3));
      sums[stream] = _mm_xor_si128(sums[stream], _mm_xor_si128(a, b));
    }
  }
  for (int i = 1; i < 8; ++i) sums[0] = _mm_xor_si128(sums[0], sums[i]);
  asm volatile("" : : "x"(sums[0]));  // needed, as far as the compiler knows
}

// As two streams: states lie one after the other, and written lines are fetched ahead well enough.
void UpdateMemory(std::byte* data, int64_t bytes) {
  const __m128i ones = _mm_set1_epi8(1);
  const int64_t stream_bytes = bytes / 2;
  for (int64_t i = 0; i < stream_bytes; i += 64) {
    for (int64_t stream = 0; stream < 2; ++stream) {
      auto* p = reinterpret_cast<__m128i*>(data + stream * stream_bytes + i);
      for (int part = 0; part < 4; ++part) {
        _mm_store_si128(p + part, _mm_xor_si128(_mm_load_si128(p + part), ones));
      }
    }
  }
}

ArithmeticLoop FmaLoop() {
  if (__builtin_cpu_supports("avx512f")) return {FmaV4, PerStep(64, 4)};
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    return {FmaV3, PerStep(32, 4)};
  }
  return {MulAddV2, PerStep(16, 4)};
}

ArithmeticLoop Bf16Loop() {
  if (__builtin_cpu_supports("avx512bf16")) return {Bf16V4, PerStep(64, 2)};
  return {};
}

ArithmeticLoop Int16Loop() {
  if (__builtin_cpu_supports("avx512vnni")) return {Int16Vnni, PerStep(64, 2)};
  if (__builtin_cpu_supports("avx512bw")) return {Int16V4, PerStep(64, 2)};
  if (__builtin_cpu_supports("avx2")) return {Int16V3, PerStep(32, 2)};
  return {Int16V2, PerStep(16, 2)};
}

ArithmeticLoop Int8Loop() {
  if (__builtin_cpu_supports("avx512vnni")) return {Int8Vnni, PerStep(64, 1)};
  return {};
}

}  // namespace eddy
