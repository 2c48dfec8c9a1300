// SPDX-License-Identifier: Apache-2.0
#include "client/arrivals.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace eddy {
namespace {

std::vector<double> Gaps(double rate_per_s, uint64_t seed, int count) {
  PoissonArrivals arrivals(rate_per_s, seed);
  std::vector<double> gaps;
  double before = 0;
  for (int i = 0; i < count; ++i) {
    const double at = arrivals.NextSeconds();
    gaps.push_back(at - before);
    before = at;
  }
  return gaps;
}

TEST(PoissonArrivalsTest, TimesNeverFall) {
  for (const double gap : Gaps(50, 1, 10'000)) {
    ASSERT_GE(gap, 0);
  }
}

// Exponential gaps have mean 1 / rate, as large a standard deviation, and a share of 1 / e of them
// is longer than the mean. With 100,000 gaps each figure is within 1 % (3 standard errors).
TEST(PoissonArrivalsTest, GapsAreExponentialWithTheRate) {
  for (const double rate : {0.5, 20.0, 4'000.0}) {
    const std::vector<double> gaps = Gaps(rate, 7, 100'000);
    double sum = 0;
    double square_sum = 0;
    int long_count = 0;
    for (const double gap : gaps) {
      sum += gap;
      square_sum += gap * gap;
      long_count += gap > 1 / rate;
    }
    const double count = static_cast<double>(gaps.size());
    const double mean = sum / count;
    EXPECT_NEAR(mean * rate, 1, 0.01);
    EXPECT_NEAR(std::sqrt(square_sum / count - mean * mean) * rate, 1, 0.02);
    EXPECT_NEAR(long_count / count, std::exp(-1), 0.01);
  }
}

TEST(PoissonArrivalsTest, SeedDecidesTheTimes) {
  EXPECT_EQ(Gaps(10, 3, 100), Gaps(10, 3, 100));
  EXPECT_NE(Gaps(10, 3, 100), Gaps(10, 4, 100));
}

// The standard fixes mt19937_64: its first number for the default seed is 14514284786278117030.
TEST(PoissonArrivalsTest, FirstTimeIsTheSameOnEveryMachine) {
  const double u = static_cast<double>(14514284786278117030u >> 11) * 0x1p-53;
  EXPECT_NEAR(PoissonArrivals(2, 5489).NextSeconds(), -std::log(1 - u) / 2, 1e-12);
}

}  // namespace
}  // namespace eddy
