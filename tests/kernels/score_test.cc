// SPDX-License-Identifier: Apache-2.0
// Backend::Score against its plain double-precision twin, and against Sample.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "tests/kernels/kernel_fixture.h"
#include "tests/kernels/sample_reference.h"

namespace eddy {
namespace {

// What one row says; the alternatives are as many as were written.
struct Said {
  bool is_finite = false;
  float log_prob = 0.0f;
  std::vector<LogitBias> alternatives;
};

Said Score(Backend& backend, std::vector<float> logits, int32_t token, int32_t alternative_count) {
  Said said;
  said.alternatives.resize(static_cast<size_t>(alternative_count), {-7, -7.0f});
  const ScoreRow row = {.token = token, .alternatives = said.alternatives};
  ScoreResult result;
  const std::vector<float> before = logits;
  backend.Score(View(logits, {1, static_cast<int64_t>(logits.size())}), {&row, 1}, {&result, 1});
  EXPECT_TRUE(backend.Synchronize().ok());
  EXPECT_TRUE(SameBits(logits, before)) << "the logits were to be left as they are";
  said.is_finite = result.is_finite;
  said.log_prob = result.log_prob;
  EXPECT_LE(result.alternative_count, alternative_count);
  for (auto i = static_cast<size_t>(result.alternative_count); i < said.alternatives.size(); ++i) {
    EXPECT_EQ(said.alternatives[i].token, -7) << "written past what was found";
  }
  said.alternatives.resize(static_cast<size_t>(result.alternative_count));
  return said;
}

class ScoreTest : public ::testing::TestWithParam<std::string> {
 protected:
  Said Score(const std::vector<float>& logits, int32_t token, int32_t alternative_count = 0) {
    return eddy::Score(*backend_, logits, token, alternative_count);
  }
  // Against the reference.
  void Check(const std::vector<float>& logits, int32_t token, int32_t alternative_count) {
    const std::vector<double> want = reference::LogProbs(logits);
    const std::vector<int32_t> ranked = reference::Ranked(logits);
    const auto near = [&](float log_prob, int32_t t) {
      const double wanted = want[static_cast<size_t>(t)];
      EXPECT_NEAR(log_prob, wanted, 1e-6 * (1.0 + std::abs(wanted))) << "token " << t;
    };
    const Said said = Score(logits, token, alternative_count);
    ASSERT_TRUE(said.is_finite);
    near(said.log_prob, token);
    ASSERT_EQ(said.alternatives.size(),
              std::min(ranked.size(), static_cast<size_t>(alternative_count)));
    for (size_t i = 0; i < said.alternatives.size(); ++i) {
      ASSERT_EQ(said.alternatives[i].token, ranked[i]) << "place " << i;
      near(said.alternatives[i].bias, ranked[i]);
    }
  }

