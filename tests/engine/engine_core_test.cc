// SPDX-License-Identifier: Apache-2.0
#include "engine/engine_core.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "tests/support/hand_stepped_engine.h"

namespace eddy {
namespace {

using std::chrono::milliseconds;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;

std::vector<int32_t> Prompt(int32_t first, int count) {
  std::vector<int32_t> prompt(static_cast<size_t>(count));
  for (int i = 0; i < count; ++i) prompt[static_cast<size_t>(i)] = (first + i * 7) % 64;
  return prompt;
}

TEST(EngineCoreTest, ATokenDoesNotDependOnCompanyChunksOrStream) {
  const std::vector<int32_t> prompt = Prompt(3, 100);
  const std::vector<int32_t> expected = FakeModel::Continue(prompt, 30);
  for (const int chunk : {1, 7, 256}) {
    for (const int others : {0, 63}) {
      for (const auto stream : {FakeBackend::Stream::kAtOnce, FakeBackend::Stream::kLazy}) {
        EngineOptions options = SmallEngine(64);
        options.batch_token_count_max = 300;
        options.prefill_chunk_token_count = chunk;
        HandSteppedEngine engine(options, {}, stream);
        std::vector<std::shared_ptr<TokenStream>> company;
        for (int i = 0; i < others; ++i) {
          company.push_back(*engine.Submit(MakeRequest(Prompt(i, 5 + i * 3), 5 + i)));
        }
        const StreamResult result = engine.Generate(MakeRequest(prompt, 30));
        EXPECT_THAT(result.tokens, ElementsAreArray(expected)) << chunk << " " << others;
        for (int i = 0; i < others; ++i) {
          EXPECT_THAT(ReadAll(*company[static_cast<size_t>(i)]).tokens,
                      ElementsAreArray(FakeModel::Continue(Prompt(i, 5 + i * 3), 5 + i)));
        }
      }
    }
  }
}

TEST(EngineCoreTest, MoreTurnsThanRowsAndSlotsAllFinish) {
  EngineOptions options = SmallEngine(5);
  options.batch_row_count_max = 2;
  options.batch_token_count_max = 7;
  HandSteppedEngine engine(options);
  std::vector<std::shared_ptr<TokenStream>> streams;
  for (int i = 0; i < 40; ++i) streams.push_back(*engine.Submit(MakeRequest(Prompt(i, 9), 12)));
  engine.StepUntilIdle();
  for (int i = 0; i < 40; ++i) {
    EXPECT_THAT(ReadAll(*streams[static_cast<size_t>(i)]).tokens,
                ElementsAreArray(FakeModel::Continue(Prompt(i, 9), 12)));
  }
  EXPECT_EQ(engine.core->pool().free_count(), 5);
}

TEST(EngineCoreTest, EvictedSessionsGoOnAsIfNothingHadHappened) {
  HandSteppedEngine engine(SmallEngine(2));
  std::vector<std::vector<int32_t>> histories(6);
  for (int round = 0; round < 4; ++round) {
    for (size_t i = 0; i < histories.size(); ++i) {
      const std::vector<int32_t> prompt = Prompt(static_cast<int32_t>(i) + round, 3);
      const StreamResult result = engine.Generate(MakeRequest(prompt, 4, absl::StrCat("s", i)));
      const auto history_size = static_cast<int64_t>(histories[i].size());
      histories[i] = Joined(histories[i], prompt);
      EXPECT_THAT(result.tokens, ElementsAreArray(FakeModel::Continue(histories[i], 4)));
      EXPECT_EQ(result.usage->reused_tokens, std::max<int64_t>(history_size - 1, 0));
      histories[i] = Joined(histories[i], result.tokens);
    }
  }
  EXPECT_EQ(engine.metrics.sessions_evicted.value(), 4);
  EXPECT_EQ(engine.metrics.slots_idle.value(), 2);
  EXPECT_EQ(engine.metrics.host_state_bytes.value(), 4 * engine.core->pool().state_bytes());
}

TEST(EngineCoreTest, TurnsOfOneSessionRunOneAfterAnotherInOrder) {
  HandSteppedEngine engine(SmallEngine(4));
  std::vector<std::shared_ptr<TokenStream>> streams;
  for (int32_t i = 0; i < 5; ++i) {
    streams.push_back(*engine.Submit(MakeRequest({i, i + 1}, 3, "s")));
  }
  engine.StepUntilIdle();
  std::vector<int32_t> history;
  for (int32_t i = 0; i < 5; ++i) {
    const StreamResult result = ReadAll(*streams[static_cast<size_t>(i)]);
    history = Joined(history, {i, i + 1});
    EXPECT_THAT(result.tokens, ElementsAreArray(FakeModel::Continue(history, 3)));
    history = Joined(history, result.tokens);
  }
  EXPECT_EQ(engine.core->GetSession("s")->turn_count, 5);
  EXPECT_EQ(engine.core->GetSession("s")->position, 25);
}

TEST(EngineCoreTest, ASessionsQueueOfTurnsIsBounded) {
  EngineOptions options = SmallEngine(4);
  options.session_turn_count_max = 2;
  HandSteppedEngine engine(options);
  std::vector<std::shared_ptr<TokenStream>> streams;
  for (int32_t i = 0; i < 4; ++i) streams.push_back(*engine.Submit(MakeRequest({i}, 3, "s")));
  engine.StepUntilIdle();
  for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(ReadAll(*streams[i]).status.ok());
  const absl::Status status = ReadAll(*streams[3]).status;
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("session_turn_count_max is 2"));
}

TEST(EngineCoreTest, AnUnknownSessionIsNotFoundUnlessItMayBeCreated) {
  HandSteppedEngine engine(SmallEngine());
  TurnRequest request = MakeRequest({1}, 2, "s");
  request.create_session = false;
  EXPECT_EQ(engine.Generate(request).status.code(), absl::StatusCode::kNotFound);
  request.create_session = true;
  EXPECT_TRUE(engine.Generate(request).status.ok());
  request.create_session = false;
  EXPECT_TRUE(engine.Generate(request).status.ok());
}

TEST(EngineCoreTest, CancelEndsATurnWhereItIs) {
  EngineOptions options = SmallEngine();
  options.prefill_chunk_token_count = 10;
  HandSteppedEngine engine(options);
  auto stream = *engine.Submit(MakeRequest(Prompt(1, 100), 50, "s"));
  engine.Step();
  engine.Step();
  stream->Cancel();
  const StreamResult cut = engine.Finish(stream);
  EXPECT_EQ(cut.finish_reason, FinishReason::kCancelled);
  EXPECT_EQ(cut.last_position, 20);
  EXPECT_EQ(engine.core->GetSession("s")->position, 20);
  std::vector<int32_t> history = Prompt(1, 100);
  history.resize(20);
  const StreamResult next = engine.Generate(MakeRequest({5}, 4, "s"));
  EXPECT_THAT(next.tokens, ElementsAreArray(FakeModel::Continue(Joined(history, {5}), 4)));
  EXPECT_EQ(next.usage->reused_tokens, 20);
}

TEST(EngineCoreTest, CancelEndsATurnThatHasNotBegun) {
  HandSteppedEngine engine(SmallEngine(1));
  auto running = *engine.Submit(MakeRequest({1}, 50));
  auto waiting = *engine.Submit(MakeRequest({2}, 50));
  engine.Step();
  waiting->Cancel();
  engine.Step();
  StreamResult result;
  ASSERT_TRUE(TakeNow(*waiting, &result));
  EXPECT_EQ(result.finish_reason, FinishReason::kCancelled);
  EXPECT_EQ(result.usage->prompt_tokens, 0);
  EXPECT_EQ(result.usage->generated_tokens, 0);
  EXPECT_EQ(engine.Finish(running).tokens.size(), 50u);
}

TEST(EngineCoreTest, ATurnThatEndsInTheQueueLeavesTheRunningOneItsSlot) {
  EngineOptions options = SmallEngine(2);
  options.batch_row_count_max = 1;
  HandSteppedEngine engine(options);
  // Two have slots, one row a step: the second has read nothing yet when the third, of its session,
  // goes.
  auto first = *engine.Submit(MakeRequest(Prompt(1, 30), 5));
  auto second = *engine.Submit(MakeRequest({2}, 5, "s"));
  auto third = *engine.Submit(MakeRequest({3}, 5, "s"));
  engine.Step();
  const uint64_t generation = engine.core->pool().generation(1);
  third->Cancel();
  engine.Step();
  EXPECT_EQ(engine.core->pool().generation(1), generation);
  EXPECT_EQ(engine.core->pool().free_count(), 0);
  EXPECT_EQ(engine.Finish(second).tokens, FakeModel::Continue({2}, 5));
  EXPECT_EQ(ReadAll(*first).tokens.size(), 5u);
}

TEST(EngineCoreTest, DeadlinesEndRunningAndWaitingTurnsWell) {
  HandSteppedEngine engine(SmallEngine(1));
  TurnRequest running = MakeRequest({1, 2}, 1000);
  running.deadline = engine.now + milliseconds(10);
  TurnRequest waiting = MakeRequest({3}, 1000);
  waiting.deadline = engine.now + milliseconds(5);
  auto first = *engine.Submit(running);
  auto second = *engine.Submit(waiting);
  EXPECT_TRUE(engine.Step());
  EXPECT_EQ(engine.core->NextEvent(), waiting.deadline);
  const StreamResult result = engine.Finish(first);
  EXPECT_TRUE(result.status.ok());
  EXPECT_EQ(result.finish_reason, FinishReason::kDeadline);
  EXPECT_EQ(result.tokens.size(), 10u);
  EXPECT_THAT(result.tokens, ElementsAreArray(FakeModel::Continue({1, 2}, 10)));
  const StreamResult never_ran = ReadAll(*second);
  EXPECT_TRUE(never_ran.status.ok());
  EXPECT_EQ(never_ran.finish_reason, FinishReason::kDeadline);
  EXPECT_EQ(never_ran.usage->generated_tokens, 0);
  EXPECT_DOUBLE_EQ(never_ran.usage->queue_ms, 5);
}

TEST(EngineCoreTest, ASlowReaderIsNotSteppedAndGoesOnWhenItReads) {
  EngineOptions options = SmallEngine();
  options.stream_capacity = 4;
  HandSteppedEngine engine(options);
  auto stream = *engine.Submit(MakeRequest({1}, 10));
  engine.StepUntilIdle();
  EXPECT_EQ(engine.metrics.generation_tokens.value(), 4);
  EXPECT_EQ(engine.metrics.stream_parked.value(), 1);
  EXPECT_FALSE(engine.Step());
  StreamResult result;
  while (!TakeNow(*stream, &result)) engine.StepUntilIdle();
  EXPECT_THAT(result.tokens, ElementsAreArray(FakeModel::Continue({1}, 10)));
  EXPECT_EQ(result.finish_reason, FinishReason::kLength);
}

TEST(EngineCoreTest, AReaderThatNeverReadsIsEndedAfterAWhile) {
  EngineOptions options = SmallEngine();
  options.stream_capacity = 4;
  options.reader_stall_max = milliseconds(500);
  HandSteppedEngine engine(options);
  auto stream = *engine.Submit(MakeRequest({1}, 10));
  engine.StepUntilIdle();
  ASSERT_TRUE(engine.core->NextEvent().has_value());
  engine.now = *engine.core->NextEvent() - milliseconds(1);
  engine.Step();
  EXPECT_EQ(engine.core->turn_count(), 1);
  engine.Step();
  EXPECT_EQ(engine.core->turn_count(), 0);
  const StreamResult result = ReadAll(*stream);
  EXPECT_EQ(result.tokens.size(), 4u);
  EXPECT_EQ(result.status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(result.status.message()), HasSubstr("reader_stall_max, 0.5 s"));
  EXPECT_EQ(engine.core->pool().free_count(), 4);
}

TEST(EngineCoreTest, AParkedTurnGivesItsSlotToThoseWhoWaitAndGetsOneBack) {
  EngineOptions options = SmallEngine(1);
  options.stream_capacity = 4;
  HandSteppedEngine engine(options);
  auto slow = *engine.Submit(MakeRequest({1}, 10));
  engine.StepUntilIdle();
  auto other = *engine.Submit(MakeRequest({2}, 3));
  engine.StepUntilIdle();
  EXPECT_THAT(ReadAll(*other).tokens, ElementsAreArray(FakeModel::Continue({2}, 3)));
  EXPECT_EQ(engine.core->waiting_count(), 1);
  StreamResult result;
  while (!TakeNow(*slow, &result)) engine.StepUntilIdle();
  EXPECT_THAT(result.tokens, ElementsAreArray(FakeModel::Continue({1}, 10)));
  EXPECT_EQ(engine.core->store().state_count(), 0);
  EXPECT_EQ(engine.core->pool().free_count(), 1);
}

TEST(EngineCoreTest, WhenNoStateFitsAnywhereATurnFailsWithTheLimit) {
  EngineOptions options = SmallEngine(1);
  options.host_state_bytes_max = 10;
  HandSteppedEngine engine(options);
  EXPECT_TRUE(engine.Generate(MakeRequest({1}, 2, "a")).status.ok());
  const absl::Status status = engine.Generate(MakeRequest({1}, 2, "b")).status;
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("host_state_bytes_max 10"));
  EXPECT_TRUE(engine.Generate(MakeRequest({1}, 2, "a")).status.ok());
  EXPECT_TRUE(engine.core->DeleteSession("a").ok());
  EXPECT_TRUE(engine.Generate(MakeRequest({1}, 2, "b")).status.ok());
}

