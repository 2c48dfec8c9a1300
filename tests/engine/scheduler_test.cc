// SPDX-License-Identifier: Apache-2.0
#include "engine/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

#include "engine/batch.h"

namespace eddy {
namespace {

using ::testing::ElementsAre;

MovableTurn Decode(int32_t slot, uint64_t last_move = 0) {
  return {.slot = slot,
          .position = 10,
          .pending_token = 100 + slot,
          .prompt = {},
          .last_move = last_move};
}

class SchedulerTest : public ::testing::Test {
 protected:
  SchedulerTest() : prompt_(5000) { std::iota(prompt_.begin(), prompt_.end(), 0); }

  MovableTurn Prefill(int32_t slot, size_t count, int32_t pending = -1, uint64_t last_move = 0) {
    return {.slot = slot,
            .position = 0,
            .pending_token = pending,
            .prompt = std::span<const int32_t>(prompt_).first(count),
            .last_move = last_move};
  }
  MovableTurn Score(int32_t slot, size_t count, int32_t count_max = 1000) {
    MovableTurn turn = Prefill(slot, count);
    turn.score_count_max = count_max;
    return turn;
  }
  Batch Next(const std::vector<MovableTurn>& turns, int32_t rows, int32_t tokens, int32_t chunk,
             int32_t beside_decode = 64, int32_t scores = 64) {
    Scheduler scheduler({.slot_count = 64,
                         .row_count_max = rows,
                         .token_count_max = tokens,
                         .prefill_chunk_token_count = chunk,
                         .prefill_beside_decode_token_count = beside_decode,
                         .score_count_max = scores});
    Batch batch(rows, tokens);
    scheduler.Next(turns, &batch);
    return batch;
  }
  static std::vector<int32_t> TurnIndices(const Batch& batch) {
    std::vector<int32_t> indices;
    for (int32_t row = 0; row < batch.row_count(); ++row) indices.push_back(batch.turn_index(row));
    return indices;
  }

