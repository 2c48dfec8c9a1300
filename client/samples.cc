// SPDX-License-Identifier: Apache-2.0
#include "client/samples.h"

#include <algorithm>
#include <cstddef>
#include <numeric>

namespace eddy {

void Samples::Add(double value, int64_t count) {
  values_.insert(values_.end(), static_cast<size_t>(count), static_cast<float>(value));
}

void Samples::Append(const Samples& other) {
  values_.insert(values_.end(), other.values_.begin(), other.values_.end());
}

SampleSummary Samples::Summarize() const {
  SampleSummary summary;
  if (values_.empty()) {
    return summary;
  }
  std::vector<float> sorted = values_;
  std::sort(sorted.begin(), sorted.end());
  // In whole numbers: 0.9 * 10 in floating point may round to the rank above.
  const auto percentile = [&sorted](size_t percent) {
    const size_t rank = (sorted.size() * percent + 99) / 100;
    return static_cast<double>(sorted[std::max<size_t>(rank, 1) - 1]);
  };
  summary.count = count();
  summary.mean =
      std::accumulate(sorted.begin(), sorted.end(), 0.0) / static_cast<double>(sorted.size());
  summary.p50 = percentile(50);
  summary.p90 = percentile(90);
  summary.p99 = percentile(99);
  summary.max = static_cast<double>(sorted.back());
  return summary;
}

}  // namespace eddy
