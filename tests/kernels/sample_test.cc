// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/sample.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "tests/kernels/kernel_fixture.h"
#include "tests/kernels/sample_reference.h"

namespace eddy {
namespace {

class SampleTest : public ::testing::TestWithParam<std::string> {
 protected:
  SampleResult Sample(std::vector<float> logits, const SampleRow& row) {
    SampleResult result;
    const Shape shape = {1, static_cast<int64_t>(logits.size())};
    backend_->Sample(View(logits, shape), {&row, 1}, {&result, 1});
    EXPECT_TRUE(backend_->Synchronize().ok());
    return result;
  }
  int32_t Token(const std::vector<float>& logits, const SampleRow& row) {
    return Sample(logits, row).token;
  }
  // Every token that some position draws.
  std::vector<int32_t> TokensDrawn(const std::vector<float>& logits, SampleRow row) {
    std::vector<bool> drawn(logits.size());
    for (row.position = 0; row.position < 500; ++row.position) {
      drawn[static_cast<size_t>(Token(logits, row))] = true;
    }
    std::vector<int32_t> tokens;
    for (size_t i = 0; i < drawn.size(); ++i) {
      if (drawn[i]) tokens.push_back(static_cast<int32_t>(i));
    }
    return tokens;
  }

  std::unique_ptr<Backend> backend_ = BackendOf(GetParam());
};

SampleRow Greedy() {
  SampleRow row;
  row.temperature = 0.0f;
  return row;
}

// A row with every choice at random.
struct RandomRow {
  std::vector<TokenCount> seen;
  std::vector<LogitBias> biases;
  std::vector<int32_t> banned;
  SampleRow row;

