// SPDX-License-Identifier: Apache-2.0
#include "engine/turn.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <memory>

#include "tests/support/hand_stepped_engine.h"
#include "tests/support/score_check.h"

namespace eddy {
namespace {

using std::chrono::milliseconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A turn without an engine: the test says what was read and which token came.
class TurnTest : public ::testing::Test {
 protected:
  TurnTest() {
    model_.name = "fake";
    model_.vocabulary_size = 64;
    model_.end_of_text_ids = {0};
  }

  Turn& Make(TurnRequest request) {
    stream_ = std::make_shared<TokenStream>(100, nullptr);
    turn_ = std::make_unique<Turn>(context_, std::move(request), stream_, now_);
    return *turn_;
  }
  // Begins and reads the prompt at once.
  Turn& MakeReady(TurnRequest request) {
    Turn& turn = Make(std::move(request));
    EXPECT_TRUE(turn.Begin(session_, now_).ok());
    turn.Read(static_cast<int32_t>(turn.Movable().prompt.size()) +
              (session_.pending_token() >= 0 ? 1 : 0));
    return turn;
  }
  // One decode step for each token.
  void Accept(std::initializer_list<int32_t> tokens) {
    for (const int32_t token : tokens) {
      if (turn_->ended()) return;
      if (session_.pending_token() >= 0) turn_->Read(1);
      now_ += milliseconds(2);
      SampleResult result;
      result.token = token;
      turn_->Accept(result, now_);
    }
  }
  // Without waiting for the end.
  StreamResult& Taken() {
    TakeNow(*stream_, &result_);
    return result_;
  }