TEST(EngineCoreTest, LogitsThatAreNotFiniteEndOneTurnAndSpoilItsSession) {
  FakeModelOptions model;
  model.nan_token = 13;
  HandSteppedEngine engine(SmallEngine(), model);
  auto healthy = *engine.Submit(MakeRequest({1}, 20));
  auto first = *engine.Submit(MakeRequest({13}, 5, "s"));
  auto queued = *engine.Submit(MakeRequest({2}, 5, "s"));
  engine.StepUntilIdle();
  const absl::Status status = ReadAll(*first).status;
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(std::string(status.message()), HasSubstr("position 1 are not finite"));
  EXPECT_EQ(ReadAll(*queued).status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(ReadAll(*healthy).tokens, ElementsAreArray(FakeModel::Continue({1}, 20)));
  EXPECT_EQ(engine.Generate(MakeRequest({2}, 5, "s")).status.code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(engine.core->pool().free_count(), 4);
  EXPECT_TRUE(engine.core->DeleteSession("s").ok());
  EXPECT_TRUE(engine.Generate(MakeRequest({2}, 5, "s")).status.ok());
}

TEST(EngineCoreTest, ALostDeviceEndsEveryTurn) {
  HandSteppedEngine engine(SmallEngine(1));
  auto running = *engine.Submit(MakeRequest({1}, 20, "s"));
  auto waiting = *engine.Submit(MakeRequest({1}, 20));
  engine.Step();
  engine.backend->FailSynchronize(1);
  EXPECT_FALSE(engine.Step());
  EXPECT_EQ(ReadAll(*running).status.code(), absl::StatusCode::kInternal);
  EXPECT_EQ(ReadAll(*waiting).status.code(), absl::StatusCode::kInternal);
  EXPECT_EQ(engine.core->health().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(engine.Generate(MakeRequest({1}, 1)).status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(engine.core->CreateSession("n").status().code(), absl::StatusCode::kUnavailable);
}

TEST(EngineCoreTest, DeleteCancelsTheSessionsTurns) {
  HandSteppedEngine engine(SmallEngine());
  auto running = *engine.Submit(MakeRequest({1}, 200, "s"));
  auto waiting = *engine.Submit(MakeRequest({1}, 200, "s"));
  engine.Step();
  EXPECT_EQ(engine.core->GetSession("s")->state, SessionInfo::State::kActive);
  EXPECT_TRUE(engine.core->DeleteSession("s").ok());
  EXPECT_EQ(ReadAll(*running).finish_reason, FinishReason::kCancelled);
  EXPECT_EQ(ReadAll(*waiting).finish_reason, FinishReason::kCancelled);
  EXPECT_EQ(engine.core->DeleteSession("s").code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(engine.core->pool().free_count(), 4);
  EXPECT_EQ(engine.core->sessions().session_count(), 0);
}

TEST(EngineCoreTest, GaugesAndCountersTellWhatIsGoingOn) {
  HandSteppedEngine engine(SmallEngine(2));
  auto a = *engine.Submit(MakeRequest({1, 2, 3}, 5, "a"));
  auto b = *engine.Submit(MakeRequest({1}, 5));
  auto c = *engine.Submit(MakeRequest({1}, 5));
  engine.Step();
  EXPECT_EQ(engine.metrics.requests_running.value(), 2);
  EXPECT_EQ(engine.metrics.requests_waiting.value(), 1);
  EXPECT_EQ(engine.metrics.slots_used.value(), 2);
  EXPECT_EQ(engine.metrics.slots_free.value(), 0);
  EXPECT_EQ(engine.metrics.sessions_active.value(), 3);
  engine.StepUntilIdle();
  EXPECT_EQ(engine.metrics.requests_running.value(), 0);
  EXPECT_EQ(engine.metrics.sessions_active.value(), 0);
  EXPECT_EQ(engine.metrics.slots_idle.value(), 1);
  EXPECT_EQ(engine.metrics.prompt_tokens.value(), 5);
  EXPECT_EQ(engine.metrics.generation_tokens.value(), 15);
  EXPECT_EQ(engine.metrics.finished[static_cast<size_t>(FinishReason::kLength)].value(), 3);
  const auto total = [](const Histogram& histogram) {
    int64_t count = 0;
    for (size_t i = 0; i <= histogram.bounds().size(); ++i) count += histogram.bucket_count(i);
    return count;
  };
  EXPECT_EQ(total(engine.metrics.time_to_first_token), 3);
  EXPECT_EQ(total(engine.metrics.inter_token_latency), 12);
  EXPECT_EQ(total(engine.metrics.e2e_request_latency), 3);
  EXPECT_EQ(total(engine.metrics.request_queue_time), 3);
  EXPECT_EQ(total(engine.metrics.request_decode_time), 3);
  EXPECT_GT(engine.core->AverageTurnTime(), Duration::zero());
}

TEST(EngineCoreTest, LogProbsAndPenaltiesReachTheSampler) {
  HandSteppedEngine engine(SmallEngine());
  TurnRequest request = MakeRequest({1}, 3);
  request.wants_log_probs = true;
  request.alternative_count = 3;
  const int32_t natural = FakeModel::Continue({1}, 1)[0];
  const StreamResult plain = engine.Generate(request);
  ASSERT_EQ(plain.log_probs.size(), 3u);
  EXPECT_EQ(plain.log_probs[0].token, natural);
  ASSERT_EQ(plain.log_probs[0].alternatives.size(), 3u);
  EXPECT_EQ(plain.log_probs[0].alternatives[0].token, natural);
  EXPECT_LT(plain.log_probs[0].log_prob, 0);
  request.sampling.biases = {{natural, -1000}};
  EXPECT_NE(engine.Generate(request).tokens[0], natural);
}

}  // namespace
}  // namespace eddy
