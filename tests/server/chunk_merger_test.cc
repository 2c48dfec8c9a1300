// SPDX-License-Identifier: Apache-2.0
#include "server/chunk_merger.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace eddy {
namespace {

using testing::ElementsAre;

TokenChunk Token(int64_t position, int32_t token, std::string text) {
  TokenChunk chunk;
  chunk.position = position;
  chunk.token = token;
  chunk.has_token = true;
  chunk.text = std::move(text);
  return chunk;
}

TokenChunk Last(int64_t position, FinishReason reason, std::string text = "") {
  TokenChunk chunk;
  chunk.position = position;
  chunk.text = std::move(text);
  chunk.finish_reason = reason;
  chunk.usage =
      Usage{.prompt_tokens = 5, .reused_tokens = 1, .generated_tokens = 2, .queue_ms = 0.5};
  return chunk;
}

TEST(ChunkMergerTest, ManyChunksMakeOneMessage) {
  ChunkMerger merger(42);
  v1::GenerateResponse message;
  TokenChunk scored = Token(6, 11, "b");
  scored.log_prob =
      TokenLogProb{.token = 11, .log_prob = -0.5f, .alternatives = {{11, -0.5f}, {3, -2.0f}}};
  merger.Merge({Token(5, 10, "a"), scored}, &message);
  EXPECT_EQ(message.position(), 5u);
  EXPECT_THAT(message.token_ids(), ElementsAre(10, 11));
  EXPECT_EQ(message.text(), "ab");
  ASSERT_EQ(message.log_probs_size(), 1);
  EXPECT_EQ(message.log_probs(0).token().token_id(), 11u);
  ASSERT_EQ(message.log_probs(0).top_size(), 2);
  EXPECT_EQ(message.log_probs(0).top(1).token_id(), 3u);
  EXPECT_EQ(message.log_probs(0).top(1).log_prob(), -2.0f);
  EXPECT_EQ(message.seed(), 42u);
  EXPECT_FALSE(message.has_finish_reason());

  merger.Merge({Token(7, 12, "c"), Last(8, FinishReason::kLength, "!")}, &message);
  EXPECT_EQ(message.position(), 7u);
  EXPECT_THAT(message.token_ids(), ElementsAre(12));
  EXPECT_EQ(message.text(), "c!");
  EXPECT_FALSE(message.has_seed());
  EXPECT_EQ(message.finish_reason(), v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(message.usage().prompt_tokens(), 5u);
  EXPECT_EQ(message.usage().reused_tokens(), 1u);
  EXPECT_EQ(message.usage().generated_tokens(), 2u);
  EXPECT_EQ(message.usage().queue_ms(), 0.5);
}

TEST(ChunkMergerTest, AMessageWithoutTokensHasTheNextPosition) {
  ChunkMerger merger(1);
  v1::GenerateResponse message;
  merger.Merge({Token(5, 10, "a")}, &message);
  merger.Merge({Last(0, FinishReason::kStopSequence)}, &message);
  EXPECT_EQ(message.position(), 6u);
  EXPECT_EQ(message.token_ids_size(), 0);
}

TEST(ChunkMergerTest, ATurnWithoutTokensTellsItsSeedAndPositionInItsOnlyMessage) {
  ChunkMerger merger(9);
  v1::GenerateResponse message;
  merger.Merge({Last(17, FinishReason::kDeadline)}, &message);
  EXPECT_EQ(message.position(), 17u);
  EXPECT_EQ(message.seed(), 9u);
  EXPECT_EQ(message.finish_reason(), v1::FINISH_REASON_DEADLINE);
}

}  // namespace
}  // namespace eddy
