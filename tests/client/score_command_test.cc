// SPDX-License-Identifier: Apache-2.0
#include "client/score_command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/client/command_fixture.h"

namespace eddy {
namespace {

using testing::HasSubstr;

class ScoreCommandTest : public CommandTest {
 protected:
  v1::ScoreRequest OnlyRequest() {
    const auto requests = server_.log().Scores();
    return requests.size() == 1 ? requests[0] : v1::ScoreRequest();
  }
};

TEST_F(ScoreCommandTest, OneLineOfJson) {
  const CommandResult result = Run({"score", "--token-ids", "34,105,110", "--json"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(std::count(result.out.begin(), result.out.end(), '\n'), 1);
  const nlohmann::json line = nlohmann::json::parse(result.out);
  EXPECT_EQ(line["token_ids"], nlohmann::json({34, 105, 110}));
  EXPECT_TRUE(line["log_probs"][0].is_null());
  EXPECT_EQ(line["log_probs"][1], FakeLogProb(34, 105));
  EXPECT_EQ(line["log_probs"][2], FakeLogProb(105, 110));
  EXPECT_EQ(line.count("top"), 0u);
  EXPECT_FALSE(OnlyRequest().token_bytes());
  EXPECT_EQ(OnlyRequest().top_log_probs(), 0u);
}

TEST_F(ScoreCommandTest, TopInJson) {
  const CommandResult result = Run({"score", "--text", "abcdefg", "--top", "2", "--json"});
  const nlohmann::json line = nlohmann::json::parse(result.out);
  EXPECT_EQ(line["token_ids"].size(), 7u);
  ASSERT_EQ(line["top"].size(), 7u);
  EXPECT_EQ(line["top"][0].size(), 0u);
  ASSERT_EQ(line["top"][6].size(), 2u);
  EXPECT_EQ(line["top"][6][1]["token_id"], 1);
  EXPECT_EQ(line["top"][6][1]["log_prob"], FakeLogProb('f', 1));
  EXPECT_EQ(OnlyRequest().prompt().text(), "abcdefg");
  EXPECT_EQ(OnlyRequest().top_log_probs(), 2u);
}

TEST_F(ScoreCommandTest, ATableForPeople) {
  const CommandResult result = Run({"score", "--text", "ab", "--model", "fake"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.out,
            "POSITION  TOKEN_ID  LOG_PROB  TEXT\n"
            "       0        97         -  'a'\n"
            "       1        98   -4.8750  'b'\n");
  EXPECT_EQ(result.err, "");
  EXPECT_TRUE(OnlyRequest().token_bytes());
  EXPECT_EQ(OnlyRequest().model(), "fake");
}

TEST_F(ScoreCommandTest, TextFromTheStandardInput) {
  EXPECT_EQ(Run({"score", "--text-file", "-", "--json"}, CommandInput{"abc"}).exit_code, 0);
  EXPECT_EQ(OnlyRequest().prompt().text(), "abc");
}

TEST_F(ScoreCommandTest, WrongFlagsSendNothing) {
  const std::vector<std::vector<std::string>> cases = {
      {"score"},
      {"score", "--text", "a", "--token-ids", "1"},
      {"score", "--token-ids", "1,x"},
      {"score", "--token-ids", "-1"},
      {"score", "--text", "a", "--top", "257"},
      {"score", "--text", "\xff"},
      {"score", "--text-file", "/nowhere/at/all"},
  };
  for (const auto& arguments : cases) {
    const CommandResult result = Run(arguments);
    EXPECT_EQ(result.exit_code, 2) << testing::PrintToString(arguments);
    EXPECT_EQ(result.out, "");
    EXPECT_NE(result.err, "");
  }
  EXPECT_TRUE(server_.log().Scores().empty());
}

TEST_F(ScoreCommandTest, ARefusalIsASentence) {
  FakeScoring scoring;
  scoring.status = {grpc::StatusCode::INVALID_ARGUMENT, "prompt has 9 tokens to score: at most 5"};
  scoring.finish_reason = v1::FINISH_REASON_UNSPECIFIED;
  server_.set_scoring(scoring);
  const CommandResult result = Run({"score", "--text", "abcdefghi", "--json"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(result.out, "");
  EXPECT_EQ(result.err, "eddy: INVALID_ARGUMENT: prompt has 9 tokens to score: at most 5\n");
}

TEST_F(ScoreCommandTest, WhatTheServerDidNotFinishIsNoAnswer) {
  FakeScoring scoring;
  scoring.finish_reason = v1::FINISH_REASON_CANCELLED;
  scoring.token_count_max = 4;
  server_.set_scoring(scoring);
  const CommandResult result = Run({"score", "--text", "abcdefghi"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(result.out, "");
  EXPECT_EQ(result.err, "eddy: the server ended the call after 4 tokens: cancelled\n");
}

TEST_F(ScoreCommandTest, NoServer) {
  const CommandResult result = Run({"score", "--text", "a", "--server", DeadAddress()});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, HasSubstr("UNAVAILABLE"));
}

}  // namespace
}  // namespace eddy
