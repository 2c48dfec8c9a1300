// SPDX-License-Identifier: Apache-2.0
#include "server/converse_reactor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "tests/server/server_fixture.h"

namespace eddy {
namespace {

using testing::HasSubstr;

// One call, spoken line by line.
class Conversation {
 public:
  explicit Conversation(v1::Generation::Stub& stub) : stream_(stub.Converse(&context)) {}

  Conversation& Open(const std::string& session = "", bool create = false) {
    v1::ConverseRequest request;
    request.mutable_open()->set_session(session);
    request.mutable_open()->set_create_session(create);
    return Send(request);
  }
  Conversation& Append(const std::vector<int32_t>& tokens) {
    v1::ConverseRequest request;
    auto* ids = request.mutable_append()->mutable_prompt()->mutable_token_ids();
    for (int32_t token : tokens) ids->add_ids(static_cast<uint32_t>(token));
    return Send(request);
  }
  Conversation& Generate(uint32_t max_tokens, uint32_t deadline_ms = 0) {
    v1::ConverseRequest request;
    request.mutable_generate()->mutable_sampling()->set_temperature(0);
    request.mutable_generate()->mutable_stop()->set_max_tokens(max_tokens);
    if (deadline_ms > 0) request.mutable_generate()->set_deadline_ms(deadline_ms);
    return Send(request);
  }
  Conversation& Cancel() {
    v1::ConverseRequest request;
    request.mutable_cancel();
    return Send(request);
  }
  Conversation& Send(const v1::ConverseRequest& request) {
    stream_->Write(request);
    return *this;
  }
  bool Read(v1::ConverseResponse* response) { return stream_->Read(response); }
  // A whole turn. finish_reason is UNSPECIFIED when the call ended instead.
  CallResult ReadTurn(uint32_t number) {
    CallResult result;
    v1::ConverseResponse response;
    while (result.finish_reason == v1::FINISH_REASON_UNSPECIFIED && stream_->Read(&response)) {
      EXPECT_EQ(response.turn(), number);
      AddMessage(response.output(), &result);
    }
    return result;
  }
  void HalfClose() {
    if (!is_half_closed_) stream_->WritesDone();
    is_half_closed_ = true;
  }
  grpc::Status Finish() {
    HalfClose();
    v1::ConverseResponse response;
    while (stream_->Read(&response)) {
    }
    return stream_->Finish();
  }

  grpc::ClientContext context;

