// SPDX-License-Identifier: Apache-2.0
// What this machine can do right now: the yardstick that every benchmark prints its share of. To be
// measured in the same run as what is compared with it, in turns: shared machines differ from
// minute to minute.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kernels/backend.h"

namespace eddy {

// Arithmetic peaks are of operations in registers, a multiplication and an addition being two; 0:
// the machine has no such instruction.
struct ProbeResult {
  double read_gb_per_s = 0.0;     // reading memory that no cache holds
  double update_gb_per_s = 0.0;   // reading and writing it back, both counted
  double fma_gflop_per_s = 0.0;   // f32 multiply-adds
  double bf16_gflop_per_s = 0.0;  // the dot product of bf16 pairs (AVX512_BF16)
  double int16_gop_per_s = 0.0;   // that of 16-bit pairs (AVX512_VNNI, or multiply-add and add)
  double int8_gop_per_s = 0.0;    // that of 8-bit quadruples (AVX512_VNNI)
};

// The peak of the multiplications that a matrix stored as `weights` is multiplied with on this
// backend: that of its numeric path's instruction.
double PeakOf(const ProbeResult& probe, const BackendInfo& backend, DType weights);

// Several times the last-level cache in memory, and threads like the backend's. Not thread-safe.
class Probe {
 public:
  explicit Probe(int thread_count);
  ~Probe();

  // Measures everything a few times; some tens of milliseconds.
  void Measure();
  // Medians of all measurements since the last call; at least one must have been made.
  ProbeResult TakeMedians();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

// "32.1 GB/s read, 20.0 updated; GFLOP/s: 118 f32, ..." for a benchmark's heading.
std::string DescribeProbe(const ProbeResult& result);

}  // namespace eddy
