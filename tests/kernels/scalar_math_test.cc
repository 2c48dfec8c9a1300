// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/scalar_math.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace eddy::cpu {
namespace {

constexpr double kTwoUnits = 4.5e-16;

TEST(ScalarMathTest, LogEqualsLibms) {
  std::mt19937_64 random(1);
  std::uniform_real_distribution<double> exponent(-700.0, 700.0);
  for (int i = 0; i < 20000; ++i) {
    const double x = std::exp(exponent(random));
    EXPECT_NEAR(Log(x), std::log(x), kTwoUnits * std::abs(std::log(x))) << x;
    const double close = 1.0 + exponent(random) / 7e3;
    EXPECT_NEAR(Log(close), std::log(close), kTwoUnits) << close;
  }
  EXPECT_EQ(Log(1.0), 0.0);
}

TEST(ScalarMathTest, ExpEqualsLibms) {
  std::mt19937_64 random(2);
  std::uniform_real_distribution<double> wide(-700.0, 700.0), narrow(-1.0, 1.0);
  for (int i = 0; i < 20000; ++i) {
    for (const double x : {wide(random), narrow(random), 1e-9 * narrow(random)}) {
      EXPECT_NEAR(Exp(x) / std::exp(x), 1.0, kTwoUnits) << x;
    }
  }
  EXPECT_EQ(Exp(0.0), 1.0);
}

TEST(ScalarMathTest, ExpEndsSomewhere) {
  EXPECT_EQ(Exp(-701.0), 0.0);
  EXPECT_EQ(Exp(-HUGE_VAL), 0.0);
  EXPECT_EQ(Exp(701.0), Exp(700.0));
  EXPECT_TRUE(std::isfinite(Exp(HUGE_VAL)));
}

}  // namespace
}  // namespace eddy::cpu
