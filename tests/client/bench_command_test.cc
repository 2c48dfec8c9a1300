// SPDX-License-Identifier: Apache-2.0
#include "client/bench_command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>

#include "tests/client/command_fixture.h"

namespace eddy {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

v1::Model ModelOf(uint32_t vocabulary_size, const std::vector<uint32_t>& end_of_text_ids) {
  v1::Model model;
  model.set_vocabulary_size(vocabulary_size);
  model.mutable_end_of_text_ids()->Assign(end_of_text_ids.begin(), end_of_text_ids.end());
  return model;
}

TEST(DrawPromptTest, IsAFunctionOfSeedAndIndex) {
  const v1::Model model = ModelOf(1'000, {});
  EXPECT_EQ(DrawPrompt(model, 50, 1, 2), DrawPrompt(model, 50, 1, 2));
  EXPECT_NE(DrawPrompt(model, 50, 1, 2), DrawPrompt(model, 50, 1, 3));
  EXPECT_NE(DrawPrompt(model, 50, 1, 2), DrawPrompt(model, 50, 2, 1));
  EXPECT_NE(DrawPrompt(model, 50, 1, -1), DrawPrompt(model, 50, 1, 0));
}

TEST(DrawPromptTest, DrawsEveryIdButTheEndsOfText) {
  const std::vector<uint32_t> ids = DrawPrompt(ModelOf(16, {0, 7}), 2'000, 1, 0);
  EXPECT_EQ(ids.size(), 2'000u);
  const std::set<uint32_t> seen(ids.begin(), ids.end());
  EXPECT_EQ(seen, (std::set<uint32_t>{1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15}));
}

TEST(DrawPromptTest, AVocabularyOfEndsOnlyGivesSomething) {
  EXPECT_EQ(DrawPrompt(ModelOf(2, {0, 1}), 3, 1, 0), (std::vector<uint32_t>{0, 0, 0}));
  EXPECT_EQ(DrawPrompt(ModelOf(0, {}), 1, 1, 0), (std::vector<uint32_t>{0}));
}

class BenchCommandTest : public CommandTest {};

TEST_F(BenchCommandTest, TableOnTheStandardOutputAlone) {
  const CommandResult result = Run({"bench", "--streams", "4", "--requests", "12"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.err, "");
  EXPECT_THAT(result.out, StartsWith("closed loop, 4 streams, 1 connection, "));
  EXPECT_THAT(result.out, HasSubstr("requests  12 finished"));
  EXPECT_THAT(result.out, HasSubstr("tokens    36 generated"));
}

TEST_F(BenchCommandTest, JsonParses) {
  const CommandResult result =
      Run({"bench", "--streams", "2", "--requests", "5", "--connections", "3", "--json"});
  EXPECT_EQ(result.exit_code, 0);
  const nlohmann::json report = nlohmann::json::parse(result.out);
  EXPECT_EQ(report["mode"], "closed");
  EXPECT_EQ(report["stream_count"], 2);
  EXPECT_EQ(report["connection_count"], 3);
  EXPECT_EQ(report["max_tokens"], 64);
  EXPECT_EQ(report["requests_finished"], 5);
  EXPECT_EQ(report["generated_tokens"], 15);
  EXPECT_EQ(report["inter_token_ms"]["count"], 10);
}

TEST_F(BenchCommandTest, RequestsAreDrawnFromTheSeed) {
  Run({"bench", "--streams", "1", "--requests", "3", "--prompt-tokens", "9", "--seed", "5",
       "--max-tokens", "8", "--temperature", "0.5", "--ignore-end-of-text"});
  const std::vector<v1::GenerateRequest> turns = server_.log().Turns();
  ASSERT_EQ(turns.size(), 3u);
  for (size_t i = 0; i < turns.size(); ++i) {
    const std::vector<uint32_t> ids =
        DrawPrompt(FakeModels::FakeModel(), 9, 5, static_cast<int64_t>(i));
    EXPECT_EQ(std::vector<uint32_t>(turns[i].prompt().token_ids().ids().begin(),
                                    turns[i].prompt().token_ids().ids().end()),
              ids);
    EXPECT_EQ(turns[i].sampling().seed(), 5 + i);
    EXPECT_EQ(turns[i].sampling().temperature(), 0.5f);
    EXPECT_EQ(turns[i].stop().max_tokens(), 8u);
    EXPECT_TRUE(turns[i].stop().ignore_end_of_text());
    EXPECT_EQ(turns[i].session(), "");
  }
}

TEST_F(BenchCommandTest, AGivenPromptIsSentAsItIs) {
  Run({"bench", "--streams", "1", "--requests", "2", "--prompt", "ROMEO:"});
  ASSERT_EQ(server_.log().Turns().size(), 2u);
  EXPECT_EQ(server_.log().Turns()[1].prompt().text(), "ROMEO:");
}

TEST_F(BenchCommandTest, WarmUpIsSentButNotCounted) {
  const CommandResult result = Run({"bench", "--streams", "1", "--requests", "2", "--warmup", "3",
                                    "--prompt-tokens", "4", "--json"});
  EXPECT_EQ(nlohmann::json::parse(result.out)["requests_started"], 2);
  const std::vector<v1::GenerateRequest> turns = server_.log().Turns();
  ASSERT_EQ(turns.size(), 5u);
  std::set<std::string> prompts;
  for (const v1::GenerateRequest& turn : turns) {
    prompts.insert(turn.prompt().SerializeAsString());
  }
  EXPECT_EQ(prompts.size(), 5u);
}

TEST_F(BenchCommandTest, OpenLoop) {
  const CommandResult result = Run({"bench", "--rate", "400", "--requests", "20", "--json"});
  EXPECT_EQ(result.exit_code, 0);
  const nlohmann::json report = nlohmann::json::parse(result.out);
  EXPECT_EQ(report["mode"], "open");
  EXPECT_EQ(report["rate_per_s"], 400);
  EXPECT_EQ(report["connection_count"], 4);
  EXPECT_EQ(report["requests_finished"], 20);
}

TEST_F(BenchCommandTest, DurationAloneEndsTheRun) {
  const CommandResult result = Run({"bench", "--streams", "2", "--duration-s", "1", "--json"});
  EXPECT_EQ(result.exit_code, 0);
  const nlohmann::json report = nlohmann::json::parse(result.out);
  EXPECT_GE(report["elapsed_s"], 1);
  EXPECT_GT(report["requests_finished"], 64);
}

TEST_F(BenchCommandTest, ProgressBarIsWiped) {
  const CommandResult result =
      Run({"bench", "--streams", "1", "--requests", "2", "--progress", "--json"});
  EXPECT_THAT(result.err, StartsWith("\r[-------------------"));
  EXPECT_EQ(result.err.back(), '\r');
  EXPECT_NO_THROW(nlohmann::json::parse(result.out));
}

TEST_F(BenchCommandTest, ABenchWhereNothingFinishesFails) {
  server_.set_reply(Refusal(grpc::StatusCode::RESOURCE_EXHAUSTED, "the queue is full"));
  const CommandResult result = Run({"bench", "--streams", "2", "--requests", "2"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.out,
              HasSubstr("failed    2 RESOURCE_EXHAUSTED, the first: the queue is full\n"));
}

TEST_F(BenchCommandTest, ARunCutByItsDurationIsWell) {
  FakeReply reply;
  reply.messages = {Message(0, "x")};
  reply.hang = true;
  server_.set_reply(reply);
  const CommandResult result = Run({"bench", "--streams", "2", "--duration-s", "0.2"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.out, HasSubstr("; 2 cut when the run ended"));
}

TEST_F(BenchCommandTest, NobodyAnsweringIsToldAtOnce) {
  const std::string address = DeadAddress();
  const CommandResult result = Run({"bench", "--server", address});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.err, StartsWith("eddy: UNAVAILABLE: no server answers at " + address));
}

TEST_F(BenchCommandTest, AnUnknownModel) {
  const CommandResult result = Run({"bench", "--model", "other"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(result.err, "eddy: NOT_FOUND: model \"other\" is not served\n");
}

TEST_F(BenchCommandTest, UsageErrors) {
  const std::vector<std::vector<std::string>> cases = {
      {"--streams", "0"},
      {"--streams", "100001"},
      {"--rate", "0"},
      {"--rate", "-1"},
      {"--streams", "1", "--rate", "1"},
      {"--requests", "0"},
      {"--duration-s", "0"},
      {"--warmup", "-1"},
      {"--connections", "0"},
      {"--prompt-tokens", "0"},
      {"--prompt", "x", "--prompt-tokens", "3"},
      {"--deadline-ms", "0"},
      {"--running-max", "0"},
      {"--prompt-file", "/does/not/exist"},
  };
  for (std::vector<std::string> arguments : cases) {
    arguments.insert(arguments.begin(), "bench");
    const CommandResult result = Run(arguments);
    EXPECT_EQ(result.exit_code, 2) << testing::PrintToString(arguments);
    EXPECT_THAT(result.err, StartsWith("eddy: "));
  }
  EXPECT_TRUE(server_.log().Turns().empty());
}

}  // namespace
}  // namespace eddy
