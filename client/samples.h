// SPDX-License-Identifier: Apache-2.0
// Measured durations and their percentiles.
#pragma once

#include <cstdint>
#include <vector>

namespace eddy {

// What is told of a set of durations, in the unit they were added in; 0 where there are none.
struct SampleSummary {
  int64_t count = 0;
  double mean = 0;
  double p50 = 0;
  double p90 = 0;
  double p99 = 0;
  double max = 0;
};

// Keeps every sample (4 bytes each, relative error 6e-8), so its percentiles are exact. Not
// thread-safe.
class Samples {
 public:
  // Adds `value` `count` times.
  void Add(double value, int64_t count = 1);
  void Append(const Samples& other);

  int64_t count() const { return static_cast<int64_t>(values_.size()); }

  // Percentiles are by nearest rank: the smallest sample that at least that share of the samples do
  // not exceed.
  SampleSummary Summarize() const;

 private:
  std::vector<float> values_;
};

}  // namespace eddy
