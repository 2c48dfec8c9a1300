// SPDX-License-Identifier: Apache-2.0
// What a turn that scores must give, told by FakeModel alone.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>
#include <vector>

#include "tests/support/engine_fixture.h"

namespace eddy {

inline TurnRequest MakeScoreRequest(std::vector<int32_t> prompt, int32_t alternative_count = 0) {
  TurnRequest request;
  request.prompt = std::move(prompt);
  request.alternative_count = alternative_count;
  request.scores = true;
  return request;
}

// The log-probability of each token after `before`, with the bits of FakeBackend.
inline std::vector<float> FakeLogProbs(std::span<const int32_t> before, int32_t vocabulary_size) {
  std::vector<float> logits = FakeModel::Logits(before, vocabulary_size);
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit));
  for (float& logit : logits) logit = static_cast<float>(double{logit} - std::log(sum));
  return logits;
}

// The prompt with all its log-probabilities, or the beginning of that if something cut it short.
// Reading nan_token makes the logits NaN: the last to come then is that token.
inline void ExpectScores(const TurnRequest& request, const StreamResult& result,
                         int32_t vocabulary_size = 64, int32_t nan_token = -1) {
  const std::vector<int32_t>& prompt = request.prompt;
  EXPECT_EQ(result.status.ok(), result.finish_reason != FinishReason::kNone);
  EXPECT_EQ(result.status.ok(), result.usage.has_value());
  ASSERT_LE(result.tokens.size(), prompt.size());
  EXPECT_EQ(result.finish_reason == FinishReason::kScored, result.tokens.size() == prompt.size());
  EXPECT_TRUE(std::equal(result.tokens.begin(), result.tokens.end(), prompt.begin()));
  EXPECT_EQ(result.text, "");
  const size_t log_prob_count = result.tokens.empty() ? 0 : result.tokens.size() - 1;
  ASSERT_EQ(result.log_probs.size(), log_prob_count);
  for (size_t i = 0; i < log_prob_count; ++i) {
    EXPECT_EQ(result.positions[i + 1], static_cast<int64_t>(i + 1));
    const TokenLogProb& told = result.log_probs[i];
    EXPECT_EQ(told.token, prompt[i + 1]);
    EXPECT_NE(prompt[i], nan_token);
    const std::vector<float> log_probs =
        FakeLogProbs(std::span(prompt).first(i + 1), vocabulary_size);
    EXPECT_EQ(told.log_prob, log_probs[static_cast<size_t>(told.token)]) << "token " << i + 1;
    ASSERT_EQ(std::ssize(told.alternatives), std::min(request.alternative_count, vocabulary_size));
    float last = 0.0f;
    for (const LogitBias& alternative : told.alternatives) {
      EXPECT_EQ(alternative.bias, log_probs[static_cast<size_t>(alternative.token)]);
      EXPECT_LE(alternative.bias, last);
      last = alternative.bias;
    }
  }
  if (nan_token >= 0 && result.status.code() == absl::StatusCode::kInternal) {
    EXPECT_EQ(result.tokens.back(), nan_token) << result.status;
  }
}

}  // namespace eddy
