// SPDX-License-Identifier: Apache-2.0
#include "server/score_merger.h"

#include <gtest/gtest.h>

#include <vector>

#include "tests/support/fake_model.h"

namespace eddy {
namespace {

TokenChunk Scored(int64_t position, int32_t token, float log_prob) {
  TokenChunk chunk;
  chunk.position = position;
  chunk.token = token;
  chunk.has_token = true;
  chunk.log_prob =
      TokenLogProb{.token = token, .log_prob = log_prob, .alternatives = {{3, -0.25f}, {4, -4.0f}}};
  return chunk;
}

TokenChunk First(int32_t token) {
  TokenChunk chunk;
  chunk.token = token;
  chunk.has_token = true;
  return chunk;
}

TEST(ScoreMergerTest, ManyChunksMakeOneMessage) {
  ScoreMerger merger(nullptr);
  v1::ScoreResponse message;
  merger.Merge({First(9), Scored(1, 5, -0.5f)}, &message);
  EXPECT_EQ(message.position(), 0u);
  ASSERT_EQ(message.tokens_size(), 2);
  EXPECT_EQ(message.tokens(0).token().token_id(), 9u);
  EXPECT_FALSE(message.tokens(0).token().has_log_prob());
  EXPECT_EQ(message.tokens(0).top_size(), 0);
  EXPECT_EQ(message.tokens(1).token().token_id(), 5u);
  EXPECT_TRUE(message.tokens(1).token().has_log_prob());
  EXPECT_EQ(message.tokens(1).token().log_prob(), -0.5f);
  ASSERT_EQ(message.tokens(1).top_size(), 2);
  EXPECT_EQ(message.tokens(1).top(1).token_id(), 4u);
  EXPECT_EQ(message.tokens(1).top(1).log_prob(), -4.0f);
  EXPECT_FALSE(message.tokens(1).token().has_bytes());
  EXPECT_FALSE(message.has_finish_reason());
  EXPECT_FALSE(message.has_usage());

  TokenChunk last = Scored(2, 6, -1.0f);
  last.finish_reason = FinishReason::kScored;
  last.usage = Usage{.prompt_tokens = 3, .queue_ms = 0.5, .prefill_ms = 2.0};
  merger.Merge({last}, &message);
  EXPECT_EQ(message.position(), 2u);
  EXPECT_EQ(message.tokens_size(), 1);
  EXPECT_EQ(message.finish_reason(), v1::FINISH_REASON_SCORED);
  EXPECT_EQ(message.usage().prompt_tokens(), 3u);
  EXPECT_EQ(message.usage().prefill_ms(), 2.0);
}

TEST(ScoreMergerTest, AnEndWithoutTokenSaysWhereItStopped) {
  ScoreMerger merger(nullptr);
  v1::ScoreResponse message;
  merger.Merge({First(9), Scored(1, 5, -0.5f)}, &message);
  TokenChunk end;
  end.finish_reason = FinishReason::kDeadline;
  end.usage = Usage();
  merger.Merge({end}, &message);
  EXPECT_EQ(message.position(), 2u);
  EXPECT_EQ(message.tokens_size(), 0);
  EXPECT_EQ(message.finish_reason(), v1::FINISH_REASON_DEADLINE);
}

TEST(ScoreMergerTest, BytesAreThoseOfTheTokenizerWholeCharactersOrNot) {
  FakeTokenizer tokenizer;
  tokenizer.SetBytes(5, "\xc3");
  ScoreMerger merger(&tokenizer);
  v1::ScoreResponse message;
  merger.Merge({First(1), Scored(1, 5, -0.5f)}, &message);
  EXPECT_EQ(message.tokens(0).token().bytes(), "b");
  EXPECT_EQ(message.tokens(1).token().bytes(), "\xc3");
  EXPECT_EQ(message.tokens(1).top(0).bytes(), "d");
}

}  // namespace
}  // namespace eddy
