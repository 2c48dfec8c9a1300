// SPDX-License-Identifier: Apache-2.0
// The drawn tokens against the exact probabilities, by Pearson's chi-square with a fixed seed.
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "tests/kernels/kernel_fixture.h"
#include "tests/kernels/sample_reference.h"

namespace eddy {
namespace {

constexpr int kDrawCount = 20000;

struct Cuts {
  const char* name;
  float temperature;
  int32_t top_k;
  float top_p;
  float min_p;
};
constexpr Cuts kCuts[] = {
    {"plain", 1.0f, 0, 1.0f, 0.0f}, {"cold", 0.6f, 0, 1.0f, 0.0f},  {"hot", 2.5f, 0, 1.0f, 0.0f},
    {"top_k", 1.0f, 5, 1.0f, 0.0f}, {"top_p", 1.0f, 0, 0.7f, 0.0f}, {"min_p", 1.0f, 0, 1.0f, 0.15f},
    {"all", 0.9f, 9, 0.95f, 0.05f},
};

class SampleDistributionTest : public ::testing::TestWithParam<Cuts> {};

// Every draw has another position, or another seed: both must behave like fresh numbers.
std::map<int32_t, int> Draw(const std::vector<float>& logits, const Cuts& cuts, bool by_position) {
  const auto backend = BackendOf("auto", 2);
  const auto vocabulary = static_cast<int64_t>(logits.size());
  std::vector<SampleRow> rows(kDrawCount);
  std::vector<float> all;
  for (int i = 0; i < kDrawCount; ++i) {
    SampleRow& row = rows[static_cast<size_t>(i)];
    row.temperature = cuts.temperature;
    row.top_k = cuts.top_k;
    row.top_p = cuts.top_p;
    row.min_p = cuts.min_p;
    row.seed = by_position ? 1234567 : static_cast<uint64_t>(i);
    row.position = by_position ? i : 99;
    all.insert(all.end(), logits.begin(), logits.end());
  }
  std::vector<SampleResult> results(kDrawCount);
  backend->Sample(View(all, {kDrawCount, vocabulary}), rows, results);
  std::map<int32_t, int> counts;
  for (const SampleResult& result : results) ++counts[result.token];
  return counts;
}

TEST_P(SampleDistributionTest, MatchesTheExactProbabilities) {
  // 99.9 % quantiles of chi-square by degrees of freedom.
  constexpr double kQuantiles[] = {0,     10.83, 13.82, 16.27, 18.47, 20.52,
                                   22.46, 24.32, 26.12, 27.88, 29.59, 31.26};
  Numbers numbers(31);
  const std::vector<float> logits = numbers.Normal(12, 1.0f);
  SampleRow row;
  row.temperature = GetParam().temperature;
  row.top_k = GetParam().top_k;
  row.top_p = GetParam().top_p;
  row.min_p = GetParam().min_p;
  const std::vector<reference::Kept> kept = reference::KeptTokens(logits, row);
  ASSERT_GE(kept.size(), 2u);
  for (const bool by_position : {true, false}) {
    const std::map<int32_t, int> counts = Draw(logits, GetParam(), by_position);
    EXPECT_LE(counts.size(), kept.size());
    double chi_square = 0.0;
    int counted = 0;
    for (const reference::Kept& k : kept) {
      const auto found = counts.find(k.token);
      const int count = found == counts.end() ? 0 : found->second;
      const double expected = k.probability * kDrawCount;
      chi_square += (count - expected) * (count - expected) / expected;
      counted += count;
    }
    EXPECT_EQ(counted, kDrawCount) << "a token was drawn that should have been cut";
    EXPECT_LT(chi_square, kQuantiles[kept.size() - 1]) << kept.size() << " tokens kept";
    EXPECT_GT(chi_square, 0.0);
  }
}

INSTANTIATE_TEST_SUITE_P(Cpu, SampleDistributionTest, ::testing::ValuesIn(kCuts),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace eddy
