// SPDX-License-Identifier: Apache-2.0
// Scoring through a whole engine: the same bits in any company, cut or order, and how it ends.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <vector>

#include "engine/engine_core.h"
#include "tests/support/hand_stepped_engine.h"
#include "tests/support/score_check.h"

namespace eddy {
namespace {

using std::chrono::milliseconds;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;

std::vector<int32_t> Text(int32_t first, int count) {
  std::vector<int32_t> text(static_cast<size_t>(count));
  for (int i = 0; i < count; ++i) {
    const int place = i % 64;  // its square fits
    text[static_cast<size_t>(i)] = (first + place * place * 7) % 64;
  }
  return text;
}

// Whole, and as the model says.
void ExpectWhole(const TurnRequest& request, const StreamResult& result) {
  EXPECT_EQ(result.finish_reason, FinishReason::kScored) << result.status;
  ExpectScores(request, result);
}

TEST(ScoreTest, ALogProbDoesNotDependOnCompanyChunksOrStream) {
  const TurnRequest request = MakeScoreRequest(Text(3, 200), 5);
  for (const int chunk : {1, 7, 256}) {
    for (const int scores : {1, 3, 64}) {
      for (const auto stream : {FakeBackend::Stream::kAtOnce, FakeBackend::Stream::kLazy}) {
        EngineOptions options = SmallEngine(16);
        options.batch_token_count_max = 300;
        options.prefill_chunk_token_count = chunk;
        options.batch_score_count_max = scores;
        HandSteppedEngine engine(options, {}, stream);
        std::vector<std::shared_ptr<TokenStream>> company;
        for (int i = 0; i < 20; ++i) {
          company.push_back(*engine.Submit(i % 2 == 0 ? MakeRequest(Text(i, 5 + i * 3), 20 + i)
                                                      : MakeScoreRequest(Text(i, 2 + i), i)));
        }
        ExpectWhole(request, engine.Generate(request));
        for (int i = 0; i < 20; ++i) {
          const StreamResult other = ReadAll(*company[static_cast<size_t>(i)]);
          if (i % 2 == 0) {
            EXPECT_THAT(other.tokens,
                        ElementsAreArray(FakeModel::Continue(Text(i, 5 + i * 3), 20 + i)));
          } else {
            ExpectWhole(MakeScoreRequest(Text(i, 2 + i), i), other);
          }
        }
      }
    }
  }
}

TEST(ScoreTest, TellsWhatGeneratingTells) {
  HandSteppedEngine engine(SmallEngine());
  TurnRequest generate = MakeRequest(Text(5, 10), 40);
  generate.wants_log_probs = true;
  generate.alternative_count = SampleResult::kAlternativesMax;
  const StreamResult generated = engine.Generate(generate);
  ASSERT_EQ(generated.log_probs.size(), 40u);
  const StreamResult scored = engine.Generate(
      MakeScoreRequest(Joined(Text(5, 10), generated.tokens), SampleResult::kAlternativesMax));
  ASSERT_EQ(scored.log_probs.size(), 49u);
  for (size_t i = 0; i < 40; ++i) {
    const TokenLogProb& a = generated.log_probs[i];
    const TokenLogProb& b = scored.log_probs[9 + i];
    EXPECT_EQ(a.token, b.token);
    EXPECT_EQ(a.log_prob, b.log_prob);
    ASSERT_EQ(a.alternatives.size(), b.alternatives.size());
    for (size_t n = 0; n < a.alternatives.size(); ++n) {
      EXPECT_EQ(a.alternatives[n].token, b.alternatives[n].token);
      EXPECT_EQ(a.alternatives[n].bias, b.alternatives[n].bias);
    }
  }
}

TEST(ScoreTest, ASlowReaderParksItAndItsStateMovesOutAndIn) {
  EngineOptions options = SmallEngine(1);
  options.stream_capacity = 3;
  HandSteppedEngine engine(options);
  const TurnRequest request = MakeScoreRequest(Text(9, 30), 2);
  auto slow = *engine.Submit(request);
  engine.StepUntilIdle();
  EXPECT_EQ(engine.core->turn_count(), 1);
  StreamResult result;
  while (!TakeNow(*slow, &result)) {
    // Someone else takes the only slot meanwhile.
    EXPECT_THAT(engine.Generate(MakeRequest({2}, 3)).tokens,
                ElementsAreArray(FakeModel::Continue({2}, 3)));
    engine.StepUntilIdle();
  }
  ExpectWhole(request, result);
  EXPECT_GT(engine.metrics.state_move_in.bucket_count(0), 5);
  EXPECT_EQ(engine.core->store().state_count(), 0);
  EXPECT_EQ(engine.core->pool().free_count(), 1);
}

TEST(ScoreTest, AStreamOfOneChunkIsEnough) {
  EngineOptions options = SmallEngine(2);
  options.stream_capacity = 1;
  HandSteppedEngine engine(options);
  const TurnRequest request = MakeScoreRequest(Text(9, 12));
  auto stream = *engine.Submit(request);
  StreamResult result;
  do engine.StepUntilIdle();
  while (!TakeNow(*stream, &result));
  ExpectWhole(request, result);
}

TEST(ScoreTest, AReaderThatDoesNotReadEndsIt) {
  EngineOptions options = SmallEngine();
  options.stream_capacity = 4;
  options.reader_stall_max = milliseconds(500);
  HandSteppedEngine engine(options);
  auto stream = *engine.Submit(MakeScoreRequest(Text(9, 12)));
  engine.StepUntilIdle();
  engine.now += milliseconds(600);
  engine.StepUntilIdle();
  const StreamResult result = ReadAll(*stream);
  EXPECT_EQ(result.tokens.size(), 4u);
  EXPECT_EQ(result.status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(result.status.message()), HasSubstr("left 4 tokens untaken"));
}

TEST(ScoreTest, CancelDeadlineAndDrainEndItWithWhatWasScored) {
  EngineOptions options = SmallEngine();
  options.batch_score_count_max = 2;
  HandSteppedEngine engine(options);
  const TurnRequest request = MakeScoreRequest(Text(9, 60));
  TurnRequest hurried = request;
  hurried.deadline = engine.now + milliseconds(3);
  auto cancelled = *engine.Submit(request);
  auto late = *engine.Submit(hurried);
  auto drained = *engine.Submit(request);
  for (int i = 0; i < 5; ++i) engine.Step();
  cancelled->Cancel();
  engine.Step();
  engine.core->CancelAll(&engine.arrivals);
  for (const auto& [stream, reason] :
       {std::pair(cancelled, FinishReason::kCancelled), std::pair(late, FinishReason::kDeadline),
        std::pair(drained, FinishReason::kCancelled)}) {
    const StreamResult result = ReadAll(*stream);
    EXPECT_EQ(result.finish_reason, reason);
    EXPECT_GE(result.tokens.size(), 1u);
    EXPECT_LT(result.tokens.size(), 60u);
    ExpectScores(request, result);
  }
  EXPECT_EQ(engine.core->sessions().session_count(), 0);
}

TEST(ScoreTest, LogitsThatAreNotFiniteEndItAtTheTokenBehind) {
  FakeModelOptions model;
  model.nan_token = 50;
  HandSteppedEngine engine(SmallEngine(), model);
  const TurnRequest request = MakeScoreRequest({1, 2, 3, 50, 4, 5});
  const StreamResult result = engine.Generate(request);
  EXPECT_THAT(result.tokens, ElementsAreArray({1, 2, 3, 50}));
  EXPECT_EQ(result.status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(result.status.message()),
              HasSubstr("logits at position 4 are not finite; no token can be scored"));
  ExpectScores(request, result, 64, 50);
  // Nothing is read behind the last token.
  ExpectWhole(MakeScoreRequest({1, 2, 50}), engine.Generate(MakeScoreRequest({1, 2, 50})));
  EXPECT_EQ(engine.core->sessions().session_count(), 0);
  EXPECT_EQ(engine.core->pool().free_count(), 4);
}

TEST(ScoreTest, DecodersBesideItKeepTheirPace) {
  EngineOptions options = SmallEngine(4);
  options.batch_token_count_max = 512;
  options.prefill_chunk_token_count = 256;
  HandSteppedEngine engine(options);
  auto decoder = *engine.Submit(MakeRequest({1}, 30));
  engine.Step();
  auto scored = *engine.Submit(MakeScoreRequest(Text(1, 500)));
  // A token in every step, beside four scored ones: half of prefill_beside_decode_token_count.
  StreamResult result, scores;
  for (size_t i = 0; i < 20; ++i) {
    engine.Step();
    TakeNow(*decoder, &result);
    TakeNow(*scored, &scores);
    EXPECT_EQ(result.tokens.size(), i + 2);
    EXPECT_EQ(scores.tokens.size(), 1 + 4 * (i + 1));
  }
  // Alone it takes all rows of logits there are.
  while (!TakeNow(*decoder, &result)) engine.Step();
  TakeNow(*scored, &scores);
  const size_t before = scores.tokens.size();
  engine.Step();
  TakeNow(*scored, &scores);
  EXPECT_EQ(scores.tokens.size() - before, 64u);
}

TEST(ScoreTest, TheStreamOfManyAlternativesIsShorter) {
  const auto engine = MakeFakeEngine(SmallEngine());
  auto stream = engine->Submit(MakeScoreRequest(Text(1, 400), ScoreRow::kAlternativesMax));
  ASSERT_TRUE(stream.ok()) << stream.status();
  EXPECT_EQ((*stream)->capacity(), 255);
  ExpectWhole(MakeScoreRequest(Text(1, 400), ScoreRow::kAlternativesMax), ReadAll(**stream));
  stream = engine->Submit(MakeScoreRequest({}));
  EXPECT_EQ(stream.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(engine->metrics().scored_tokens.value(), 399);
  engine->Shutdown(Duration::zero());
  EXPECT_EQ(engine->Submit(MakeScoreRequest({1})).status().code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace eddy