  std::vector<int32_t> prompt_;
};

TEST_F(SchedulerTest, NobodyWaitsNobodyMoves) { EXPECT_EQ(Next({}, 4, 16, 8).row_count(), 0); }

TEST_F(SchedulerTest, DecodeRowsComeFirstThenPrefillChunksInTheBudget) {
  const Batch batch = Next({Prefill(0, 20), Decode(1), Prefill(2, 20), Decode(3)}, 8, 16, 10);
  EXPECT_THAT(TurnIndices(batch), ElementsAre(1, 3, 0, 2));
  EXPECT_EQ(batch.row_token_count(0), 1);
  EXPECT_EQ(batch.row_token_count(2), 10);  // the chunk
  EXPECT_EQ(batch.row_token_count(3), 4);   // what is left of 16
  EXPECT_EQ(batch.token_count(), 16);
  EXPECT_EQ(batch.logits_count(), 2);  // the decode rows; no prompt is finished
  const Rows rows = batch.rows();
  EXPECT_EQ(rows.tokens[0], 101);
  EXPECT_EQ(rows.tokens[1], 103);
  EXPECT_EQ(rows.position[0], 10);
  EXPECT_EQ(rows.slot[2], 0);
}

TEST_F(SchedulerTest, TheRowWithTheLastPromptTokenWantsLogits) {
  const Batch batch = Next({Prefill(0, 5), Prefill(1, 9)}, 8, 64, 8);
  ASSERT_EQ(batch.logits_count(), 1);
  EXPECT_EQ(batch.logits_row(0), 0);
  EXPECT_EQ(batch.rows().logits_token[0], 4);
}

TEST_F(SchedulerTest, APendingTokenIsReadBeforeThePrompt) {
  const Batch batch = Next({Prefill(0, 5, 77)}, 8, 64, 4);
  ASSERT_EQ(batch.token_count(), 4);
  EXPECT_EQ(batch.rows().tokens[0], 77);
  EXPECT_EQ(batch.rows().tokens[1], 0);
  EXPECT_EQ(batch.rows().tokens[3], 2);
}

TEST_F(SchedulerTest, PrefillStaysSmallBesideDecode) {
  std::vector<MovableTurn> turns = {Prefill(0, 300), Decode(1)};
  EXPECT_EQ(Next(turns, 64, 512, 256, 8).token_count(), 1 + 8);
  for (int32_t slot = 2; slot < 32; ++slot) turns.push_back(Decode(slot));
  EXPECT_EQ(Next(turns, 64, 512, 256, 8).token_count(), 31 + 31);
  EXPECT_EQ(Next({Prefill(0, 300)}, 64, 512, 256, 8).token_count(), 256);
}

TEST_F(SchedulerTest, AShortPromptDoesNotWaitBehindLongOnes) {
  const Batch batch = Next({Prefill(0, 4000), Prefill(1, 3000), Prefill(2, 40)}, 8, 64, 64);
  EXPECT_THAT(TurnIndices(batch), ElementsAre(2, 1, 0));
  EXPECT_EQ(batch.row_token_count(0), 40);
  EXPECT_EQ(batch.row_token_count(1), 8);
  EXPECT_EQ(batch.row_token_count(2), 16);  // a quarter is the oldest turn's
  EXPECT_THAT(TurnIndices(Next({Prefill(0, 4000), Prefill(1, 1)}, 1, 64, 64)), ElementsAre(0));
  EXPECT_THAT(TurnIndices(Next({Prefill(0, 4000), Prefill(1, 1)}, 8, 1, 64)), ElementsAre(0));
}

TEST_F(SchedulerTest, OneTokenOfAPromptGoesOnAlways) {
  std::vector<MovableTurn> turns;
  for (int32_t slot = 0; slot < 8; ++slot) turns.push_back(Decode(slot));
  turns.push_back(Prefill(8, 20));
  const Batch rows_short = Next(turns, 8, 64, 8);
  EXPECT_EQ(rows_short.turn_index(7), 8);
  EXPECT_EQ(rows_short.row_token_count(7), 8);
  const Batch tokens_short = Next(turns, 16, 8, 8);
  EXPECT_EQ(tokens_short.turn_index(7), 8);
  EXPECT_EQ(tokens_short.row_token_count(7), 1);
}

TEST_F(SchedulerTest, WithOneRowPrefillAndDecodeTakeTurns) {
  EXPECT_THAT(TurnIndices(Next({Decode(0, 5), Prefill(1, 20, -1, 4)}, 1, 64, 8)), ElementsAre(1));
  EXPECT_THAT(TurnIndices(Next({Decode(0, 5), Prefill(1, 20, -1, 6)}, 1, 64, 8)), ElementsAre(0));
}

TEST_F(SchedulerTest, MoreDecodeRowsThanRowsTakeTurns) {
  std::vector<MovableTurn> turns;
  for (int32_t slot = 0; slot < 10; ++slot) turns.push_back(Decode(slot));
  std::vector<int> moved_count(10, 0);
  uint64_t move_count = 0;
  for (int step = 0; step < 50; ++step) {
    const Batch batch = Next(turns, 3, 64, 8);
    ASSERT_EQ(batch.row_count(), 3);
    for (const int32_t i : TurnIndices(batch)) {
      ++moved_count[static_cast<size_t>(i)];
      turns[static_cast<size_t>(i)].last_move = ++move_count;
    }
  }
  for (const int count : moved_count) EXPECT_EQ(count, 15);
}

// Whatever waits and whatever the limits: the batch is within them, no row is wasted, and everyone
// moves in the end.
TEST_F(SchedulerTest, RandomTurnsStayInTheLimitsAndAllFinish) {
  for (uint32_t seed = 0; seed < 200; ++seed) {
    std::mt19937 random(seed);
    const auto pick = [&](int low, int high) {
      return std::uniform_int_distribution<int>(low, high)(random);
    };
    const int32_t rows = pick(1, 6), tokens = pick(1, 20), chunk = pick(1, 9);
    struct Waiting {
      size_t prompt_left;
      int decode_left;
      uint64_t last_move;
      bool scores;
    };
    std::vector<Waiting> waiting;
    for (int i = pick(1, 12); i > 0; --i) {
      const bool scores = pick(1, 3) == 1;
      waiting.push_back({static_cast<size_t>(pick(1, 40)), scores ? 0 : pick(1, 20), 0, scores});
    }
    uint64_t move_count = 0;
    int step = 0;
    while (true) {
      std::vector<MovableTurn> turns;
      std::vector<size_t> who;
      for (size_t i = 0; i < waiting.size(); ++i) {
        if (waiting[i].prompt_left == 0 && waiting[i].decode_left == 0) continue;
        const auto slot = static_cast<int32_t>(i);
        turns.push_back(waiting[i].prompt_left > 0
                            ? Prefill(slot, waiting[i].prompt_left, -1, waiting[i].last_move)
                            : Decode(slot, waiting[i].last_move));
        if (waiting[i].scores) turns.back().score_count_max = pick(1, 9);
        who.push_back(i);
      }
      if (turns.empty()) break;
      ASSERT_LT(++step, 5000) << "someone starves; seed " << seed;
      const Batch batch = Next(turns, rows, tokens, chunk, 64, 5);
      ASSERT_GE(batch.row_count(), 1) << "seed " << seed;
      for (int32_t row = 0; row < batch.row_count(); ++row) {
        const int32_t count = batch.row_token_count(row);
        ASSERT_TRUE(count >= 1 && count <= chunk) << "seed " << seed;
        Waiting& moved = waiting[who[static_cast<size_t>(batch.turn_index(row))]];
        moved.last_move = ++move_count;
        if (moved.prompt_left > 0) {
          moved.prompt_left -= static_cast<size_t>(count);
        } else {
          --moved.decode_left;
        }
      }
    }
  }
}

TEST_F(SchedulerTest, EveryScoredTokenWantsLogits) {
  const Batch batch = Next({Score(0, 3)}, 4, 32, 16);
  ASSERT_EQ(batch.row_count(), 1);
  EXPECT_EQ(batch.token_count(), 3);
  ASSERT_EQ(batch.logits_count(), 3);
  for (int32_t i = 0; i < 3; ++i) {
    EXPECT_EQ(batch.logits_row(i), 0);
    EXPECT_EQ(batch.rows().logits_token[i], i);
  }
}

TEST_F(SchedulerTest, WhatIsScoredComesLastThoughItIsOlderAndShorter) {
  const Batch batch = Next({Score(0, 2), Decode(1), Prefill(2, 5), Score(3, 1)}, 8, 32, 16);
  EXPECT_THAT(TurnIndices(batch), ElementsAre(1, 2, 3, 0));
  EXPECT_EQ(batch.logits_count(), 5);  // two to sample from, three to score
  EXPECT_EQ(batch.logits_row(1), 1);
  EXPECT_EQ(batch.logits_row(2), 2);
}

TEST_F(SchedulerTest, AScoredTokenCountsForTwo) {
  // Beside a decode row there is room for 8 prompt tokens, or 4 to score.
  EXPECT_EQ(Next({Prefill(0, 100), Decode(1)}, 4, 64, 32, 8).row_token_count(1), 8);
  EXPECT_EQ(Next({Score(0, 100), Decode(1)}, 4, 64, 32, 8).row_token_count(1), 4);
  EXPECT_EQ(Next({Score(0, 100), Decode(1)}, 4, 64, 32, 1).row_token_count(1), 1);
  EXPECT_EQ(Next({Score(0, 100)}, 4, 64, 32).row_token_count(0), 16);  // half a chunk
}

TEST_F(SchedulerTest, ScoredTokensAreBoundedByLogitsAndByTheReadersRoom) {
  EXPECT_EQ(Next({Score(0, 100)}, 4, 512, 256, 8, 10).token_count(), 10);
  EXPECT_EQ(Next({Score(0, 100, 3)}, 4, 512, 256, 8, 10).token_count(), 3);
  // The short text takes what is left beside the quarter of the oldest.
  const Batch batch = Next({Score(0, 100), Score(1, 50)}, 4, 512, 256, 8, 12);
  EXPECT_THAT(TurnIndices(batch), ElementsAre(1, 0));
  EXPECT_EQ(batch.row_token_count(0), 9);
  EXPECT_EQ(batch.row_token_count(1), 3);
}

TEST_F(SchedulerTest, ShortTextsDoNotStarveALongOneHoweverSmallTheStep) {
  for (int32_t tokens = 2; tokens <= 12; ++tokens) {
    for (int32_t scores = 2; scores <= 6; ++scores) {
      const Batch batch = Next({Score(0, 100), Score(1, 3), Score(2, 3)}, 4, tokens, 4, 8, scores);
      const std::vector<int32_t> moved = TurnIndices(batch);
      EXPECT_EQ(std::count(moved.begin(), moved.end(), 0), 1) << tokens << " " << scores;
      EXPECT_LE(batch.logits_count(), scores);
    }
  }
}

TEST(BatchDeathTest, MoreThanItsSizeIsABug) {
  EXPECT_DEATH(
      {
        Batch batch(1, 4);
        batch.AddRow(0, 0, 0);
        batch.AddRow(1, 1, 0);
      },
      "row_count_max");
  EXPECT_DEATH(
      {
        Batch batch(1, 1);
        batch.AddRow(0, 0, 0);
        batch.AddToken(1);
        batch.AddToken(2);
      },
      "token_count_max");
}

}  // namespace
}  // namespace eddy
