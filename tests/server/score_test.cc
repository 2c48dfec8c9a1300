// SPDX-License-Identifier: Apache-2.0
// Score calls through a whole server.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tests/server/server_fixture.h"
#include "tests/support/score_check.h"

namespace eddy {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

v1::ScoreRequest ScoreOf(const std::vector<int32_t>& text, uint32_t top = 0) {
  v1::ScoreRequest request;
  for (int32_t token : text) {
    request.mutable_prompt()->mutable_token_ids()->add_ids(static_cast<uint32_t>(token));
  }
  request.set_top_log_probs(top);
  return request;
}

std::vector<int32_t> Text(int count) {
  std::vector<int32_t> text;
  for (int i = 0; i < count; ++i) text.push_back((i % 64 * (i % 64) * 7 + i) % 64);
  return text;
}

// All that one call gave.
struct ScoreCall {
  std::vector<v1::TokenLogProb> tokens;
  int message_count = 0;
  size_t message_bytes_max = 0;
  v1::FinishReason finish_reason = v1::FINISH_REASON_UNSPECIFIED;
  v1::Usage usage;
  grpc::Status status;
};

ScoreCall ReadRest(grpc::ClientReader<v1::ScoreResponse>* reader) {
  ScoreCall call;
  v1::ScoreResponse message;
  while (reader->Read(&message)) {
    EXPECT_EQ(call.finish_reason, v1::FINISH_REASON_UNSPECIFIED) << "a message after the last one";
    EXPECT_EQ(message.position(), call.tokens.size());
    ++call.message_count;
    call.message_bytes_max = std::max(call.message_bytes_max, message.ByteSizeLong());
    call.tokens.insert(call.tokens.end(), message.tokens().begin(), message.tokens().end());
    EXPECT_EQ(message.has_finish_reason(), message.has_usage());
    call.finish_reason = message.finish_reason();
    call.usage = message.usage();
  }
  call.status = reader->Finish();
  return call;
}

ScoreCall Score(v1::Generation::Stub& stub, const v1::ScoreRequest& request) {
  grpc::ClientContext context;
  return ReadRest(stub.Score(&context, request).get());
}

// The text, or a beginning of it, with what the model says.
void ExpectScored(const ScoreCall& call, const std::vector<int32_t>& text, size_t top) {
  ASSERT_LE(call.tokens.size(), text.size());
  for (size_t i = 0; i < call.tokens.size(); ++i) {
    const v1::LogProb& token = call.tokens[i].token();
    ASSERT_EQ(token.token_id(), static_cast<uint32_t>(text[i]));
    ASSERT_EQ(token.has_log_prob(), i > 0);
    ASSERT_EQ(static_cast<size_t>(call.tokens[i].top_size()), i > 0 ? top : 0);
    if (i == 0) continue;
    const std::vector<float> log_probs = FakeLogProbs(std::span(text).first(i), 64);
    ASSERT_EQ(token.log_prob(), log_probs[token.token_id()]) << "token " << i;
    for (const v1::LogProb& other : call.tokens[i].top()) {
      ASSERT_EQ(other.log_prob(), log_probs[other.token_id()]);
    }
  }
}

class ScoreTest : public testing::TestWithParam<Transport> {};
INSTANTIATE_TEST_SUITE_P(Transports, ScoreTest,
                         testing::Values(Transport::kInProcess, Transport::kLoopback),
                         [](const auto& instance) {
                           return instance.param == Transport::kInProcess ? "InProcess"
                                                                          : "Loopback";
                         });

TEST_P(ScoreTest, EveryTokenComesInOrderWithUsageAtTheEnd) {
  ServedEngine served(GetParam());
  for (const int count : {1, 2, 3, 100, 1500}) {
    for (const uint32_t top : {0u, 3u}) {
      const ScoreCall call = Score(*served.generation, ScoreOf(Text(count), top));
      ASSERT_TRUE(call.status.ok()) << call.status.error_message();
      ASSERT_EQ(call.tokens.size(), static_cast<size_t>(count));
      ExpectScored(call, Text(count), top);
      EXPECT_EQ(call.finish_reason, v1::FINISH_REASON_SCORED);
      EXPECT_EQ(call.usage.prompt_tokens(), static_cast<uint32_t>(count));
      EXPECT_EQ(call.usage.generated_tokens(), 0u);
    }
  }
}

TEST_P(ScoreTest, TextIsTokenizedAndItsBytesComeWhenAskedFor) {
  ServedEngine served(GetParam());
  v1::ScoreRequest request;
  request.mutable_prompt()->set_text("abc");
  ScoreCall call = Score(*served.generation, request);
  ASSERT_TRUE(call.status.ok()) << call.status.error_message();
  ExpectScored(call, {0, 1, 2}, 0);
  EXPECT_FALSE(call.tokens.at(1).token().has_bytes());
  request.set_token_bytes(true);
  call = Score(*served.generation, request);
  EXPECT_EQ(call.tokens.at(0).token().bytes(), "a");
  EXPECT_EQ(call.tokens.at(2).token().bytes(), "c");
}

TEST_P(ScoreTest, TheDeadlineBringsWhatWasScored) {
  FakeModelOptions model;
  model.before_step = [] { std::this_thread::sleep_for(milliseconds(5)); };
  ServedEngine served(GetParam(), SmallEngine(), model);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + milliseconds(600));
  auto reader = served.generation->Score(&context, ScoreOf(Text(100'000)));
  const ScoreCall call = ReadRest(reader.get());
  ASSERT_TRUE(call.status.ok()) << call.status.error_message();
  EXPECT_EQ(call.finish_reason, v1::FINISH_REASON_DEADLINE);
  EXPECT_GT(call.tokens.size(), 1u);
  EXPECT_LT(call.tokens.size(), 100'000u);
  EXPECT_EQ(call.usage.prompt_tokens(), 100'000u);
}

TEST_P(ScoreTest, ACancelledCallFreesItsSlot) {
  ServedEngine served(GetParam(), SmallEngine(1));
  grpc::ClientContext context;
  auto reader = served.generation->Score(&context, ScoreOf(Text(100'000), 64));
  v1::ScoreResponse message;
  ASSERT_TRUE(reader->Read(&message));
  context.TryCancel();
  while (reader->Read(&message)) {
  }
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  const EngineMetrics& metrics = served.engine->metrics();
  EXPECT_TRUE(Eventually([&] {
    return metrics.finished[static_cast<size_t>(FinishReason::kCancelled)].value() == 1;
  }));
  EXPECT_EQ(Generate(*served.generation, GenerateOf({2}, 3)).tokens, FakeModel::Continue({2}, 3));
}

TEST_P(ScoreTest, ScoringAndGeneratingAtOnceGiveWhatTheyGiveAlone) {
  ServedEngine served(GetParam(), SmallEngine(8));
  std::vector<std::thread> threads;
  for (int i = 0; i < 24; ++i) {
    threads.emplace_back([&served, i] {
      if (i % 2 == 0) {
        EXPECT_EQ(Generate(*served.generation, GenerateOf({i}, 60)).tokens,
                  FakeModel::Continue({i}, 60));
        return;
      }
      const ScoreCall call = Score(*served.generation, ScoreOf(Text(40 * i), 2));
      EXPECT_EQ(call.finish_reason, v1::FINISH_REASON_SCORED);
      ExpectScored(call, Text(40 * i), 2);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// Flow control and a full TokenStream stop it; nobody else notices, and nothing is lost.
TEST(SlowScoreReaderTest, IsParkedAndItsMessagesStaySmall) {
  EngineOptions options = SmallEngine();
  options.stream_capacity = 1 << 20;  // what bounds it is the number of alternatives
  FakeModelOptions model;
  model.vocabulary_size = 300;
  ServedEngine served(Transport::kLoopback, options, model, QuietServer(), nullptr);
  grpc::ClientContext context;
  auto reader = served.generation->Score(&context, ScoreOf(Text(8000), 256));
  const EngineMetrics& metrics = served.engine->metrics();
  int64_t scored = -1;
  ASSERT_TRUE(Eventually([&] {
    const int64_t before = std::exchange(scored, metrics.scored_tokens.value());
    std::this_thread::sleep_for(milliseconds(200));
    return before == scored && scored > 0;
  }));
  EXPECT_LT(scored, 7999);
  EXPECT_GE(metrics.stream_parked.value(), 1);
  EXPECT_EQ(Generate(*served.generation, GenerateOf({2}, 20)).tokens,
            FakeModel::Continue({2}, 20, 300));
  const ScoreCall call = ReadRest(reader.get());
  ASSERT_TRUE(call.status.ok()) << call.status.error_message();
  EXPECT_EQ(call.tokens.size(), 8000u);
  EXPECT_EQ(call.finish_reason, v1::FINISH_REASON_SCORED);
  // What gRPC's clients take by default.
  EXPECT_LT(call.message_bytes_max, size_t{4} << 20);
}

TEST(ScoreServiceTest, BadRequestsAreRefusedWithFieldValueAndLimit) {
  EngineOptions options = SmallEngine();
  options.prompt_token_count_max = 50;
  options.score_token_count_max = 20;
  ServedEngine served(Transport::kInProcess, options);
  struct Bad {
    std::function<void(v1::ScoreRequest*)> spoil;
    std::string sentence;
    grpc::StatusCode code = grpc::StatusCode::INVALID_ARGUMENT;
  };
  const std::vector<Bad> bad_requests = {
      {[](auto* r) { r->set_model("gpt"); }, "model \"gpt\"", grpc::StatusCode::NOT_FOUND},
      {[](auto* r) { r->clear_prompt(); }, "prompt is missing"},
      {[](auto* r) { r->mutable_prompt()->mutable_token_ids()->clear_ids(); },
       "prompt is empty: at least 1 token"},
      {[](auto* r) { r->mutable_prompt()->set_text(""); }, "prompt is empty: at least 1 token"},
      {[](auto* r) { r->mutable_prompt()->mutable_token_ids()->add_ids(64); },
       "prompt.token_ids.ids[3] is 64"},
      {[](auto* r) { r->mutable_prompt()->set_text(std::string(21, 'a')); },
       "prompt has 21 tokens to score: at most 20"},
      {[](auto* r) { r->mutable_prompt()->set_text(std::string(51, 'a')); }, "at most 50"},
      {[](auto* r) { r->set_top_log_probs(257); }, "top_log_probs is 257: it must lie in [0, 256]"},
  };
  for (const Bad& bad : bad_requests) {
    v1::ScoreRequest request = ScoreOf({1, 2, 3});
    bad.spoil(&request);
    const ScoreCall call = Score(*served.generation, request);
    EXPECT_EQ(call.status.error_code(), bad.code) << bad.sentence;
    EXPECT_THAT(call.status.error_message(), HasSubstr(bad.sentence));
    EXPECT_TRUE(call.tokens.empty());
  }
  v1::ScoreRequest edge = ScoreOf({}, 256);
  edge.mutable_prompt()->set_text(std::string(20, 'a'));
  EXPECT_TRUE(Score(*served.generation, edge).status.ok());
  // prompt { text: "\xff" }
  const RawReply reply =
      CallRaw(served.channel, "/eddy.v1.Generation/Score", std::string("\x12\x03\x0a\x01\xff", 5));
  EXPECT_EQ(reply.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST(ScoreServiceTest, WithoutTokenizerTokenIdsAreScoredAndTextIsRefused) {
  ServedEngine served(Transport::kInProcess, SmallEngine(), {}, QuietServer(), nullptr);
  v1::ScoreRequest request = ScoreOf({1, 2, 3}, 1);
  request.set_token_bytes(true);
  const ScoreCall call = Score(*served.generation, request);
  ASSERT_TRUE(call.status.ok()) << call.status.error_message();
  ExpectScored(call, {1, 2, 3}, 1);
  EXPECT_FALSE(call.tokens.at(1).token().has_bytes());
  EXPECT_FALSE(call.tokens.at(1).top(0).has_bytes());
  request.mutable_prompt()->set_text("abc");
  EXPECT_EQ(Score(*served.generation, request).status.error_code(),
            grpc::StatusCode::FAILED_PRECONDITION);
}

TEST(ScoreServiceTest, DrainingEndsItWithWhatWasScored) {
  ServedEngine served(Transport::kLoopback);
  served.gate.Close();
  grpc::ClientContext context;
  auto reader = served.generation->Score(&context, ScoreOf(Text(5000)));
  served.gate.WaitForStep(1);
  std::thread drain([&] { served.server->Drain(milliseconds(50)); });
  ASSERT_TRUE(Eventually([&] {
    grpc::ClientContext probe_context;
    probe_context.set_deadline(std::chrono::system_clock::now() + milliseconds(200));
    return ReadRest(served.generation->Score(&probe_context, ScoreOf({1})).get())
               .status.error_code() == grpc::StatusCode::UNAVAILABLE;
  }));
  std::this_thread::sleep_for(milliseconds(60));
  served.gate.Open();
  const ScoreCall call = ReadRest(reader.get());
  drain.join();
  EXPECT_TRUE(call.status.ok()) << call.status.error_message();
  EXPECT_EQ(call.finish_reason, v1::FINISH_REASON_CANCELLED);
  EXPECT_LT(call.tokens.size(), 5000u);
  ExpectScored(call, Text(5000), 0);
}

}  // namespace
}  // namespace eddy