  RandomRow(Numbers& numbers, int64_t vocabulary) {
    const auto pick = [&](int64_t one_in) { return numbers.Integer(0, one_in - 1) == 0; };
    for (int32_t token = 0; token < vocabulary; ++token) {
      if (pick(5)) seen.push_back({token, static_cast<int32_t>(numbers.Integer(1, 4))});
      if (pick(7)) biases.push_back({token, numbers.Uniform(1, -2.0f, 2.0f)[0]});
      if (pick(9)) banned.push_back(token);
    }
    row.temperature = pick(5) ? 0.0f : numbers.Uniform(1, 0.3f, 2.0f)[0];
    row.top_k = pick(2) ? static_cast<int32_t>(numbers.Integer(1, vocabulary + 2)) : 0;
    row.top_p = pick(2) ? numbers.Uniform(1, 0.0f, 1.0f)[0] : 1.0f;
    row.min_p = pick(3) ? numbers.Uniform(1, 0.0f, 0.3f)[0] : 0.0f;
    if (pick(2)) {
      row.repetition_penalty = numbers.Uniform(1, 0.8f, 1.5f)[0];
      row.presence_penalty = numbers.Uniform(1, -0.5f, 0.5f)[0];
      row.frequency_penalty = numbers.Uniform(1, -0.5f, 0.5f)[0];
    }
    row.seed = static_cast<uint64_t>(numbers.Integer(0, INT64_MAX));
    row.position = numbers.Integer(0, INT64_MAX);
    row.seen = seen;
    if (pick(2)) row.biases = biases;
    if (pick(2)) row.banned = banned;
  }
};

TEST_P(SampleTest, ChoosesWhatTheReferenceChooses) {
  Numbers numbers(21);
  int chosen_count = 0;
  for (const int64_t vocabulary : {1, 2, 15, 63, 64, 65, 130, 1000, 5003}) {
    for (int i = 0; i < 60; ++i) {
      const RandomRow random(numbers, vocabulary);
      const std::vector<float> logits = numbers.Normal(vocabulary, 3.0f);
      const int32_t token = Token(logits, random.row);
      EXPECT_EQ(token, reference::Choose(logits, random.row))
          << "vocabulary " << vocabulary << ", case " << i;
      chosen_count += token >= 0 ? 1 : 0;
    }
  }
  EXPECT_GT(chosen_count, 500);
}

TEST_P(SampleTest, FlatAndPeakedDistributionsOfARealVocabulary) {
  Numbers numbers(22);
  const int64_t vocabulary = 65536;
  for (const float deviation : {0.0f, 0.1f, 2.0f, 10.0f}) {
    const std::vector<float> logits = numbers.Normal(vocabulary, deviation);
    SampleRow row;
    row.seed = 5;
    for (const float top_p : {1.0f, 0.95f, 0.2f}) {
      for (const int32_t top_k : {0, 40, 3000}) {
        row.top_p = top_p;
        row.top_k = top_k;
        ++row.position;
        EXPECT_EQ(Token(logits, row), reference::Choose(logits, row))
            << "deviation " << deviation << ", top_p " << top_p << ", top_k " << top_k;
      }
    }
  }
}

TEST_P(SampleTest, GreedyTakesTheLargestAndOfEqualsTheFirst) {
  EXPECT_EQ(Token({1.0f, 3.0f, 2.0f}, Greedy()), 1);
  EXPECT_EQ(Token({1.0f, 3.0f, 3.0f, 3.0f}, Greedy()), 1);
  std::vector<float> logits(200, -5.0f);
  logits[70] = logits[150] = -1.0f;
  EXPECT_EQ(Token(logits, Greedy()), 70);
}

TEST_P(SampleTest, TopKKeepsTheLowerIdsOfEquals) {
  SampleRow row;
  row.top_k = 3;
  EXPECT_EQ(TokensDrawn({0, 1, 1, 0, 1, 1, 0}, row), (std::vector<int32_t>{1, 2, 4}));
  row.top_k = 5;
  EXPECT_EQ(TokensDrawn({0, 1, 1, 0, 1, 1, 0}, row), (std::vector<int32_t>{0, 1, 2, 4, 5}));
  row.top_k = 1;
  EXPECT_EQ(TokensDrawn(std::vector<float>(300, 0.5f), row), (std::vector<int32_t>{0}));
  row.top_k = 100;
  EXPECT_EQ(TokensDrawn({0, 1, 1}, row), (std::vector<int32_t>{0, 1, 2}));
}

TEST_P(SampleTest, TopPKeepsTheSmallestSetThatReachesIt) {
  // Probabilities 1/2, 1/4, 1/8, 1/8.
  const float log2 = std::log(2.0f);
  const std::vector<float> logits = {-2 * log2, -log2, -3 * log2, -3 * log2};
  SampleRow row;
  row.top_p = 0.4f;
  EXPECT_EQ(TokensDrawn(logits, row), (std::vector<int32_t>{1}));
  row.top_p = 0.6f;
  EXPECT_EQ(TokensDrawn(logits, row), (std::vector<int32_t>{0, 1}));
  row.top_p = 0.8f;  // a tie: the lower id comes first
  EXPECT_EQ(TokensDrawn(logits, row), (std::vector<int32_t>{0, 1, 2}));
  row.top_p = 0.0f;  // at least one
  EXPECT_EQ(TokensDrawn(logits, row), (std::vector<int32_t>{1}));
  row.top_p = 0.65f;  // a share of what top_k left: 1/2 of 3/4 is enough
  row.top_k = 2;
  EXPECT_EQ(TokensDrawn(logits, row), (std::vector<int32_t>{1}));
}

TEST_P(SampleTest, MinPIsAShareOfTheLargest) {
  const float log2 = std::log(2.0f);
  const std::vector<float> logits = {-2 * log2, -log2, -3 * log2, -9 * log2};
  SampleRow row;
  row.min_p = 0.4f;
  EXPECT_EQ(TokensDrawn(logits, row), (std::vector<int32_t>{0, 1}));
  row.min_p = 0.2f;
  EXPECT_EQ(TokensDrawn(logits, row), (std::vector<int32_t>{0, 1, 2}));
  row.min_p = 1.0f;
  EXPECT_EQ(TokensDrawn(logits, row), (std::vector<int32_t>{1}));
}

TEST_P(SampleTest, TemperatureBeforeTheCuts) {
  SampleRow row;
  row.temperature = 1e-30f;
  EXPECT_EQ(TokensDrawn({0.0f, 1.0f, 0.999f}, row), (std::vector<int32_t>{1}));
  row.temperature = 100.0f;
  row.top_p = 0.9f;
  EXPECT_EQ(TokensDrawn({0.0f, 5.0f}, row), (std::vector<int32_t>{0, 1}));
}

TEST_P(SampleTest, PenaltiesBiasesAndBans) {
  SampleRow row = Greedy();
  std::vector<TokenCount> seen = {{0, 3}};
  row.seen = seen;
  row.repetition_penalty = 2.0f;
  EXPECT_EQ(Token({3.0f, 2.0f}, row), 1);    // 1.5
  EXPECT_EQ(Token({5.0f, 2.0f}, row), 0);    // 2.5
  EXPECT_EQ(Token({-1.0f, -1.5f}, row), 1);  // -2
  row.repetition_penalty = 1.0f;
  row.presence_penalty = 0.5f;
  EXPECT_EQ(Token({2.25f, 2.0f}, row), 1);  // once, not three times
  EXPECT_EQ(Token({2.75f, 2.0f}, row), 0);
  row.presence_penalty = 0.0f;
  row.frequency_penalty = 0.5f;
  EXPECT_EQ(Token({3.25f, 2.0f}, row), 1);  // 1.75
  EXPECT_EQ(Token({3.75f, 2.0f}, row), 0);
  std::vector<LogitBias> biases = {{1, 4.0f}};
  row.biases = biases;
  EXPECT_EQ(Token({3.75f, 2.0f}, row), 1);
  std::vector<int32_t> banned = {1};
  row.banned = banned;
  EXPECT_EQ(Token({3.75f, 2.0f}, row), 0);
  row.temperature = 5.0f;
  EXPECT_EQ(TokensDrawn({0.0f, 2.0f, 1.0f}, row), (std::vector<int32_t>{0, 2}));
}

TEST_P(SampleTest, LogitsThatAreNotFiniteChooseNothing) {
  for (SampleRow row : {Greedy(), SampleRow()}) {
    row.wants_log_prob = true;
    row.alternative_count = 2;
    for (const size_t place : {0u, 15u, 16u, 63u, 64u, 69u}) {
      for (const float bad : {NAN, INFINITY}) {
        std::vector<float> logits(70, 1.0f);
        logits[place] = bad;
        const SampleResult result = Sample(logits, row);
        EXPECT_EQ(result.token, -1) << bad << " at " << place;
        EXPECT_EQ(result.alternative_count, 0);
        EXPECT_EQ(result.log_prob, 0.0f);
      }
    }
    EXPECT_EQ(Token(std::vector<float>(70, -INFINITY), row), -1);
    EXPECT_EQ(Token({-INFINITY, 2.0f, -INFINITY}, row), 1);
    std::vector<int32_t> banned = {0, 1};
    row.banned = banned;
    EXPECT_EQ(Token({1.0f, 2.0f}, row), -1);
    EXPECT_EQ(Token({1.0f, 2.0f, -INFINITY}, row), -1);
  }
}

TEST_P(SampleTest, LogProbsAreTheModelsOwn) {
  Numbers numbers(23);
  const std::vector<float> logits = numbers.Normal(777, 2.0f);
  const std::vector<double> want = reference::LogProbs(logits);
  const std::vector<int32_t> ranked = reference::Ranked(logits);
  SampleRow row;
  row.temperature = 0.5f;
  row.top_k = 3;
  row.wants_log_prob = true;
  row.alternative_count = SampleResult::kAlternativesMax;
  std::vector<LogitBias> biases = {{700, 50.0f}};
  std::vector<int32_t> banned = {ranked[0]};
  row.biases = biases;
  row.banned = banned;
  const SampleResult result = Sample(logits, row);
  EXPECT_EQ(result.token, 700);
  EXPECT_NEAR(result.log_prob, want[700], 2e-6);
  ASSERT_EQ(result.alternative_count, SampleResult::kAlternativesMax);
  for (int32_t i = 0; i < result.alternative_count; ++i) {
    const int32_t token = ranked[static_cast<size_t>(i)];
    EXPECT_EQ(result.alternative_token[i], token);
    EXPECT_NEAR(result.alternative_log_prob[i], want[static_cast<size_t>(token)], 2e-6);
  }
}

TEST_P(SampleTest, AlternativesAreAsManyAsThereAre) {
  SampleRow row = Greedy();
  row.alternative_count = 5;
  const SampleResult result = Sample({1.0f, 2.0f, -INFINITY, 2.0f}, row);
  ASSERT_EQ(result.alternative_count, 3);
  EXPECT_EQ(std::vector<int32_t>(result.alternative_token, result.alternative_token + 3),
            (std::vector<int32_t>{1, 3, 0}));
}

TEST_P(SampleTest, RowsTargetsAndThreadsDoNotMatter) {
  Numbers numbers(24);
  const int64_t vocabulary = 1000;
  const int64_t row_count = 33;
  std::vector<RandomRow> random;
  std::vector<SampleRow> rows;
  random.reserve(row_count);
  for (int64_t i = 0; i < row_count; ++i) {
    random.emplace_back(numbers, vocabulary);
    rows.push_back(random.back().row);
    rows.back().wants_log_prob = true;
    rows.back().alternative_count = 4;
  }
  const std::vector<float> logits = numbers.Normal(row_count * vocabulary, 3.0f);
  const auto scalar = BackendOf("v2");
  for (const int threads : {1, 2, 3}) {
    std::vector<SampleResult> together(row_count);
    std::vector<float> copy = logits;
    BackendOf(GetParam(), threads)->Sample(View(copy, {row_count, vocabulary}), rows, together);
    for (int64_t i = 0; i < row_count; ++i) {
      std::vector<float> own(logits.begin() + i * vocabulary,
                             logits.begin() + (i + 1) * vocabulary);
      SampleResult alone;
      const auto r = static_cast<size_t>(i);
      scalar->Sample(View(own, {1, vocabulary}), {&rows[r], 1}, {&alone, 1});
      EXPECT_EQ(together[r].token, alone.token);
      EXPECT_EQ(together[r].log_prob, alone.log_prob);
      for (int32_t n = 0; n < 4; ++n) {
        EXPECT_EQ(together[r].alternative_token[n], alone.alternative_token[n]);
        EXPECT_EQ(together[r].alternative_log_prob[n], alone.alternative_log_prob[n]);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cpu, SampleTest, ::testing::ValuesIn(MachineTargets()),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace eddy
