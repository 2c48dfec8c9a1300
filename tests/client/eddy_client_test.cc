// SPDX-License-Identifier: Apache-2.0
#include "client/eddy_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "tests/client/fake_server.h"

namespace eddy {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class ClientTest : public testing::Test {
 protected:
  ClientOptions Options() {
    ClientOptions options;
    options.server = server_.address();
    return options;
  }

  // The texts of one Generate call's messages.
  grpc::Status Generate(std::vector<std::string>* texts, v1::GenerateResponse* last) {
    grpc::ClientContext context;
    return client_.Generate(
        context, v1::GenerateRequest(),
        [texts](const v1::GenerateResponse& message) {
          texts->push_back(message.text());
          return true;
        },
        last);
  }

  FakeServer server_;
  Client client_{Options()};
};

TEST_F(ClientTest, MessagesComeInOrderAndTheLastIsGiven) {
  std::vector<std::string> texts;
  v1::GenerateResponse last;
  EXPECT_TRUE(Generate(&texts, &last).ok());
  EXPECT_THAT(texts, ElementsAre("one ", "two ", "three"));
  EXPECT_EQ(last.finish_reason(), v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(last.position(), 5u);
  EXPECT_EQ(last.usage().prompt_tokens(), 3u);
  EXPECT_EQ(last.usage().generated_tokens(), 3u);
}

TEST_F(ClientTest, ScoresComeInOrderAndTheLastIsGiven) {
  v1::ScoreRequest request;
  for (const uint32_t id : {7u, 8u, 9u, 7u})
    request.mutable_prompt()->mutable_token_ids()->add_ids(id);
  std::vector<uint32_t> ids;
  v1::ScoreResponse last;
  grpc::ClientContext context;
  const auto on_message = [&ids](const v1::ScoreResponse& message) {
    EXPECT_EQ(message.position(), ids.size());
    for (const v1::TokenLogProb& token : message.tokens()) ids.push_back(token.token().token_id());
    return true;
  };
  EXPECT_TRUE(client_.Score(context, request, on_message, &last).ok());
  EXPECT_THAT(ids, ElementsAre(7, 8, 9, 7));
  EXPECT_EQ(last.finish_reason(), v1::FINISH_REASON_SCORED);
  EXPECT_EQ(last.tokens(0).token().log_prob(), FakeLogProb(9, 7));
}

TEST_F(ClientTest, FalseFromOnMessageCancelsAScoreCall) {
  FakeScoring scoring;
  scoring.hang = true;
  server_.set_scoring(scoring);
  v1::ScoreRequest request;
  request.mutable_prompt()->set_text("abcdef");
  grpc::ClientContext context;
  int message_count = 0;
  const auto on_message = [&message_count](const v1::ScoreResponse&) {
    ++message_count;
    return false;
  };
  EXPECT_EQ(client_.Score(context, request, on_message, nullptr).error_code(),
            grpc::StatusCode::CANCELLED);
  EXPECT_EQ(message_count, 1);
}

TEST_F(ClientTest, LastMayBeNull) {
  std::vector<std::string> texts;
  EXPECT_TRUE(Generate(&texts, nullptr).ok());
  EXPECT_EQ(texts.size(), 3u);
}

TEST_F(ClientTest, ManyMessagesKeepTheirOrder) {
  std::vector<std::string> pieces;
  for (int i = 0; i < 5'000; ++i) {
    pieces.push_back(std::to_string(i) + " ");
  }
  server_.set_reply(TextReply(pieces));
  std::vector<std::string> texts;
  EXPECT_TRUE(Generate(&texts, nullptr).ok());
  EXPECT_EQ(texts, pieces);
}

TEST_F(ClientTest, RequestArrivesUnchanged) {
  v1::GenerateRequest request;
  request.set_session("anna");
  request.set_create_session(true);
  request.mutable_prompt()->set_text("To be");
  request.mutable_sampling()->set_temperature(0.5f);
  request.mutable_stop()->add_sequences("\n");
  grpc::ClientContext context;
  EXPECT_TRUE(client_
                  .Generate(
                      context, request, [](const auto&) { return true; }, nullptr)
                  .ok());
  EXPECT_EQ(server_.log().OnlyTurn().SerializeAsString(), request.SerializeAsString());
}

TEST_F(ClientTest, RefusalKeepsCodeAndSentence) {
  server_.set_reply(Refusal(grpc::StatusCode::INVALID_ARGUMENT, "prompt is empty"));
  std::vector<std::string> texts;
  v1::GenerateResponse last;
  const grpc::Status status = Generate(&texts, &last);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(status.error_message(), "prompt is empty");
  EXPECT_THAT(texts, IsEmpty());
  EXPECT_FALSE(last.has_finish_reason());
}

TEST_F(ClientTest, FailureInMidStreamComesAfterItsMessages) {
  FakeReply reply = Refusal(grpc::StatusCode::INTERNAL, "step failed");
  reply.messages = {Message(0, "a"), Message(1, "b")};
  server_.set_reply(reply);
  std::vector<std::string> texts;
  EXPECT_EQ(Generate(&texts, nullptr).error_code(), grpc::StatusCode::INTERNAL);
  EXPECT_THAT(texts, ElementsAre("a", "b"));
}

TEST_F(ClientTest, FalseFromTheCallbackCancelsTheCall) {
  FakeReply reply;
  reply.messages = {Message(0, "a")};
  reply.hang = true;
  server_.set_reply(reply);
  grpc::ClientContext context;
  int calls = 0;
  const grpc::Status status = client_.Generate(
      context, v1::GenerateRequest(),
      [&calls](const v1::GenerateResponse&) {
        ++calls;
        return false;
      },
      nullptr);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_EQ(calls, 1);
  EXPECT_TRUE(Eventually([this] { return server_.log().cancelled_count == 1; }));
}

TEST_F(ClientTest, NoMessageIsGivenAfterFalse) {
  std::vector<std::string> pieces(2'000, "x");
  server_.set_reply(TextReply(pieces));
  grpc::ClientContext context;
  int calls = 0;
  client_.Generate(
      context, v1::GenerateRequest(), [&calls](const v1::GenerateResponse&) { return ++calls < 2; },
      nullptr);
  EXPECT_EQ(calls, 2);
}

TEST_F(ClientTest, TryCancelFromAnotherThreadEndsTheCall) {
  FakeReply reply;
  reply.hang = true;
  server_.set_reply(reply);
  grpc::ClientContext context;
  std::thread canceller([&] {
    EXPECT_TRUE(Eventually([this] { return server_.log().hanging_count == 1; }));
    context.TryCancel();
  });
  const grpc::Status status = client_.Generate(
      context, v1::GenerateRequest(), [](const auto&) { return true; }, nullptr);
  canceller.join();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::CANCELLED);
}

TEST_F(ClientTest, DeadlineEndsTheCall) {
  FakeReply reply;
  reply.hang = true;
  server_.set_reply(reply);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(50));
  const grpc::Status status = client_.Generate(
      context, v1::GenerateRequest(), [](const auto&) { return true; }, nullptr);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
}

TEST_F(ClientTest, NobodyAnswering) {
  ClientOptions options;
  {
    FakeServer gone;
    options.server = gone.address();
  }
  Client client(options);
  std::vector<v1::Model> models;
  EXPECT_EQ(client.ListModels(&models).error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(models, IsEmpty());
}

TEST_F(ClientTest, OwnConnectionsReachTheServer) {
  ClientOptions options = Options();
  options.own_connection = true;
  Client first(MakeChannel(options));
  Client second(MakeChannel(options));
  v1::Model model;
  EXPECT_TRUE(first.GetModel("", &model).ok());
  EXPECT_TRUE(second.GetModel("fake", &model).ok());
}

v1::Prompt TextPrompt(const std::string& text) {
  v1::Prompt prompt;
  prompt.set_text(text);
  return prompt;
}

TEST_F(ClientTest, ConversationRunsManyTurns) {
  server_.set_answer([](const v1::GenerateRequest& turn) {
    return TextReply({"you said ", turn.prompt().text()});
  });
  v1::ConverseRequest::Open open;
  open.set_session("anna");
  open.set_create_session(true);
  const auto conversation = client_.Converse(open);
  for (const std::string text : {"hello", "again", "bye"}) {
    EXPECT_TRUE(conversation->Append(TextPrompt(text)));
    std::string answer;
    v1::GenerateResponse last;
    const grpc::Status status = conversation->Generate(
        v1::ConverseRequest::Generate(),
        [&answer](const v1::GenerateResponse& message) {
          answer += message.text();
          return true;
        },
        &last);
    EXPECT_TRUE(status.ok()) << status.error_message();
    EXPECT_EQ(answer, "you said " + text);
    EXPECT_EQ(last.finish_reason(), v1::FINISH_REASON_LENGTH);
  }
  EXPECT_TRUE(conversation->Finish().ok());
  ASSERT_EQ(server_.log().opens.size(), 1u);
  EXPECT_EQ(server_.log().opens[0].SerializeAsString(), open.SerializeAsString());
  EXPECT_EQ(server_.log().turns.size(), 3u);
  EXPECT_EQ(server_.log().turns[2].session(), "anna");
}

TEST_F(ClientTest, FalseFromTheCallbackCancelsTheTurnAlone) {
  server_.set_answer([turn = 0](const v1::GenerateRequest&) mutable {
    if (++turn > 1) return TextReply({"fine"});
    FakeReply reply;
    reply.messages = {Message(3, "long")};
    reply.hang = true;
    return reply;
  });
  const auto conversation = client_.Converse(v1::ConverseRequest::Open());
  v1::GenerateResponse last;
  EXPECT_TRUE(conversation
                  ->Generate(
                      v1::ConverseRequest::Generate(), [](const auto&) { return false; }, &last)
                  .ok());
  EXPECT_EQ(last.finish_reason(), v1::FINISH_REASON_CANCELLED);
  EXPECT_TRUE(conversation
                  ->Generate(
                      v1::ConverseRequest::Generate(), [](const auto&) { return true; }, &last)
                  .ok());
  EXPECT_EQ(last.text(), "fine");
  EXPECT_TRUE(conversation->Finish().ok());
}

TEST_F(ClientTest, CancelTurnFromAnotherThread) {
  FakeReply reply;
  reply.hang = true;
  server_.set_reply(reply);
  const auto conversation = client_.Converse(v1::ConverseRequest::Open());
  std::thread canceller([&] {
    EXPECT_TRUE(Eventually([this] { return server_.log().hanging_count == 1; }));
    conversation->CancelTurn();
  });
  v1::GenerateResponse last;
  EXPECT_TRUE(conversation
                  ->Generate(
                      v1::ConverseRequest::Generate(), [](const auto&) { return true; }, &last)
                  .ok());
  canceller.join();
  EXPECT_EQ(last.finish_reason(), v1::FINISH_REASON_CANCELLED);
}

TEST_F(ClientTest, AFailedTurnEndsTheConversation) {
  server_.set_reply(Refusal(grpc::StatusCode::NOT_FOUND, "session \"x\" does not exist"));
  const auto conversation = client_.Converse(v1::ConverseRequest::Open());
  for (int attempt = 0; attempt < 2; ++attempt) {
    const grpc::Status status = conversation->Generate(
        v1::ConverseRequest::Generate(), [](const auto&) { return true; }, nullptr);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
    EXPECT_THAT(status.error_message(), HasSubstr("does not exist"));
  }
  EXPECT_FALSE(conversation->Append(TextPrompt("x")));
  EXPECT_EQ(conversation->Finish().error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST_F(ClientTest, ATurnAfterFinishFails) {
  const auto conversation = client_.Converse(v1::ConverseRequest::Open());
  EXPECT_TRUE(conversation->Finish().ok());
  EXPECT_FALSE(conversation->Append(TextPrompt("x")));
  conversation->CancelTurn();
  EXPECT_EQ(conversation
                ->Generate(
                    v1::ConverseRequest::Generate(), [](const auto&) { return true; }, nullptr)
                .error_code(),
            grpc::StatusCode::UNAVAILABLE);
}

TEST_F(ClientTest, LeavingAConversationCancelsIt) {
  auto conversation = client_.Converse(v1::ConverseRequest::Open());
  EXPECT_TRUE(conversation->Append(TextPrompt("x")));
  conversation.reset();
  EXPECT_TRUE(Eventually([this] { return server_.log().cancelled_count == 1; }));
  EXPECT_TRUE(client_.Converse(v1::ConverseRequest::Open())->Finish().ok());
  EXPECT_EQ(server_.log().cancelled_count, 1);
}

TEST_F(ClientTest, SessionsFromCreateToDelete) {
  v1::CreateSessionRequest request;
  request.set_name("anna");
  v1::Session session;
  EXPECT_TRUE(client_.CreateSession(request, &session).ok());
  EXPECT_EQ(session.name(), "anna");
  EXPECT_EQ(client_.CreateSession(request, &session).error_code(),
            grpc::StatusCode::ALREADY_EXISTS);
  EXPECT_TRUE(client_.GetSession("anna", &session).ok());
  EXPECT_EQ(session.state_bytes(), 4096u);
  EXPECT_TRUE(client_.DeleteSession("anna").ok());
  EXPECT_EQ(client_.GetSession("anna", &session).error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(client_.DeleteSession("anna").error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST_F(ClientTest, ListSessionsAsksPageAfterPage) {
  for (const char* name : {"e", "b", "d", "a", "c"}) {
    v1::CreateSessionRequest request;
    request.set_name(name);
    v1::Session session;
    ASSERT_TRUE(client_.CreateSession(request, &session).ok());
  }
  for (const uint32_t page_size : {0u, 1u, 4u, 5u, 100u}) {
    server_.log().lists.clear();
    std::vector<v1::Session> sessions(7);
    EXPECT_TRUE(client_.ListSessions(page_size, &sessions).ok());
    std::string names;
    for (const v1::Session& session : sessions) {
      names += session.name();
    }
    EXPECT_EQ(names, "abcde") << page_size;
    const size_t asked = page_size == 0 ? 2 : page_size;
    EXPECT_EQ(server_.log().lists.size(), (5 + asked - 1) / asked) << page_size;
    EXPECT_EQ(server_.log().lists[0].page_size(), page_size);
  }
}

TEST_F(ClientTest, Models) {
  std::vector<v1::Model> models;
  EXPECT_TRUE(client_.ListModels(&models).ok());
  ASSERT_EQ(models.size(), 1u);
  EXPECT_EQ(models[0].name(), "fake");
  v1::Model model;
  EXPECT_EQ(client_.GetModel("other", &model).error_code(), grpc::StatusCode::NOT_FOUND);
  std::vector<uint32_t> ids;
  EXPECT_TRUE(client_.Tokenize("", "To", &ids).ok());
  EXPECT_THAT(ids, ElementsAre(84u, 111u));
  std::string text;
  EXPECT_TRUE(client_.Detokenize("fake", ids, &text).ok());
  EXPECT_EQ(text, "To");
  EXPECT_EQ(client_.Detokenize("", {256}, &text).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

}  // namespace
}  // namespace eddy