 private:
  bool is_half_closed_ = false;
  std::unique_ptr<grpc::ClientReaderWriter<v1::ConverseRequest, v1::ConverseResponse>> stream_;
};

class ConverseTest : public testing::TestWithParam<Transport> {};
INSTANTIATE_TEST_SUITE_P(Transports, ConverseTest,
                         testing::Values(Transport::kInProcess, Transport::kLoopback),
                         [](const auto& instance) {
                           return instance.param == Transport::kInProcess ? "InProcess"
                                                                          : "Loopback";
                         });

TEST_P(ConverseTest, TurnsOfAnUnnamedConversationContinueOneSession) {
  ServedEngine served(GetParam());
  {
    Conversation talk(*served.generation);
    std::vector<int32_t> history;
    talk.Open();
    for (uint32_t turn = 1; turn <= 3; ++turn) {
      // Two appends are read as one prompt.
      const auto a = static_cast<int32_t>(turn);
      talk.Append({a, a}).Append({9}).Generate(20);
      history = Joined(history, {a, a, 9});
      const CallResult result = talk.ReadTurn(turn);
      EXPECT_EQ(result.tokens, FakeModel::Continue(history, 20));
      EXPECT_EQ(result.finish_reason, v1::FINISH_REASON_LENGTH);
      EXPECT_EQ(result.usage.prompt_tokens(), history.size());
      history = Joined(history, result.tokens);
    }
    // The session is nobody else's business while it lives...
    grpc::ClientContext context;
    v1::ListSessionsResponse list;
    ASSERT_TRUE(served.sessions->List(&context, {}, &list).ok());
    EXPECT_EQ(list.sessions_size(), 0);
    EXPECT_EQ(served.engine->metrics().sessions_resident.value(), 1);
    EXPECT_TRUE(talk.Finish().ok());
  }
  // ...and ends with the call.
  EXPECT_TRUE(Eventually([&] { return served.engine->metrics().sessions_resident.value() == 0; }));
}

TEST_P(ConverseTest, ANamedSessionStays) {
  ServedEngine served(GetParam());
  Conversation talk(*served.generation);
  talk.Open("s", true).Append({1}).Generate(5);
  const CallResult first = talk.ReadTurn(1);
  EXPECT_TRUE(talk.Finish().ok());
  const CallResult second = Generate(*served.generation, GenerateOf({2}, 5, "s"));
  EXPECT_EQ(second.tokens, FakeModel::Continue(Joined(Joined({1}, first.tokens), {2}), 5));
}

TEST_P(ConverseTest, CancelEndsTheTurnAndTheConversationGoesOn) {
  ServedEngine served(GetParam());
  Conversation talk(*served.generation);
  talk.Open().Cancel().Append({1}).Generate(1'000'000);
  v1::ConverseResponse response;
  ASSERT_TRUE(talk.Read(&response));
  CallResult first;
  AddMessage(response.output(), &first);
  talk.Cancel();
  while (first.finish_reason == v1::FINISH_REASON_UNSPECIFIED && talk.Read(&response)) {
    AddMessage(response.output(), &first);
  }
  EXPECT_EQ(first.finish_reason, v1::FINISH_REASON_CANCELLED);
  EXPECT_EQ(first.tokens, FakeModel::Continue({1}, static_cast<int>(first.tokens.size())));
  talk.Append({2}).Generate(5);
  const CallResult second = talk.ReadTurn(2);
  EXPECT_EQ(second.tokens, FakeModel::Continue(Joined(Joined({1}, first.tokens), {2}), 5));
  EXPECT_TRUE(talk.Finish().ok());
}

TEST_P(ConverseTest, AHalfClosedConversationStillGetsItsTurn) {
  ServedEngine served(GetParam());
  Conversation talk(*served.generation);
  talk.Open().Append({4}).Generate(30).HalfClose();
  EXPECT_EQ(talk.ReadTurn(1).tokens, FakeModel::Continue({4}, 30));
  EXPECT_TRUE(talk.Finish().ok());
}

TEST_P(ConverseTest, ATurnHasItsOwnDeadline) {
  FakeModelOptions model;
  model.before_step = [] { std::this_thread::sleep_for(std::chrono::milliseconds(2)); };
  ServedEngine served(GetParam(), SmallEngine(), model);
  Conversation talk(*served.generation);
  talk.Open().Append({1}).Generate(1'000'000, 100);
  const CallResult result = talk.ReadTurn(1);
  EXPECT_EQ(result.finish_reason, v1::FINISH_REASON_DEADLINE);
  EXPECT_GT(result.tokens.size(), 0u);
  talk.Append({2}).Generate(2);
  EXPECT_EQ(talk.ReadTurn(2).tokens.size(), 2u);
  EXPECT_TRUE(talk.Finish().ok());
}

TEST_P(ConverseTest, ACancelledCallEndsItsTurnAndItsSession) {
  ServedEngine served(GetParam(), SmallEngine(1));
  Conversation talk(*served.generation);
  talk.Open().Append({1}).Generate(1'000'000);
  v1::ConverseResponse response;
  ASSERT_TRUE(talk.Read(&response));
  talk.context.TryCancel();
  EXPECT_EQ(talk.Finish().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_TRUE(Eventually([&] { return served.engine->metrics().slots_free.value() == 1; }));
}

TEST_P(ConverseTest, AFailedTurnEndsTheCallAfterWhatItGave) {
  FakeModelOptions model;
  model.nan_token = FakeModel::Continue({1}, 10).back();
  ServedEngine served(GetParam(), SmallEngine(), model);
  Conversation talk(*served.generation);
  talk.Open().Append({1}).Generate(1000);
  const CallResult result = talk.ReadTurn(1);
  EXPECT_GT(result.tokens.size(), 0u);
  EXPECT_EQ(result.tokens, FakeModel::Continue({1}, static_cast<int>(result.tokens.size())));
  EXPECT_EQ(talk.Finish().error_code(), grpc::StatusCode::INTERNAL);
}

TEST_P(ConverseTest, BytesThatAreNoMessageAreRefusedAndNotTakenForTheEnd) {
  ServedEngine served(GetParam());
  const RawReply reply = CallRaw(served.channel, "/eddy.v1.Generation/Converse", "\xff");
  EXPECT_EQ(reply.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(reply.status.error_message(), HasSubstr("eddy.v1.ConverseRequest"));
}

struct BadTalk {
  std::string name;
  std::function<void(Conversation*)> talk;
  grpc::StatusCode code;
  std::string part;
};

std::vector<BadTalk> BadTalks() {
  using enum grpc::StatusCode;
  return {
      {"append first", [](auto* t) { t->Append({1}); }, FAILED_PRECONDITION, "open"},
      {"open twice", [](auto* t) { t->Open().Open(); }, FAILED_PRECONDITION, "open came twice"},
      {"no action", [](auto* t) { t->Open().Send({}); }, INVALID_ARGUMENT, "action is missing"},
      {"bad name", [](auto* t) { t->Open("~converse-1"); }, INVALID_ARGUMENT, "open.session"},
      {"create without name", [](auto* t) { t->Open("", true); }, INVALID_ARGUMENT,
       "open.create_session"},
      {"unknown session", [](auto* t) { t->Open("nobody").Append({1}).Generate(1); }, NOT_FOUND,
       "nobody"},
      {"bad token", [](auto* t) { t->Open().Append({64}); }, INVALID_ARGUMENT, "64"},
      {"nothing to read", [](auto* t) { t->Open().Generate(1); }, INVALID_ARGUMENT, "prompt"},
      {"no tokens wanted", [](auto* t) { t->Open().Append({1}).Generate(0); }, INVALID_ARGUMENT,
       "stop.max_tokens"},
      {"deadline too far", [](auto* t) { t->Open().Append({1}).Generate(1, 86'400'001); },
       INVALID_ARGUMENT, "generate.deadline_ms is 86400001"},
      {"too many appended",
       [](auto* t) {
         t->Open().Append(std::vector<int32_t>(60, 1)).Append(std::vector<int32_t>(60, 1));
       },
       INVALID_ARGUMENT, "120"},
  };
}

TEST_P(ConverseTest, WhatIsWrongEndsTheCallWithItsSentence) {
  EngineOptions options = SmallEngine();
  options.prompt_token_count_max = 100;
  ServedEngine served(GetParam(), options);
  for (const BadTalk& bad : BadTalks()) {
    Conversation talk(*served.generation);
    bad.talk(&talk);
    const grpc::Status status = talk.Finish();
    EXPECT_EQ(status.error_code(), bad.code) << bad.name << ": " << status.error_message();
    EXPECT_THAT(status.error_message(), HasSubstr(bad.part)) << bad.name;
  }
}

TEST_P(ConverseTest, OnlyCancelIsTakenWhileATurnRuns) {
  ServedEngine served(GetParam());
  Conversation talk(*served.generation);
  talk.Open().Append({1}).Generate(1'000'000).Append({2});
  CallResult first = talk.ReadTurn(1);
  EXPECT_EQ(first.finish_reason, v1::FINISH_REASON_CANCELLED);
  const grpc::Status status = talk.Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(status.error_message(), HasSubstr("append came while turn 1 runs"));
}

}  // namespace
}  // namespace eddy
