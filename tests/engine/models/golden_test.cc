// SPDX-License-Identifier: Apache-2.0
// Every golden of tests/golden/ against the logits that an independent implementation recorded:
// the families have no other test of their numbers. exactness_test.cc compares bits.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <tuple>

#include "tests/support/model_stepper.h"

namespace eddy {
namespace {

class GoldenTest : public testing::TestWithParam<std::tuple<std::string, std::string>> {};

TEST_P(GoldenTest, LogitsEqualTheReference) {
  const auto [name, target] = GetParam();
  const Expected expected = ReadExpected(name);
  ASSERT_FALSE(expected.tokens.empty());
  const float range = Range(expected.logits);
  Stepper f32(GoldenFolder(name), target, DType::kF32, 1);
  const Floats logits = f32.Read(0, expected.tokens, expected.tokens.size());
  // Sums in f32 against sums in f64: some 1e-6 of the range measured.
  EXPECT_LE(MaxDifference(logits, expected.logits), 1e-5f * range);
  Stepper bf16(GoldenFolder(name), target, DType::kBF16, 1);
  const Floats rounded = bf16.Read(0, expected.tokens, expected.tokens.size());
  EXPECT_LE(MaxDifference(rounded, expected.logits), 2e-2f * range);
}

// The most probable token after every prefix, where no other comes near.
TEST_P(GoldenTest, GreedyChoicesAreTheReferences) {
  const auto [name, target] = GetParam();
  const Expected expected = ReadExpected(name);
  Stepper stepper(GoldenFolder(name), target, DType::kF32, 1);
  const Floats logits = stepper.Read(0, expected.tokens, 7);
  const auto vocabulary = static_cast<std::ptrdiff_t>(stepper.output_size());
  const float margin = 1e-4f * Range(expected.logits);
  int compared = 0;
  for (size_t t = 0; t < expected.tokens.size(); ++t) {
    const auto want = expected.logits.begin() + static_cast<std::ptrdiff_t>(t) * vocabulary;
    Floats sorted(want, want + vocabulary);
    std::nth_element(sorted.begin(), sorted.begin() + 1, sorted.end(), std::greater<>());
    const auto best = std::max_element(want, want + vocabulary);
    if (*best - sorted[1] < margin) continue;
    const auto got = logits.begin() + static_cast<std::ptrdiff_t>(t) * vocabulary;
    EXPECT_EQ(std::max_element(got, got + vocabulary) - got, best - want) << t;
    ++compared;
  }
  EXPECT_GT(compared, 0);
}

INSTANTIATE_TEST_SUITE_P(All, GoldenTest,
                         testing::Combine(testing::ValuesIn(GoldenNames()),
                                          testing::ValuesIn(Targets())),
                         [](const auto& test) {
                           return Underscored(std::get<0>(test.param)) + "_" +
                                  std::get<1>(test.param);
                         });

}  // namespace
}  // namespace eddy
