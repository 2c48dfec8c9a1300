// SPDX-License-Identifier: Apache-2.0
#include "client/samples.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <random>
#include <vector>

namespace eddy {
namespace {

// By the definition: the smallest sample that at least `percent` % of the samples do not exceed.
double NaivePercentile(const std::vector<double>& samples, size_t percent) {
  double best = std::numeric_limits<double>::infinity();
  for (const double candidate : samples) {
    const auto not_above = std::count_if(samples.begin(), samples.end(),
                                         [candidate](double x) { return x <= candidate; });
    if (static_cast<size_t>(not_above) * 100 >= percent * samples.size()) {
      best = std::min(best, candidate);
    }
  }
  return best;
}

TEST(SamplesTest, NoSamplesGiveZeros) {
  const SampleSummary summary = Samples().Summarize();
  EXPECT_EQ(summary.count, 0);
  EXPECT_EQ(summary.mean, 0);
  EXPECT_EQ(summary.p50, 0);
  EXPECT_EQ(summary.p99, 0);
  EXPECT_EQ(summary.max, 0);
}

TEST(SamplesTest, OneSampleIsEveryPercentile) {
  Samples samples;
  samples.Add(2.5);
  const SampleSummary summary = samples.Summarize();
  EXPECT_EQ(summary.count, 1);
  EXPECT_EQ(summary.mean, 2.5);
  EXPECT_EQ(summary.p50, 2.5);
  EXPECT_EQ(summary.p90, 2.5);
  EXPECT_EQ(summary.p99, 2.5);
  EXPECT_EQ(summary.max, 2.5);
}

TEST(SamplesTest, RanksOfTenAndAHundred) {
  Samples ten;
  for (int i = 10; i >= 1; --i) ten.Add(i);
  EXPECT_EQ(ten.Summarize().p50, 5);
  EXPECT_EQ(ten.Summarize().p90, 9);
  EXPECT_EQ(ten.Summarize().p99, 10);
  Samples hundred;
  for (int i = 1; i <= 100; ++i) hundred.Add(i);
  EXPECT_EQ(hundred.Summarize().p50, 50);
  EXPECT_EQ(hundred.Summarize().p90, 90);
  EXPECT_EQ(hundred.Summarize().p99, 99);
}

TEST(SamplesTest, PercentilesAreThoseOfTheDefinition) {
  std::mt19937 random(1);
  for (int size = 1; size <= 230; ++size) {
    Samples samples;
    std::vector<double> values;
    for (int i = 0; i < size; ++i) {
      // Few distinct values, so that there are ties; all exact as floats.
      values.push_back(static_cast<double>(random() % 64) / 4);
      samples.Add(values.back());
    }
    const SampleSummary summary = samples.Summarize();
    ASSERT_EQ(summary.count, size);
    ASSERT_EQ(summary.p50, NaivePercentile(values, 50)) << size;
    ASSERT_EQ(summary.p90, NaivePercentile(values, 90)) << size;
    ASSERT_EQ(summary.p99, NaivePercentile(values, 99)) << size;
    ASSERT_EQ(summary.max, *std::max_element(values.begin(), values.end()));
    double sum = 0;
    for (const double value : values) sum += value;
    ASSERT_NEAR(summary.mean, sum / size, 1e-12 * sum);
  }
}

TEST(SamplesTest, CountAddsTheSameValueOftenAndZeroTimes) {
  Samples samples;
  samples.Add(1.0, 3);
  samples.Add(9.0);
  samples.Add(100.0, 0);
  EXPECT_EQ(samples.count(), 4);
  EXPECT_EQ(samples.Summarize().mean, 3.0);
  EXPECT_EQ(samples.Summarize().p50, 1.0);
  EXPECT_EQ(samples.Summarize().max, 9.0);
}

TEST(SamplesTest, AppendIsAsIfAllHadBeenAddedToOne) {
  Samples left;
  Samples right;
  left.Add(1.0);
  right.Add(2.0);
  right.Add(3.0);
  left.Append(right);
  left.Append(Samples());
  EXPECT_EQ(left.count(), 3);
  EXPECT_EQ(left.Summarize().mean, 2.0);
  EXPECT_EQ(right.count(), 2);
}

}  // namespace
}  // namespace eddy
