// SPDX-License-Identifier: Apache-2.0
#include "engine/problems.h"

#include <gtest/gtest.h>

#include <string>

namespace eddy {
namespace {

TEST(ProblemsTest, TellsAllInOneError) {
  Problems problems;
  EXPECT_TRUE(problems.empty());
  problems.Add("a is missing");
  EXPECT_FALSE(problems.empty());
  EXPECT_EQ(problems.Told("m does not fit"),
            absl::InvalidArgumentError("m does not fit (1 problem): a is missing"));
  problems.Add("b is [2]");
  EXPECT_EQ(problems.Told("m does not fit"),
            absl::InvalidArgumentError("m does not fit (2 problems): a is missing; b is [2]"));
}

TEST(ProblemsTest, CutsALongList) {
  Problems problems;
  std::string all;
  for (size_t i = 0; i < Problems::kShownMax; ++i) {
    problems.Add(std::to_string(i));
    all += (i == 0 ? "" : "; ") + std::to_string(i);
  }
  const std::string count = std::to_string(Problems::kShownMax);
  EXPECT_EQ(problems.Told("m").message(), "m (" + count + " problems): " + all);
  for (size_t i = 0; i < 30; ++i) problems.Add("hidden");
  const std::string more = std::to_string(Problems::kShownMax + 30);
  EXPECT_EQ(problems.Told("m").message(), "m (" + more + " problems): " + all + "; and 30 more");
}

}  // namespace
}  // namespace eddy
