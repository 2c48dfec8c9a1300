// SPDX-License-Identifier: Apache-2.0
#include "server/sessions_service.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/server/server_fixture.h"

namespace eddy {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

struct Client {
  explicit Client(v1::Sessions::Stub& sessions) : stub(sessions) {}

  grpc::Status Create(const std::string& name, v1::Session* session,
                      const std::string& model = "") {
    grpc::ClientContext context;
    v1::CreateSessionRequest request;
    request.set_name(name);
    request.set_model(model);
    return stub.Create(&context, request, session);
  }
  grpc::Status Get(const std::string& name, v1::Session* session) {
    grpc::ClientContext context;
    v1::GetSessionRequest request;
    request.set_name(name);
    return stub.Get(&context, request, session);
  }
  grpc::Status Delete(const std::string& name) {
    grpc::ClientContext context;
    v1::DeleteSessionRequest request;
    request.set_name(name);
    google::protobuf::Empty nothing;
    return stub.Delete(&context, request, &nothing);
  }
  grpc::Status List(uint32_t page_size, const std::string& page_token,
                    v1::ListSessionsResponse* list) {
    grpc::ClientContext context;
    v1::ListSessionsRequest request;
    request.set_page_size(page_size);
    request.set_page_token(page_token);
    return stub.List(&context, request, list);
  }

  v1::Sessions::Stub& stub;
};

TEST(SessionsServiceTest, ASessionIsMadeSeenUsedAndForgotten) {
  ServedEngine served;
  Client client(*served.sessions);
  v1::Session session;
  ASSERT_TRUE(client.Create("s", &session).ok());
  EXPECT_EQ(session.name(), "s");
  EXPECT_EQ(session.model(), "fake");
  EXPECT_EQ(session.position(), 0u);
  EXPECT_EQ(session.state_bytes(), static_cast<uint64_t>(served.engine->state_bytes()));
  EXPECT_GT(session.create_time().seconds(), 1'500'000'000);

  ASSERT_TRUE(Generate(*served.generation, GenerateOf({1, 2}, 10, "s")).status.ok());
  ASSERT_TRUE(client.Get("s", &session).ok());
  EXPECT_EQ(session.position(), 12u);
  EXPECT_EQ(session.turn_count(), 1u);
  EXPECT_EQ(session.state(), v1::Session::STATE_RESIDENT);

  EXPECT_TRUE(client.Delete("s").ok());
  EXPECT_EQ(client.Get("s", &session).error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(client.Delete("s").error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST(SessionsServiceTest, ANameIsMadeUpWhenNoneIsGiven) {
  ServedEngine served;
  Client client(*served.sessions);
  v1::Session a;
  v1::Session b;
  ASSERT_TRUE(client.Create("", &a).ok());
  ASSERT_TRUE(client.Create("", &b).ok());
  EXPECT_NE(a.name(), b.name());
  EXPECT_TRUE(client.Get(a.name(), &a).ok());
}

TEST(SessionsServiceTest, RefusalsHaveTheirCodes) {
  EngineOptions options = SmallEngine();
  options.session_count_max = 1;
  ServedEngine served(Transport::kInProcess, options);
  Client client(*served.sessions);
  v1::Session session;
  ASSERT_TRUE(client.Create("s", &session).ok());
  EXPECT_EQ(client.Create("s", &session).error_code(), grpc::StatusCode::ALREADY_EXISTS);
  EXPECT_EQ(client.Create("t", &session).error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(client.Create("a b", &session).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(client.Create("t", &session, "gpt").error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(client.Get("", &session).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(client.Get("~converse-0", &session).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(client.Delete("a/b").error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  v1::ListSessionsResponse list;
  const grpc::Status status = client.List(1001, "", &list);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("page_size is 1001"));
  EXPECT_EQ(client.List(1, "?", &list).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST(SessionsServiceTest, BytesThatAreNoMessageAreRefused) {
  ServedEngine served;
  for (const char* method : {"Create", "Get", "List", "Delete"}) {
    const RawReply reply =
        CallRaw(served.channel, absl::StrCat("/eddy.v1.Sessions/", method), "\xff");
    EXPECT_EQ(reply.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << method;
    EXPECT_THAT(reply.status.error_message(), HasSubstr("is not a valid eddy.v1.")) << method;
  }
}

TEST(SessionsServiceTest, PagesHaveEverySessionOnceByName) {
  ServedEngine served;
  Client client(*served.sessions);
  v1::Session session;
  std::vector<std::string> expected;
  for (int i = 0; i < 25; ++i) {
    expected.push_back(absl::StrCat("s", 100 + (i * 7) % 25));
    ASSERT_TRUE(client.Create(expected.back(), &session).ok());
  }
  std::sort(expected.begin(), expected.end());
  for (uint32_t page_size : {0u, 1u, 10u, 25u, 1000u}) {
    std::vector<std::string> seen;
    std::string page_token;
    do {
      v1::ListSessionsResponse list;
      ASSERT_TRUE(client.List(page_size, page_token, &list).ok());
      for (const v1::Session& listed : list.sessions()) seen.push_back(listed.name());
      page_token = list.next_page_token();
      ASSERT_LE(seen.size(), expected.size());
    } while (!page_token.empty());
    EXPECT_EQ(seen, expected) << page_size;
  }
}

TEST(SessionsServiceTest, DeletingASessionCancelsItsTurn) {
  ServedEngine served;
  Client client(*served.sessions);
  grpc::ClientContext context;
  auto reader = served.generation->Generate(&context, GenerateOf({1}, 1'000'000, "s"));
  v1::GenerateResponse message;
  ASSERT_TRUE(reader->Read(&message));
  EXPECT_TRUE(client.Delete("s").ok());
  CallResult before;
  AddMessage(message, &before);
  const CallResult result = ReadRest(reader.get(), context, before);
  EXPECT_TRUE(result.status.ok());
  EXPECT_EQ(result.finish_reason, v1::FINISH_REASON_CANCELLED);
}

}  // namespace
}  // namespace eddy
