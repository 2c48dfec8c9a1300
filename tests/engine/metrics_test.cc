// SPDX-License-Identifier: Apache-2.0
#include "engine/metrics.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace eddy {
namespace {

TEST(HistogramTest, CountsIntoTheBucketWhoseUpperBoundIsNotExceeded) {
  const double bounds[] = {1, 2, 5};
  Histogram histogram(bounds);
  for (const double value : {0.5, 1.0, 1.5, 2.0, 5.0, 5.5, 100.0}) histogram.Observe(value);
  EXPECT_EQ(histogram.bucket_count(0), 2);
  EXPECT_EQ(histogram.bucket_count(1), 2);
  EXPECT_EQ(histogram.bucket_count(2), 1);
  EXPECT_EQ(histogram.bucket_count(3), 2);  // +Inf
  EXPECT_DOUBLE_EQ(histogram.sum(), 115.5);
}

TEST(EngineMetricsTest, TimesResolveHalfAMillisecondAndKeepTheCustomaryEdges) {
  const EngineMetrics metrics;
  for (const Histogram* histogram :
       {&metrics.time_to_first_token, &metrics.inter_token_latency, &metrics.step_time}) {
    const auto bounds = histogram->bounds();
    EXPECT_TRUE(std::is_sorted(bounds.begin(), bounds.end()));
    for (const double edge : {.0005, .001, .002, .003, .004, .006, .008, .01, .1, 1.0, 80.0}) {
      EXPECT_NE(std::find(bounds.begin(), bounds.end(), edge), bounds.end()) << edge;
    }
  }
}

}  // namespace
}  // namespace eddy
