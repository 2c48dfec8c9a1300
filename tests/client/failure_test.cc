// SPDX-License-Identifier: Apache-2.0
#include "client/failure.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "client/eddy_client.h"
#include "tests/client/command_fixture.h"

namespace eddy {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

TEST(StatusCodeNameTest, Names) {
  EXPECT_EQ(StatusCodeName(grpc::StatusCode::OK), "OK");
  EXPECT_EQ(StatusCodeName(grpc::StatusCode::INVALID_ARGUMENT), "INVALID_ARGUMENT");
  EXPECT_EQ(StatusCodeName(grpc::StatusCode::RESOURCE_EXHAUSTED), "RESOURCE_EXHAUSTED");
  EXPECT_EQ(StatusCodeName(grpc::StatusCode::UNAVAILABLE), "UNAVAILABLE");
  EXPECT_EQ(StatusCodeName(grpc::StatusCode::UNAUTHENTICATED), "UNAUTHENTICATED");
  EXPECT_EQ(StatusCodeName(static_cast<grpc::StatusCode>(17)), "CODE_17");
}

TEST(FailureSentenceTest, CodeAndSentence) {
  EXPECT_EQ(FailureSentence({grpc::StatusCode::NOT_FOUND, "session \"x\" does not exist"}, "h:1",
                            nullptr),
            "NOT_FOUND: session \"x\" does not exist");
  EXPECT_EQ(FailureSentence({grpc::StatusCode::INTERNAL, ""}, "h:1", nullptr),
            "INTERNAL: the server gave no reason");
}

TEST(FailureSentenceTest, NobodyAnsweringSaysWhatToDo) {
  ClientOptions options;
  options.server = DeadAddress();
  v1::Model model;
  const grpc::Status status = Client(options).GetModel("", &model);
  const std::string sentence = FailureSentence(status, options.server, nullptr);
  EXPECT_THAT(sentence, StartsWith("UNAVAILABLE: no server answers at " + options.server));
  EXPECT_THAT(sentence, HasSubstr("eddy-server --model DIR --listen " + options.server));
  EXPECT_THAT(sentence, HasSubstr("--server HOST:PORT"));
}

// ".invalid" resolves nowhere (RFC 2606).
TEST(FailureSentenceTest, AnUnknownHostSaysWhatToDo) {
  ClientOptions options;
  options.server = "eddy.invalid:50051";
  v1::Model model;
  const grpc::Status status = Client(options).GetModel("", &model);
  EXPECT_THAT(FailureSentence(status, options.server, nullptr),
              HasSubstr("no server answers at eddy.invalid:50051"));
}

TEST(FailureSentenceTest, ADrainingServerIsThere) {
  EXPECT_EQ(
      FailureSentence({grpc::StatusCode::UNAVAILABLE, "the server is draining"}, "h:1", nullptr),
      "UNAVAILABLE: the server is draining");
}

struct HintCase {
  std::string trailer;
  std::string sentence;
};

class RetryHintTest : public testing::TestWithParam<HintCase> {};

TEST_P(RetryHintTest, IsTold) {
  FakeServer server;
  FakeReply reply = Refusal(grpc::StatusCode::RESOURCE_EXHAUSTED, "the queue is full");
  reply.retry_pushback_ms = GetParam().trailer;
  server.set_reply(reply);
  ClientOptions options;
  options.server = server.address();
  grpc::ClientContext context;
  const grpc::Status status = Client(options).Generate(
      context, v1::GenerateRequest(), [](const auto&) { return true; }, nullptr);
  EXPECT_EQ(FailureSentence(status, options.server, &context), GetParam().sentence);
}

INSTANTIATE_TEST_SUITE_P(
    Hints, RetryHintTest,
    testing::Values(HintCase{"250", "RESOURCE_EXHAUSTED: the queue is full (try again in 250 ms)"},
                    HintCase{"-1", "RESOURCE_EXHAUSTED: the queue is full"},
                    HintCase{"soon", "RESOURCE_EXHAUSTED: the queue is full"},
                    HintCase{"", "RESOURCE_EXHAUSTED: the queue is full"}));

TEST(ReportTest, WritesToTheStandardErrorAlone) {
  std::istringstream in;
  std::ostringstream out;
  std::ostringstream err;
  Console console{in, out, err};
  EXPECT_EQ(ReportFailure(console, {grpc::StatusCode::ABORTED, "no"}, "h:1"), 1);
  EXPECT_EQ(ReportUsage(console, "give a prompt"), 2);
  EXPECT_EQ(out.str(), "");
  EXPECT_EQ(err.str(), "eddy: ABORTED: no\neddy: give a prompt\n");
}

}  // namespace
}  // namespace eddy
