// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/op_bench.h"

#include <algorithm>
#include <chrono>
#include <random>
#include <utility>

#include "kernels/check.h"

namespace eddy {
namespace {

constexpr double kProbeSeconds = 1.0;
constexpr int64_t kCopiesBytes = int64_t{160} << 20;
constexpr int64_t kCopyCountMax = 64;

double Now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

OpBench::OpBench(std::unique_ptr<Backend> backend)
    : backend_(std::move(backend)), probe_(backend_->info().thread_count) {}

const std::vector<Matrix>& OpBench::Copies(int64_t out_size, int64_t in_size, DType dtype) {
  if (!copies_.empty() && dtype == copies_[0].dtype && out_size == copies_[0].out_size &&
      in_size == copies_[0].in_size) {
    return copies_;
  }
  copies_.clear();
  std::vector<float> values = RandomValues(out_size * in_size);
  const Tensor host = View(values, {out_size, in_size});
  int64_t count = 1;
  while (static_cast<int64_t>(copies_.size()) < count) {
    absl::StatusOr<Matrix> matrix = backend_->PackMatrix(host, dtype);
    EDDY_CHECK(matrix.ok()) << std::string(matrix.status().message());
    count = std::clamp<int64_t>(kCopiesBytes / matrix->buffer.bytes(), 1, kCopyCountMax);
    copies_.push_back(*std::move(matrix));
  }
  return copies_;
}

const ProbeResult& OpBench::FreshProbe() {
  if (Now() - measured_at_ > kProbeSeconds) {
    probe_.Measure();
    result_ = probe_.TakeMedians();
    measured_at_ = Now();
  }
  return result_;
}

void OpBench::Measure(benchmark::State& state, const OpWork& work,
                      const std::function<void()>& op) {
  const ProbeResult& probe = FreshProbe();
  double seconds = -Now();
  for (auto _ : state) op();
  seconds += Now();
  const double calls_per_ns = static_cast<double>(state.iterations()) / seconds * 1e-9;
  const double gb_per_s = work.bytes * calls_per_ns;
  const double gflop_per_s = work.operations * calls_per_ns;
  state.counters["GB/s"] = gb_per_s;
  if (work.operations > 0.0) state.counters["GFLOP/s"] = gflop_per_s;
  state.counters["of_roof"] = std::max(gb_per_s / probe.read_gb_per_s,
                                       gflop_per_s / PeakOf(probe, backend_->info(), work.weights));
}

void Register(const std::string& name, const std::function<void(benchmark::State&)>& run) {
  benchmark::RegisterBenchmark(name.c_str(), run)->UseRealTime()->Unit(benchmark::kMicrosecond);
}

std::vector<float> RandomValues(int64_t count) {
  std::mt19937 generator(1);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) {
    value = static_cast<float>(static_cast<int32_t>(generator())) * 0x1p-31f;
  }
  return values;
}

BenchRows::BenchRows(int32_t row_count, int32_t length) {
  for (int32_t row = 0; row <= row_count; ++row) begins.push_back(row * length);
  for (int32_t row = 0; row < row_count; ++row) slots.push_back(row);
  positions.assign(static_cast<size_t>(row_count), 1000);
  tokens.assign(static_cast<size_t>(row_count * length), 7);
  rows.row_count = row_count;
  rows.token_count = row_count * length;
  rows.tokens = tokens.data();
  rows.token_begin = begins.data();
  rows.slot = slots.data();
  rows.position = positions.data();
}

}  // namespace eddy
