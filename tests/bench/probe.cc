// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/probe.h"

#include <immintrin.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <functional>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cpu/cpu_target.h"
#include "kernels/cpu/thread_pool.h"

namespace eddy {
namespace {

constexpr int kRoundCount = 7;
// Several times the last-level cache of the machines we know.
constexpr int64_t kReadBytes = int64_t{384} << 20;
// Eight streams of whole lines.
constexpr int64_t kReadGrain = 512;
constexpr int64_t kFmaSteps = 4'000'000;

// Sums of what was computed end up here, so that nothing is optimised away.
std::atomic<float> sink{0.0f};

double Seconds(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double MedianSeconds(const std::function<void()>& work) {
  std::vector<double> seconds;
  for (int round = 0; round < kRoundCount; ++round) seconds.push_back(Seconds(work));
  std::nth_element(seconds.begin(), seconds.begin() + kRoundCount / 2, seconds.end());
  return seconds[kRoundCount / 2];
}

// Reads `bytes` (a multiple of kReadGrain) as eight streams side by side, as a matrix product reads
// its panels: one stream alone does not keep enough lines in flight.
void ReadAll(const std::byte* data, int64_t bytes) {
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
  sink = static_cast<float>(_mm_cvtsi128_si32(sums[0]));
}

// Unlike for each chain, and unknown to the compiler, which would else make one chain of twelve.
float StartOf(int chain) { return sink.load() + static_cast<float>(chain); }

// Twelve independent chains hide the latency of the multiply-add. Returns the operations done.
__attribute__((target("avx512f"))) int64_t FmaV4() {
  __m512 sums[12];
  for (int i = 0; i < 12; ++i) sums[i] = _mm512_set1_ps(StartOf(i));
  const __m512 factor = _mm512_set1_ps(0.999f);
  const __m512 term = _mm512_set1_ps(0.001f);
  for (int64_t i = 0; i < kFmaSteps; ++i) {
    for (auto& sum : sums) sum = _mm512_fmadd_ps(sum, factor, term);
  }
  for (int i = 1; i < 12; ++i) sums[0] = _mm512_add_ps(sums[0], sums[i]);
  sink = _mm512_cvtss_f32(sums[0]);
  return kFmaSteps * 12 * 16 * 2;
}

__attribute__((target("avx2,fma"))) int64_t FmaV3() {
  __m256 sums[12];
  for (int i = 0; i < 12; ++i) sums[i] = _mm256_set1_ps(StartOf(i));
  const __m256 factor = _mm256_set1_ps(0.999f);
  const __m256 term = _mm256_set1_ps(0.001f);
  for (int64_t i = 0; i < kFmaSteps; ++i) {
    for (auto& sum : sums) sum = _mm256_fmadd_ps(sum, factor, term);
  }
  for (int i = 1; i < 12; ++i) sums[0] = _mm256_add_ps(sums[0], sums[i]);
  sink = _mm256_cvtss_f32(sums[0]);
  return kFmaSteps * 12 * 8 * 2;
}

// No fused multiply-add there: a multiplication and an addition.
int64_t MulAddV2() {
  __m128 sums[12];
  for (int i = 0; i < 12; ++i) sums[i] = _mm_set1_ps(StartOf(i));
  const __m128 factor = _mm_set1_ps(0.999f);
  const __m128 term = _mm_set1_ps(0.001f);
  for (int64_t i = 0; i < kFmaSteps; ++i) {
    for (auto& sum : sums) sum = _mm_add_ps(_mm_mul_ps(sum, factor), term);
  }
  for (int i = 1; i < 12; ++i) sums[0] = _mm_add_ps(sums[0], sums[i]);
  sink = _mm_cvtss_f32(sums[0]);
  return kFmaSteps * 12 * 4 * 2;
}

int64_t MultiplyAdds() {
  if (cpu::MachineHas(cpu::CpuTarget::kV4)) return FmaV4();
  if (cpu::MachineHas(cpu::CpuTarget::kV3)) return FmaV3();
  return MulAddV2();
}

}  // namespace

ProbeResult ProbeMachine(int thread_count) {
  cpu::ThreadPool pool(thread_count);
  const auto backend = MakeBackend(BackendOptions());
  const auto buffer = (*backend)->Allocate(kReadBytes);
  const auto* data = static_cast<const std::byte*>(buffer->data());
  const int64_t share = kReadBytes / thread_count / kReadGrain * kReadGrain;
  ProbeResult result;
  const double read_s = MedianSeconds([&] {
    pool.ParallelFor(thread_count,
                     [&](int64_t chunk, int) { ReadAll(data + chunk * share, share); });
  });
  result.read_gb_per_s = static_cast<double>(share * thread_count) / read_s * 1e-9;
  int64_t operations = 0;
  const double fma_s = MedianSeconds([&] {
    std::vector<int64_t> done(static_cast<size_t>(thread_count));
    pool.ParallelFor(thread_count, [&](int64_t chunk, int) {
      done[static_cast<size_t>(chunk)] = MultiplyAdds();
    });
    operations = done[0] * thread_count;
  });
  result.fma_gflop_per_s = static_cast<double>(operations) / fma_s * 1e-9;
  return result;
}

const char* DescribeProbe(const ProbeResult& result, char (&text)[96]) {
  std::snprintf(text, sizeof(text), "%.1f GB/s read, %.0f GFLOP/s f32", result.read_gb_per_s,
                result.fma_gflop_per_s);
  return text;
}

}  // namespace eddy
