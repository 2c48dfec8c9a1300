// SPDX-License-Identifier: Apache-2.0
// What the benchmarks of the backend's ops share. One thread, one backend, one probe for the whole
// program; the probe is measured anew every second or so, beside what is compared with it.
#pragma once

#include <benchmark/benchmark.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "tests/bench/probe.h"

namespace eddy {

// What one call must move between memory and core, and do.
struct OpWork {
  double bytes = 0.0;
  double operations = 0.0;
  DType weights = DType::kF32;  // whose arithmetic it is
};

class OpBench {
 public:
  explicit OpBench(std::unique_ptr<Backend> backend);

  Backend& backend() { return *backend_; }
  // Runs `op` as often as the benchmark asks, and sets the counters GB/s, GFLOP/s and of_roof: the
  // share of what the probe allows, max(bytes / bandwidth, operations / peak) / time. What fits a
  // cache may exceed 1.
  void Measure(benchmark::State& state, const OpWork& work, const std::function<void()>& op);
  // A random matrix, packed, so many times that they fill several last-level caches: as in a step,
  // the next one comes from memory, for others were read since. The last ones asked for are kept:
  // packing takes longer than a benchmark.
  const std::vector<Matrix>& Copies(int64_t out_size, int64_t in_size, DType dtype);

 private:
  const ProbeResult& FreshProbe();

  const std::unique_ptr<Backend> backend_;
  std::vector<Matrix> copies_;
  Probe probe_;
  ProbeResult result_;
  double measured_at_ = -1e9;  // seconds of the steady clock
};

// Registers one benchmark.
void Register(const std::string& name, const std::function<void(benchmark::State&)>& run);

std::vector<float> RandomValues(int64_t count);  // in [-1, 1)
inline Tensor View(std::vector<float>& values, Shape shape) {
  return Tensor(values.data(), DType::kF32, shape);
}

// The arrays of a step of `row_count` rows of equal length.
struct BenchRows {
  BenchRows(int32_t row_count, int32_t length);
  std::vector<int32_t> begins, slots, tokens;
  std::vector<int64_t> positions;
  Rows rows;
};

// One file each; `bench` must outlive the run.
void RegisterMatMul(OpBench& bench);
void RegisterRecurrence(OpBench& bench);
void RegisterPointwise(OpBench& bench);
void RegisterSample(OpBench& bench);

}  // namespace eddy
