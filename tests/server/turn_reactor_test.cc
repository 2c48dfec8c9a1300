// SPDX-License-Identifier: Apache-2.0
#include "server/turn_reactor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>
#include <utility>
#include <vector>

#include "tests/server/server_fixture.h"

namespace eddy {
namespace {

class GenerateTest : public testing::TestWithParam<Transport> {};
INSTANTIATE_TEST_SUITE_P(Transports, GenerateTest,
                         testing::Values(Transport::kInProcess, Transport::kLoopback),
                         [](const auto& instance) {
                           return instance.param == Transport::kInProcess ? "InProcess"
                                                                          : "Loopback";
                         });

TEST_P(GenerateTest, TokensComeInOrderWithPositionsTextAndUsage) {
  ServedEngine served(GetParam());
  const CallResult result = Generate(*served.generation, GenerateOf({1, 2, 3}, 40));
  ASSERT_TRUE(result.status.ok()) << result.status.error_message();
  const std::vector<int32_t> expected = FakeModel::Continue({1, 2, 3}, 40);
  EXPECT_EQ(result.tokens, expected);
  EXPECT_EQ(result.messages.front().position(), 3u);
  std::string text;
  for (int32_t token : expected) text += static_cast<char>('a' + token % 26);
  EXPECT_EQ(result.text, text);
  EXPECT_EQ(result.finish_reason, v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(result.usage.prompt_tokens(), 3u);
  EXPECT_EQ(result.usage.generated_tokens(), 40u);
  EXPECT_EQ(result.usage.reused_tokens(), 0u);
}

TEST_P(GenerateTest, TheSeedGivenComesBackAndOneNotGivenIsDrawn) {
  ServedEngine served(GetParam());
  v1::GenerateRequest request = GenerateOf({1}, 2);
  const CallResult a = Generate(*served.generation, request);
  const CallResult b = Generate(*served.generation, request);
  EXPECT_NE(a.messages.front().seed(), b.messages.front().seed());
  request.mutable_sampling()->set_seed(4711);
  EXPECT_EQ(Generate(*served.generation, request).messages.front().seed(), 4711u);
}

TEST_P(GenerateTest, WhatComesWhileAWriteIsInFlightBecomesOneMessage) {
  ServedEngine served(GetParam());
  v1::GenerateRequest request = GenerateOf({5}, 200);
  grpc::ClientContext context;
  auto reader = served.generation->Generate(&context, request);
  const EngineMetrics& metrics = served.engine->metrics();
  ASSERT_TRUE(Eventually([&] { return metrics.generation_tokens.value() == 200; }));
  const CallResult result = ReadRest(reader.get(), context);
  ASSERT_TRUE(result.status.ok());
  EXPECT_EQ(result.tokens, FakeModel::Continue({5}, 200));
  // In process a write ends when the client reads: the second message has all that came meanwhile.
  // Over a socket it is a matter of speed.
  if (GetParam() == Transport::kInProcess) {
    EXPECT_LT(result.messages.size(), 100u);
  }
}

TEST_P(GenerateTest, LogProbsComeOnePerToken) {
  ServedEngine served(GetParam());
  v1::GenerateRequest request = GenerateOf({1}, 10);
  request.mutable_output()->set_log_probs(true);
  request.mutable_output()->set_top_log_probs(3);
  const CallResult result = Generate(*served.generation, request);
  ASSERT_TRUE(result.status.ok());
  size_t token_index = 0;
  for (const v1::GenerateResponse& message : result.messages) {
    ASSERT_EQ(message.log_probs_size(), message.token_ids_size());
    for (const v1::TokenLogProb& log_prob : message.log_probs()) {
      const auto token = static_cast<uint32_t>(result.tokens[token_index++]);
      EXPECT_EQ(log_prob.token().token_id(), token);
      ASSERT_EQ(log_prob.top_size(), 3);
      EXPECT_EQ(log_prob.top(0).token_id(), token);
      EXPECT_GE(log_prob.top(0).log_prob(), log_prob.top(1).log_prob());
    }
  }
  EXPECT_EQ(token_index, 10u);
}

TEST_P(GenerateTest, ACancelledCallFreesItsSlot) {
  ServedEngine served(GetParam(), SmallEngine(1));
  grpc::ClientContext context;
  auto reader = served.generation->Generate(&context, GenerateOf({1}, 1'000'000));
  v1::GenerateResponse message;
  ASSERT_TRUE(reader->Read(&message));
  context.TryCancel();
  while (reader->Read(&message)) {
  }
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  const EngineMetrics& metrics = served.engine->metrics();
  EXPECT_TRUE(Eventually([&] {
    return metrics.finished[static_cast<size_t>(FinishReason::kCancelled)].value() == 1 &&
           metrics.requests_running.value() == 0;
  }));
  // The only slot is there for the next one.
  EXPECT_EQ(Generate(*served.generation, GenerateOf({2}, 3)).tokens, FakeModel::Continue({2}, 3));
}

TEST_P(GenerateTest, ACallCancelledWhileItWaitsNeverRuns) {
  ServedEngine served(GetParam(), SmallEngine(1));
  served.gate.Close();
  grpc::ClientContext first_context;
  auto first = served.generation->Generate(&first_context, GenerateOf({1}, 5));
  served.gate.WaitForStep(1);
  grpc::ClientContext context;
  auto waiting = served.generation->Generate(&context, GenerateOf({2}, 5));
  context.TryCancel();
  EXPECT_EQ(waiting->Finish().error_code(), grpc::StatusCode::CANCELLED);
  served.gate.Open();
  EXPECT_EQ(ReadRest(first.get(), first_context).tokens, FakeModel::Continue({1}, 5));
}

TEST_P(GenerateTest, TheDeadlineBringsWhatWasGenerated) {
  FakeModelOptions model;
  model.before_step = [] { std::this_thread::sleep_for(std::chrono::milliseconds(2)); };
  ServedEngine served(GetParam(), SmallEngine(), model);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(800));
  auto reader = served.generation->Generate(&context, GenerateOf({1}, 1'000'000));
  const CallResult result = ReadRest(reader.get(), context);
  ASSERT_TRUE(result.status.ok()) << result.status.error_message();
  EXPECT_EQ(result.finish_reason, v1::FINISH_REASON_DEADLINE);
  ASSERT_GT(result.tokens.size(), 0u);
  EXPECT_EQ(result.tokens, FakeModel::Continue({1}, static_cast<int>(result.tokens.size())));
}

TEST_P(GenerateTest, SixtyFourCallsAtOnceGetWhatTheyGetAlone) {
  ServedEngine served(GetParam(), SmallEngine(16));
  std::vector<CallResult> results(64);
  std::vector<std::thread> threads;
  for (int i = 0; i < 64; ++i) {
    threads.emplace_back([&, i] {
      results[static_cast<size_t>(i)] = Generate(*served.generation, GenerateOf({i, 63 - i}, 50));
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (int i = 0; i < 64; ++i) {
    EXPECT_EQ(results[static_cast<size_t>(i)].tokens, FakeModel::Continue({i, 63 - i}, 50));
    EXPECT_TRUE(results[static_cast<size_t>(i)].status.ok());
  }
}

// Asks for more bytes than any window takes, and does not read.
struct SlowReader {
  static constexpr int kTokens = 200'000;
  explicit SlowReader(const ServedEngine& served) : connection(served.NewConnection()) {
    v1::GenerateRequest request = GenerateOf({1}, kTokens);
    request.mutable_output()->set_log_probs(true);
    request.mutable_output()->set_top_log_probs(20);
    reader = v1::Generation::NewStub(connection)->Generate(&context, request);
  }
  std::shared_ptr<grpc::Channel> connection;
  grpc::ClientContext context;
  std::unique_ptr<grpc::ClientReader<v1::GenerateResponse>> reader;
};

// Flow control and a full TokenStream stop its turn; nobody else notices, and nothing is lost.
TEST(SlowReaderTest, IsParkedAndHoldsUpNobody) {
  ServedEngine served(Transport::kLoopback);
  const EngineMetrics& metrics = served.engine->metrics();
  SlowReader slow(served);
  int64_t generated = -1;
  ASSERT_TRUE(Eventually([&] {
    const int64_t before = std::exchange(generated, metrics.generation_tokens.value());
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    return before == generated && generated > 0;
  }));
  EXPECT_LT(generated, SlowReader::kTokens);
  EXPECT_GE(metrics.stream_parked.value(), 1);

  const CallResult fast = Generate(*served.generation, GenerateOf({2}, 100));
  EXPECT_EQ(fast.tokens, FakeModel::Continue({2}, 100));
  // The client's transport may take a little more meanwhile, never all of it.
  EXPECT_LT(metrics.generation_tokens.value(), SlowReader::kTokens);

  const CallResult result = ReadRest(slow.reader.get(), slow.context);
  ASSERT_TRUE(result.status.ok()) << result.status.error_message();
  EXPECT_EQ(result.tokens, FakeModel::Continue({1}, SlowReader::kTokens));
}

TEST(SlowReaderTest, IsEndedWhenItDoesNotReadAtAll) {
  EngineOptions options = SmallEngine(1);
  options.reader_stall_max = std::chrono::milliseconds(50);
  ServedEngine served(Transport::kLoopback, options);
  const EngineMetrics& metrics = served.engine->metrics();
  SlowReader slow(served);
  ASSERT_TRUE(Eventually([&] {
    return metrics.failed[static_cast<size_t>(absl::StatusCode::kResourceExhausted)].value() == 1;
  }));
  EXPECT_EQ(Generate(*served.generation, GenerateOf({2}, 10)).tokens, FakeModel::Continue({2}, 10));
  const CallResult result = ReadRest(slow.reader.get(), slow.context);
  EXPECT_EQ(result.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(result.trailers.count("grpc-retry-pushback-ms"), 1u);
  // What it has got before is right.
  EXPECT_EQ(result.tokens, FakeModel::Continue({1}, static_cast<int>(result.tokens.size())));
}

TEST(LostDeviceTest, EndsTheCallWithItsSentence) {
  ServedEngine served;
  served.backend->FailSynchronize(3);
  const CallResult result = Generate(*served.generation, GenerateOf({1}, 1000));
  EXPECT_EQ(result.status.error_code(), grpc::StatusCode::INTERNAL);
  EXPECT_THAT(result.status.error_message(), testing::HasSubstr("device is lost"));
  ASSERT_TRUE(Eventually([&] { return !served.engine->healthy(); }));
  EXPECT_EQ(Generate(*served.generation, GenerateOf({1}, 10)).status.error_code(),
            grpc::StatusCode::UNAVAILABLE);
}

}  // namespace
}  // namespace eddy