  std::unique_ptr<Backend> backend_ = BackendOf(GetParam());
};

TEST_P(ScoreTest, SaysWhatTheReferenceSays) {
  Numbers numbers(31);
  for (const int64_t vocabulary : {1, 2, 15, 63, 64, 65, 130, 1000, 5003}) {
    for (const int32_t count : {0, 1, 7, 64, 65, ScoreRow::kAlternativesMax}) {
      for (const float deviation : {0.0f, 1.0f, 20.0f}) {
        const auto token = static_cast<int32_t>(numbers.Integer(0, vocabulary - 1));
        Check(numbers.Normal(vocabulary, deviation), token, count);
        if (HasFatalFailure()) FAIL() << vocabulary << ", " << count << ", " << deviation;
      }
    }
  }
}

TEST_P(ScoreTest, ARealVocabulary) {
  Numbers numbers(32);
  for (const float deviation : {0.1f, 3.0f}) {
    Check(numbers.Normal(65536, deviation), 40000, ScoreRow::kAlternativesMax);
  }
}

TEST_P(ScoreTest, OfEqualsTheLowerIdComesFirst) {
  // Rounded to a few values: hardly any place without a tie, also at the last one taken.
  Numbers numbers(33);
  std::vector<float> logits = numbers.Normal(700, 1.0f);
  for (float& logit : logits) logit = std::round(logit);
  for (const int32_t count : {1, 2, 20, 255, 256}) Check(logits, 3, count);
  Check(std::vector<float>(300, 0.5f), 299, ScoreRow::kAlternativesMax);
}

TEST_P(ScoreTest, AVocabularyOfOneTokenIsCertain) {
  const Said said = Score({-3.25f}, 0, 5);
  EXPECT_EQ(said.log_prob, 0.0f);
  ASSERT_EQ(said.alternatives.size(), 1u);
  EXPECT_EQ(said.alternatives[0].token, 0);
  EXPECT_EQ(said.alternatives[0].bias, 0.0f);
}

TEST_P(ScoreTest, LogitsThatAreNotFiniteAreToldSo) {
  for (const size_t place : {0u, 15u, 16u, 63u, 64u, 69u}) {
    for (const float bad : {NAN, INFINITY}) {
      std::vector<float> logits(70, 1.0f);
      logits[place] = bad;
      const Said said = Score(logits, 20, 3);
      EXPECT_FALSE(said.is_finite) << bad << " at " << place;
      EXPECT_TRUE(said.alternatives.empty());
    }
  }
  EXPECT_FALSE(Score(std::vector<float>(70, -INFINITY), 0, 3).is_finite);
}

TEST_P(ScoreTest, AnImpossibleTokenIsAnAnswer) {
  const Said said = Score({1.0f, -INFINITY, 2.0f, -INFINITY}, 3, 4);
  ASSERT_TRUE(said.is_finite);
  EXPECT_EQ(said.log_prob, -INFINITY);
  ASSERT_EQ(said.alternatives.size(), 2u);
  EXPECT_EQ(said.alternatives[0].token, 2);
  EXPECT_EQ(said.alternatives[1].token, 0);
}

TEST_P(ScoreTest, TheBitsAreThoseOfSample) {
  Numbers numbers(34);
  for (const int64_t vocabulary : {1, 65, 1000}) {
    std::vector<float> logits = numbers.Normal(vocabulary, 4.0f);
    SampleRow row;
    row.position = vocabulary;
    row.wants_log_prob = true;
    row.alternative_count = SampleResult::kAlternativesMax;
    SampleResult sampled;
    std::vector<float> copy = logits;
    backend_->Sample(View(copy, {1, vocabulary}), {&row, 1}, {&sampled, 1});
    const Said said = Score(logits, sampled.token, SampleResult::kAlternativesMax);
    EXPECT_EQ(said.log_prob, sampled.log_prob);
    ASSERT_EQ(static_cast<int32_t>(said.alternatives.size()), sampled.alternative_count);
    for (size_t i = 0; i < said.alternatives.size(); ++i) {
      EXPECT_EQ(said.alternatives[i].token, sampled.alternative_token[i]);
      EXPECT_EQ(said.alternatives[i].bias, sampled.alternative_log_prob[i]);
    }
  }
}

TEST_P(ScoreTest, RowsTargetsAndThreadsDoNotMatter) {
  Numbers numbers(35);
  const int64_t vocabulary = 1000;
  const int64_t row_count = 65;
  std::vector<float> logits = numbers.Normal(row_count * vocabulary, 3.0f);
  logits[static_cast<size_t>(17 * vocabulary + 5)] = NAN;
  std::vector<LogitBias> room(row_count * 9);
  std::vector<ScoreRow> rows;
  for (size_t i = 0; i < row_count; ++i) {
    rows.push_back({.token = static_cast<int32_t>(i * 7),
                    .alternatives = std::span(room).subspan(i * 9, i % 10)});
  }
  const auto scalar = BackendOf("v2");
  for (const int threads : {1, 2, 3}) {
    std::vector<ScoreResult> together(row_count);
    BackendOf(GetParam(), threads)->Score(View(logits, {row_count, vocabulary}), rows, together);
    for (size_t i = 0; i < row_count; ++i) {
      const auto begin = logits.begin() + static_cast<int64_t>(i) * vocabulary;
      const Said alone = eddy::Score(*scalar, std::vector<float>(begin, begin + vocabulary),
                                     rows[i].token, static_cast<int32_t>(i % 10));
      EXPECT_EQ(together[i].is_finite, i != 17);
      EXPECT_EQ(together[i].is_finite, alone.is_finite);
      EXPECT_EQ(together[i].log_prob, alone.log_prob);
      ASSERT_EQ(static_cast<size_t>(together[i].alternative_count), alone.alternatives.size());
      for (size_t n = 0; n < alone.alternatives.size(); ++n) {
        EXPECT_EQ(rows[i].alternatives[n].token, alone.alternatives[n].token);
        EXPECT_EQ(rows[i].alternatives[n].bias, alone.alternatives[n].bias);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cpu, ScoreTest, ::testing::ValuesIn(MachineTargets()),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace eddy