  TimePoint now_{std::chrono::hours(1)};
  ModelInfo model_;
  FakeTokenizer tokenizer_;
  EngineMetrics metrics_;
  TurnContext context_{.model = &model_, .tokenizer = &tokenizer_, .metrics = &metrics_};
  Session session_{1, "s"};
  std::shared_ptr<TokenStream> stream_;
  std::unique_ptr<Turn> turn_;
  StreamResult result_;
};

TEST_F(TurnTest, OffersItsPromptPieceByPieceThenDecodes) {
  Turn& turn = Make(MakeRequest({1, 2, 3, 4, 5}, 8));
  ASSERT_TRUE(turn.Begin(session_, now_).ok());
  EXPECT_THAT(turn.Movable().prompt, ElementsAre(1, 2, 3, 4, 5));
  turn.Read(2);
  EXPECT_THAT(turn.Movable().prompt, ElementsAre(3, 4, 5));
  EXPECT_EQ(turn.Movable().position, 2);
  turn.Read(3);
  EXPECT_EQ(turn.SampleOptions().position, 5);
  Accept({9});
  EXPECT_TRUE(turn.Movable().prompt.empty());
  EXPECT_EQ(turn.Movable().pending_token, 9);
  EXPECT_EQ(turn.Movable().position, 5);
}

TEST_F(TurnTest, ScoresEveryTokenButTheFirst) {
  Turn& turn = Make(MakeScoreRequest({7, 8, 9, 5}, 1));
  ASSERT_TRUE(turn.Begin(session_, now_).ok());
  EXPECT_THAT(Taken().tokens, ElementsAre(7));               // of which nothing can be said
  EXPECT_THAT(turn.Movable().prompt, ElementsAre(7, 8, 9));  // nothing is asked behind the last
  EXPECT_EQ(turn.Movable().score_count_max, 100);
  turn.Read(2);
  EXPECT_THAT(turn.ScoredTokens(2), ElementsAre(8, 9));
  std::vector<LogitBias> best = {{1, -0.25f}, {2, -0.5f}};
  const ScoreRow rows[] = {{8, std::span(best).first(1)}, {9, std::span(best).last(1)}};
  ScoreResult results[] = {{true, -1.0f, 1}, {true, -2.0f, 1}};
  EXPECT_EQ(turn.AcceptScores(rows, results, now_), 2u);
  EXPECT_FALSE(turn.ended());
  EXPECT_EQ(turn.Movable().score_count_max, 98);
  turn.Read(1);
  EXPECT_THAT(turn.ScoredTokens(1), ElementsAre(5));
  const ScoreRow last[] = {{5, {}}};
  const ScoreResult last_result[] = {{true, -3.0f, 0}};
  now_ += milliseconds(4);
  EXPECT_EQ(turn.AcceptScores(last, last_result, now_), 1u);
  EXPECT_TRUE(turn.ended());
  const StreamResult& result = Taken();
  EXPECT_THAT(result.tokens, ElementsAre(7, 8, 9, 5));
  EXPECT_THAT(result.positions, ElementsAre(0, 1, 2, 3));
  ASSERT_EQ(result.log_probs.size(), 3u);
  EXPECT_EQ(result.log_probs[1].log_prob, -2.0f);
  EXPECT_EQ(result.log_probs[1].alternatives.at(0).token, 2);
  EXPECT_TRUE(result.log_probs[2].alternatives.empty());
  EXPECT_EQ(result.finish_reason, FinishReason::kScored);
  EXPECT_EQ(result.text, "");
  EXPECT_EQ(result.usage->prompt_tokens, 4);
  EXPECT_EQ(result.usage->generated_tokens, 0);
  EXPECT_DOUBLE_EQ(result.usage->prefill_ms, 4);
  EXPECT_EQ(metrics_.scored_tokens.value(), 3);
}

TEST_F(TurnTest, ScoresAreSentAsFarAsTheLogitsAreFinite) {
  Turn& turn = Make(MakeScoreRequest({7, 8, 9}));
  ASSERT_TRUE(turn.Begin(session_, now_).ok());
  turn.Read(2);
  const ScoreRow rows[] = {{8, {}}, {9, {}}};
  const ScoreResult results[] = {{true, -1.0f, 0}, {}};
  EXPECT_EQ(turn.AcceptScores(rows, results, now_), 1u);
  EXPECT_FALSE(turn.ended());
  EXPECT_THAT(Taken().tokens, ElementsAre(7, 8));
}

TEST_F(TurnTest, OneTokenIsScoredWithoutAStep) {
  Turn& turn = Make(MakeScoreRequest({7}));
  ASSERT_TRUE(turn.Begin(session_, now_).ok());
  EXPECT_TRUE(turn.ended());
  EXPECT_THAT(Taken().tokens, ElementsAre(7));
  EXPECT_EQ(result_.finish_reason, FinishReason::kScored);
  EXPECT_TRUE(result_.log_probs.empty());
}

TEST_F(TurnTest, EndsAtMaxTokensAndCountsThem) {
  now_ += milliseconds(5);
  const TimePoint submitted = now_;
  Turn& turn = Make(MakeRequest({1, 2}, 3));
  now_ += milliseconds(10);
  ASSERT_TRUE(turn.Begin(session_, now_).ok());
  turn.Read(2);
  Accept({5, 6, 7});
  EXPECT_TRUE(turn.ended());
  const StreamResult& result = Taken();
  EXPECT_THAT(result.tokens, ElementsAre(5, 6, 7));
  EXPECT_EQ(result.finish_reason, FinishReason::kLength);
  EXPECT_TRUE(result.status.ok());
  EXPECT_EQ(result.usage->prompt_tokens, 2);
  EXPECT_EQ(result.usage->generated_tokens, 3);
  EXPECT_DOUBLE_EQ(result.usage->queue_ms, 10);
  EXPECT_DOUBLE_EQ(result.usage->prefill_ms, 2);
  EXPECT_DOUBLE_EQ(result.usage->decode_ms, 4);
  EXPECT_GT(now_, submitted);
  EXPECT_EQ(session_.position(), 5);
  EXPECT_EQ(session_.pending_token(), 7);
  EXPECT_EQ(metrics_.finished[static_cast<size_t>(FinishReason::kLength)].value(), 1);
}

TEST_F(TurnTest, EndOfTextIsNeitherSentNorPartOfTheSession) {
  MakeReady(MakeRequest({1}, 9));
  Accept({5, 0});
  const StreamResult& result = Taken();
  EXPECT_THAT(result.tokens, ElementsAre(5));
  EXPECT_EQ(result.finish_reason, FinishReason::kEndOfText);
  EXPECT_EQ(result.usage->generated_tokens, 1);
  EXPECT_EQ(session_.position(), 2);
  EXPECT_EQ(session_.pending_token(), -1);
  EXPECT_EQ(result.last_position, 2);
}

TEST_F(TurnTest, EndOfTextCanBeIgnored) {
  TurnRequest request = MakeRequest({1}, 9);
  request.stop.ignore_end_of_text = true;
  MakeReady(std::move(request));
  Accept({0, 0});
  EXPECT_FALSE(turn_->ended());
  EXPECT_THAT(Taken().tokens, ElementsAre(0, 0));
}

TEST_F(TurnTest, AStopTokenEndsTheTurnUnsent) {
  TurnRequest request = MakeRequest({1}, 9);
  request.stop.token_ids = {7, 8};
  MakeReady(std::move(request));
  Accept({5, 8});
  const StreamResult& result = Taken();
  EXPECT_THAT(result.tokens, ElementsAre(5));
  EXPECT_EQ(result.finish_reason, FinishReason::kStopSequence);
}

TEST_F(TurnTest, MinTokensBansWhatWouldEndTheTurn) {
  TurnRequest request = MakeRequest({1}, 9);
  request.stop.token_ids = {7};
  request.stop.min_tokens = 2;
  Turn& turn = MakeReady(std::move(request));
  EXPECT_THAT(turn.SampleOptions().banned, ElementsAre(7, 0));
  Accept({5});
  EXPECT_THAT(turn.SampleOptions().banned, ElementsAre(7, 0));
  Accept({5});
  EXPECT_THAT(turn.SampleOptions().banned, ElementsAre());
}

TEST_F(TurnTest, MinTokensDelaysStopSequences) {
  TurnRequest request = MakeRequest({1}, 9);
  request.stop.sequences = {"b"};
  request.stop.min_tokens = 2;
  MakeReady(std::move(request));
  Accept({1, 1, 2, 1, 4});  // "bb" pass, "c", then "b" stops
  const StreamResult& result = Taken();
  EXPECT_EQ(result.text, "bbc");
  EXPECT_EQ(result.finish_reason, FinishReason::kStopSequence);
  EXPECT_EQ(result.usage->generated_tokens, 4);
}

TEST_F(TurnTest, AStopSequenceOverTokensIsNeverSentButItsTokensAre) {
  TurnRequest request = MakeRequest({1}, 9);
  request.stop.sequences = {"cde"};
  MakeReady(std::move(request));
  Accept({1, 2, 3});
  EXPECT_EQ(Taken().text, "b");
  Accept({2, 3, 4});  // "cd" was none; then "cde"
  const StreamResult& result = Taken();
  EXPECT_EQ(result.text, "bcd");
  EXPECT_THAT(result.tokens, ElementsAre(1, 2, 3, 2, 3, 4));
  EXPECT_EQ(result.finish_reason, FinishReason::kStopSequence);
  EXPECT_EQ(session_.position(), 7);
}

TEST_F(TurnTest, WhatWasHeldBackIsSentWhenTheTurnEndsOtherwise) {
  TurnRequest request = MakeRequest({1}, 3);
  request.stop.sequences = {"cde"};
  MakeReady(std::move(request));
  Accept({1, 2, 3});
  EXPECT_EQ(Taken().text, "bcd");
  EXPECT_EQ(Taken().finish_reason, FinishReason::kLength);
}

TEST_F(TurnTest, TextIsWholeUtf8) {
  tokenizer_.SetBytes(40, "\xe2");
  tokenizer_.SetBytes(41, "\x82");
  tokenizer_.SetBytes(42, "\xac");
  MakeReady(MakeRequest({1}, 5));
  Accept({40, 41});
  EXPECT_EQ(Taken().text, "");
  Accept({42, 40});
  EXPECT_EQ(Taken().text, "\xe2\x82\xac");
  Accept({40});  // the turn ends inside a character
  EXPECT_EQ(Taken().text, "\xe2\x82\xac\xef\xbf\xbd\xef\xbf\xbd");
}

// A session without tokens reads the opening, one with tokens the closing unless it ends with it.
TEST_F(TurnTest, ReadsWhatTheSessionWantsBeforeThePrompt) {
  TurnRequest request = MakeRequest({1, 2}, 8);
  request.opening = {50};
  request.closing = {60, 61};
  ASSERT_TRUE(Make(request).Begin(session_, now_).ok());
  EXPECT_THAT(turn_->Movable().prompt, ElementsAre(50, 1, 2));
  turn_->Read(3);
  Accept({7});
  turn_->Finish(FinishReason::kCancelled, now_);
  EXPECT_EQ(Taken().usage->prompt_tokens, 3);
  ASSERT_TRUE(Make(request).Begin(session_, now_).ok());
  EXPECT_THAT(turn_->Movable().prompt, ElementsAre(60, 61, 1, 2));
  turn_->Read(5);
  Accept({60, 61});
  turn_->Finish(FinishReason::kCancelled, now_);
  ASSERT_TRUE(Make(request).Begin(session_, now_).ok());
  EXPECT_THAT(turn_->Movable().prompt, ElementsAre(1, 2));
}

TEST_F(TurnTest, WithoutTokenizerThereIsNoText) {
  context_.tokenizer = nullptr;
  MakeReady(MakeRequest({1}, 2));
  Accept({5, 6});
  EXPECT_EQ(Taken().text, "");
  EXPECT_THAT(Taken().tokens, ElementsAre(5, 6));
}

TEST_F(TurnTest, LogProbsComeWithTheirTokens) {
  TurnRequest request = MakeRequest({1}, 5);
  request.wants_log_probs = true;
  request.alternative_count = 2;
  Turn& turn = MakeReady(std::move(request));
  EXPECT_TRUE(turn.SampleOptions().wants_log_prob);
  EXPECT_EQ(turn.SampleOptions().alternative_count, 2);
  SampleResult sampled;
  sampled.token = 4;
  sampled.log_prob = -0.5f;
  sampled.alternative_count = 2;
  sampled.alternative_token[0] = 4;
  sampled.alternative_log_prob[0] = -0.5f;
  sampled.alternative_token[1] = 9;
  sampled.alternative_log_prob[1] = -1.5f;
  turn.Accept(sampled, now_);
  const StreamResult& result = Taken();
  ASSERT_EQ(result.log_probs.size(), 1u);
  EXPECT_EQ(result.log_probs[0].token, 4);
  EXPECT_EQ(result.log_probs[0].log_prob, -0.5f);
  ASSERT_EQ(result.log_probs[0].alternatives.size(), 2u);
  EXPECT_EQ(result.log_probs[0].alternatives[1].token, 9);
  EXPECT_EQ(result.log_probs[0].alternatives[1].bias, -1.5f);
}

TEST_F(TurnTest, PenaltiesSeeThePromptAndWhatWasGenerated) {
  TurnRequest request = MakeRequest({3, 3, 4}, 5);
  request.sampling.presence_penalty = 1;
  Turn& turn = MakeReady(std::move(request));
  const auto count_of = [&](int32_t token) {
    for (const TokenCount& seen : turn.SampleOptions().seen) {
      if (seen.token == token) return seen.count;
    }
    return 0;
  };
  EXPECT_EQ(count_of(3), 2);
  EXPECT_EQ(count_of(4), 1);
  Accept({4});
  EXPECT_EQ(count_of(4), 2);
  MakeReady(MakeRequest({1}, 5)).Finish(FinishReason::kCancelled, now_);
  EXPECT_TRUE(MakeReady(MakeRequest({1}, 5)).SampleOptions().seen.empty());
}

TEST_F(TurnTest, ATurnCutShortLeavesTheSessionAtWhatItRead) {
  Turn& turn = Make(MakeRequest({1, 2, 3, 4, 5}, 8));
  ASSERT_TRUE(turn.Begin(session_, now_).ok());
  turn.Read(2);
  turn.Finish(FinishReason::kCancelled, now_);
  EXPECT_EQ(session_.position(), 2);
  const StreamResult& result = Taken();
  EXPECT_EQ(result.finish_reason, FinishReason::kCancelled);
  EXPECT_EQ(result.last_position, 2);
  EXPECT_EQ(result.usage->prompt_tokens, 5);
  EXPECT_EQ(result.usage->generated_tokens, 0);
}

TEST_F(TurnTest, AnEmptyPromptNeedsAPendingToken) {
  Turn& refused = Make(MakeRequest({}, 3, "s"));
  const absl::Status status = refused.Begin(session_, now_);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("position 0"));
  MakeReady(MakeRequest({1}, 1));
  Accept({5});
  Turn& goes_on = Make(MakeRequest({}, 3, "s"));
  ASSERT_TRUE(goes_on.Begin(session_, now_).ok());
  EXPECT_EQ(goes_on.Movable().pending_token, 5);
  goes_on.Read(1);
  Accept({6, 7, 8});
  result_ = {};
  EXPECT_EQ(Taken().usage->prompt_tokens, 2);
  EXPECT_EQ(Taken().usage->reused_tokens, 1);
}

TEST_F(TurnTest, ASessionStaysWithinTheModelsPositions) {
  model_.position_max = 5;
  MakeReady(MakeRequest({1, 2}, 100));
  Accept({5, 6, 7, 8, 9});
  EXPECT_THAT(Taken().tokens, ElementsAre(5, 6, 7));
  EXPECT_EQ(Taken().finish_reason, FinishReason::kLength);
  Turn& turn = Make(MakeRequest({1}, 1, "s"));
  EXPECT_EQ(turn.Begin(session_, now_).code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(TurnTest, AFullStreamParksAndOneWithRoomWakes) {
  Turn& turn = MakeReady(MakeRequest({1}, 1000));
  for (int i = 0; i < 100; ++i) Accept({5});
  turn.UpdateParked(now_);
  EXPECT_EQ(turn.parked_since(), now_);
  const TimePoint parked = now_;
  now_ += milliseconds(7);
  turn.UpdateParked(now_);
  EXPECT_EQ(turn.parked_since(), parked);
  EXPECT_EQ(metrics_.stream_parked.value(), 1);
  Taken();
  turn.UpdateParked(now_);
  EXPECT_FALSE(turn.parked_since().has_value());
}

TEST_F(TurnTest, AFailureEndsTheStreamWithItsStatus) {
  Turn& turn = MakeReady(MakeRequest({1}, 5));
  turn.Fail(absl::InternalError("step"), now_);
  EXPECT_TRUE(turn.ended());
  EXPECT_EQ(Taken().status.code(), absl::StatusCode::kInternal);
  EXPECT_FALSE(Taken().usage.has_value());
  EXPECT_EQ(metrics_.failed[static_cast<size_t>(absl::StatusCode::kInternal)].value(), 1);
}

}  // namespace
}  // namespace eddy
