// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/probe.h"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstdlib>

#include "kernels/check.h"
#include "kernels/cpu/thread_pool.h"
#include "tests/bench/probe_loops.h"

namespace eddy {
namespace {

constexpr int kRepeatCount = 3;
// Several times the last-level cache of the machines we know.
constexpr int64_t kMemoryBytes = int64_t{384} << 20;

double TakeMedian(std::vector<double>* values) {
  EDDY_CHECK(!values->empty());
  const auto middle = values->begin() + static_cast<std::ptrdiff_t>(values->size() / 2);
  std::nth_element(values->begin(), middle, values->end());
  const double median = *middle;
  values->clear();
  return median;
}

}  // namespace

class Probe::Impl {
 public:
  explicit Impl(int thread_count)
      : pool_(thread_count),
        memory_(
            static_cast<std::byte*>(std::aligned_alloc(64, static_cast<size_t>(kMemoryBytes)))) {
    EDDY_CHECK(memory_ != nullptr) << kMemoryBytes;
    // Pages never written to are all the same one, in a cache.
    OnAllThreads([](std::byte* share, int64_t bytes) { std::fill_n(share, bytes, std::byte{1}); });
  }
  ~Impl() { std::free(memory_); }

  void Measure() {
    for (int repeat = 0; repeat < kRepeatCount; ++repeat) {
      read_.push_back(Bandwidth(ReadMemory));
      update_.push_back(2.0 * Bandwidth(UpdateMemory));
      fma_.push_back(Rate(FmaLoop()));
      bf16_.push_back(Rate(Bf16Loop()));
      int16_.push_back(Rate(Int16Loop()));
      int8_.push_back(Rate(Int8Loop()));
    }
  }

  ProbeResult TakeMedians() {
    return {TakeMedian(&read_), TakeMedian(&update_), TakeMedian(&fma_),
            TakeMedian(&bf16_), TakeMedian(&int16_),  TakeMedian(&int8_)};
  }

 private:
  template <typename Work>
  void OnAllThreads(const Work& work) {
    const int64_t share = kMemoryBytes / pool_.thread_count() / kMemoryGrain * kMemoryGrain;
    pool_.ParallelFor(pool_.thread_count(),
                      [&](int64_t chunk, int) { work(memory_ + chunk * share, share); });
  }

  template <typename Work>
  static double Seconds(const Work& work) {
    const auto start = std::chrono::steady_clock::now();
    work();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }

  // GB/s of all memory once.
  double Bandwidth(void (*touch)(std::byte*, int64_t)) {
    return 1e-9 * static_cast<double>(kMemoryBytes) / Seconds([&] { OnAllThreads(touch); });
  }

  // Operations per nanosecond; 0 without a loop.
  double Rate(const ArithmeticLoop& loop) {
    if (loop.run == nullptr) return 0.0;
    const double seconds = Seconds([&] {
      pool_.ParallelFor(pool_.thread_count(), [&](int64_t, int) { loop.run(kArithmeticSteps); });
    });
    return 1e-9 * loop.operations_per_step * static_cast<double>(kArithmeticSteps) *
           pool_.thread_count() / seconds;
  }

  cpu::ThreadPool pool_;
  std::byte* const memory_;
  std::vector<double> read_, update_, fma_, bf16_, int16_, int8_;
};

Probe::Probe(int thread_count) : impl_(std::make_unique<Impl>(thread_count)) {}
Probe::~Probe() = default;
void Probe::Measure() { impl_->Measure(); }
ProbeResult Probe::TakeMedians() { return impl_->TakeMedians(); }

double PeakOf(const ProbeResult& probe, const BackendInfo& backend, DType weights) {
  if (weights == DType::kI8 && backend.numeric_path == "int8dot") return probe.int8_gop_per_s;
  if (weights == DType::kI8 || weights == DType::kI4) return probe.int16_gop_per_s;
  if (weights == DType::kBF16 && backend.numeric_path != "fma") return probe.bf16_gflop_per_s;
  return probe.fma_gflop_per_s;
}

std::string DescribeProbe(const ProbeResult& result) {
  char text[160];
  std::snprintf(text, sizeof(text),
                "%.1f GB/s read, %.1f updated; GFLOP/s: %.0f f32, %.0f bf16, %.0f int16, %.0f int8",
                result.read_gb_per_s, result.update_gb_per_s, result.fma_gflop_per_s,
                result.bf16_gflop_per_s, result.int16_gop_per_s, result.int8_gop_per_s);
  return text;
}

}  // namespace eddy
