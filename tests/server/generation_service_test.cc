// SPDX-License-Identifier: Apache-2.0
#include "server/generation_service.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "engine/tokenizer/byte_tokenizer.h"
#include "engine/tokenizer/chat_template.h"
#include "tests/server/request_cases.h"
#include "tests/server/server_fixture.h"
#include "tests/support/model_files.h"

namespace eddy {
namespace {

using testing::HasSubstr;

TEST(GenerationServiceTest, BadRequestsAreRefusedAndOthersDoNotNotice) {
  EngineOptions engine = SmallEngine();
  engine.prompt_token_count_max = 50;
  ServerOptions options = QuietServer();
  options.prompt_bytes_max = 100;
  options.max_tokens_limit = 1000;
  ServedEngine served(Transport::kLoopback, engine, {}, options);
  grpc::ClientContext context;
  served.gate.Close();
  auto other = served.generation->Generate(&context, GenerateOf({3}, 1000));
  const std::vector<BadRequest> bad_requests = BadRequests();
  for (const BadRequest& bad : bad_requests) {
    served.gate.LetThrough(1);
    v1::GenerateRequest request = GoodRequest();
    bad.spoil(&request);
    const CallResult result = Generate(*served.generation, request);
    EXPECT_EQ(static_cast<int>(result.status.error_code()), static_cast<int>(bad.code)) << bad.name;
    for (const std::string& part : bad.parts) {
      EXPECT_THAT(result.status.error_message(), HasSubstr(part)) << bad.name;
    }
  }
  served.gate.Open();
  const CallResult result = ReadRest(other.get(), context);
  EXPECT_TRUE(result.status.ok());
  EXPECT_EQ(result.tokens, FakeModel::Continue({3}, 1000));
}

TEST(GenerationServiceTest, AFullQueueRefusesAtOnceAndSaysWhenToComeAgain) {
  EngineOptions options = SmallEngine(1);
  options.submit_queue_capacity = 1;
  ServedEngine served(Transport::kInProcess, options);
  served.gate.Close();
  grpc::ClientContext running_context;
  auto running = served.generation->Generate(&running_context, GenerateOf({1}, 5));
  served.gate.WaitForStep(1);
  grpc::ClientContext waiting_context;
  auto waiting = served.generation->Generate(&waiting_context, GenerateOf({2}, 5));
  // Which of the two comes first is gRPC's choice: one waits, one is refused.
  const auto refused_count = [&] {
    return served.engine->metrics()
        .failed[static_cast<size_t>(absl::StatusCode::kResourceExhausted)]
        .value();
  };
  CallResult refused;
  ASSERT_TRUE(Eventually([&] {
    grpc::ClientContext probe_context;
    probe_context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(200));
    auto probe = served.generation->Generate(&probe_context, GenerateOf({3}, 5));
    refused = ReadRest(probe.get(), probe_context);
    return refused.status.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED;
  }));
  EXPECT_THAT(refused.status.error_message(), HasSubstr("1"));
  ASSERT_EQ(refused.trailers.count("grpc-retry-pushback-ms"), 1u);
  const int pushback_ms = std::stoi(refused.trailers.find("grpc-retry-pushback-ms")->second);
  EXPECT_GE(pushback_ms, 1);
  EXPECT_LE(pushback_ms, 600'000);
  EXPECT_GE(refused_count(), 1);
  served.gate.Open();
  EXPECT_EQ(ReadRest(running.get(), running_context).tokens, FakeModel::Continue({1}, 5));
  const CallResult waited = ReadRest(waiting.get(), waiting_context);
  if (waited.status.ok()) {
    EXPECT_EQ(waited.tokens, FakeModel::Continue({2}, 5));
  }
}

TEST(GenerationServiceTest, AnUnknownSessionIsNotFound) {
  ServedEngine served;
  v1::GenerateRequest request = GenerateOf({1}, 5, "nobody");
  request.set_create_session(false);
  const CallResult result = Generate(*served.generation, request);
  EXPECT_EQ(result.status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_THAT(result.status.error_message(), HasSubstr("nobody"));
}

TEST(GenerationServiceTest, ASecondTurnReadsOnlyWhatIsNew) {
  ServedEngine served;
  const CallResult first = Generate(*served.generation, GenerateOf({1, 2}, 10, "s"));
  ASSERT_TRUE(first.status.ok());
  const CallResult second = Generate(*served.generation, GenerateOf({7}, 10, "s"));
  ASSERT_TRUE(second.status.ok());
  const std::vector<int32_t> history = Joined(Joined({1, 2}, first.tokens), {7});
  EXPECT_EQ(second.tokens, FakeModel::Continue(history, 10));
  EXPECT_EQ(second.messages.front().position(), history.size());
  EXPECT_EQ(second.usage.prompt_tokens(), history.size());
  EXPECT_GE(second.usage.reused_tokens(), history.size() - 2);
}

TEST(GenerationServiceTest, AnEmptyPromptGoesOnWithASessionAndNeedsOne) {
  ServedEngine served;
  const CallResult first = Generate(*served.generation, GenerateOf({1}, 3, "s"));
  v1::GenerateRequest more = GenerateOf({}, 3, "s");
  more.mutable_prompt()->mutable_token_ids();
  EXPECT_EQ(Generate(*served.generation, more).tokens,
            FakeModel::Continue(Joined({1}, first.tokens), 3));
  more.set_session("fresh");
  EXPECT_EQ(Generate(*served.generation, more).status.error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
}

TEST(GenerationServiceTest, AHundredMegabytePromptIsRefusedAndOthersDoNotNotice) {
  ServedEngine served(Transport::kLoopback);
  v1::GenerateRequest request = GenerateOf({}, 5);
  request.mutable_prompt()->set_text(std::string(100'000'000, 'a'));
  const CallResult huge = Generate(*served.generation, request);
  EXPECT_EQ(huge.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  request.mutable_prompt()->set_text(std::string((4 << 20) + 1, 'a'));
  const CallResult large = Generate(*served.generation, request);
  EXPECT_EQ(large.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(large.status.error_message(), HasSubstr("prompt.text has 4194305 bytes"));
  EXPECT_TRUE(Generate(*served.generation, GenerateOf({1}, 5)).status.ok());
}

TEST(GenerationServiceTest, TextThatIsNotUtf8IsRefused) {
  ServedEngine served;
  // prompt { text: "\xff" }
  const RawReply reply = CallRaw(served.channel, "/eddy.v1.Generation/Generate",
                                 std::string("\x12\x03\x0a\x01\xff", 5));
  EXPECT_EQ(reply.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT)
      << reply.status.error_message();
  EXPECT_EQ(reply.bytes, "");
}

// Two calls with messages: the session has the tokens of the conversation as one text.
TEST(GenerationServiceTest, AConversationInTurnsIsOneText) {
  const std::shared_ptr<const Tokenizer> bytes = MakeByteTokenizer();
  const TestFolder folder;
  WriteBytes(folder / "tokenizer_config.json", R"({"eddy_chat_template": "rwkv"})");
  ServerOptions options = QuietServer();
  options.chat_template = std::make_shared<const absl::StatusOr<ChatTemplate>>(
      ChatTemplate::Load(folder.path(), *bytes));
  FakeModelOptions model;
  model.vocabulary_size = 256;
  ServedEngine served(Transport::kInProcess, SmallEngine(), model, options, bytes);
  std::string text;
  for (const std::string content : {"hi", "and  you?"}) {
    v1::GenerateRequest request;
    request.set_session("s");
    request.set_create_session(true);
    request.mutable_sampling()->set_temperature(0);
    request.mutable_stop()->set_max_tokens(6);
    v1::ChatMessage* const message = request.mutable_prompt()->mutable_messages()->add_messages();
    message->set_role("user");
    message->set_content(content);
    const CallResult result = Generate(*served.generation, request);
    ASSERT_TRUE(result.status.ok()) << result.status.error_message();
    if (!text.empty()) text += "\n\n";
    text += "User: " + content + "\n\nAssistant:";
    EXPECT_EQ(result.tokens, FakeModel::Continue(*bytes->Encode(text), 6, 256));
    EXPECT_EQ(result.usage.prompt_tokens(), text.size());
    for (const int32_t token : result.tokens) text.push_back(static_cast<char>(token));
  }
  v1::Model served_model;
  grpc::ClientContext context;
  ASSERT_TRUE(served.models->Get(&context, {}, &served_model).ok());
  EXPECT_EQ(served_model.chat_template(), "rwkv");
}

}  // namespace
}  // namespace eddy
