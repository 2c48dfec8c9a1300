// SPDX-License-Identifier: Apache-2.0
#include "client/generate_command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>
#include <streambuf>

#include "tests/client/command_fixture.h"

namespace eddy {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

class GenerateCommandTest : public CommandTest {};

TEST_F(GenerateCommandTest, TheCompletionAloneGoesToTheStandardOutput) {
  const CommandResult result = Run({"generate", "--prompt", "x"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.out, "one two three");
  EXPECT_EQ(result.err, "");
}

TEST_F(GenerateCommandTest, FlagsBecomeTheRequest) {
  const CommandResult result = Run(
      {"generate", "--prompt", "To be", "--max-tokens", "7", "--temperature", "0.5", "--seed", "9",
       "--session", "anna", "--create", "--model", "fake", "--stop", "\n", "--top-log-probs", "2"});
  EXPECT_EQ(result.exit_code, 0);
  v1::GenerateRequest expected;
  expected.set_model("fake");
  expected.mutable_prompt()->set_text("To be");
  expected.set_session("anna");
  expected.set_create_session(true);
  expected.mutable_sampling()->set_temperature(0.5f);
  expected.mutable_sampling()->set_seed(9);
  expected.mutable_stop()->set_max_tokens(7);
  expected.mutable_stop()->add_sequences("\n");
  expected.mutable_output()->set_log_probs(true);
  expected.mutable_output()->set_top_log_probs(2);
  EXPECT_EQ(server_.log().OnlyTurn().DebugString(), expected.DebugString());
}

TEST_F(GenerateCommandTest, UngivenFlagsLeaveTheServersDefaults) {
  Run({"generate", "--token-ids", "1,2"});
  v1::GenerateRequest expected;
  expected.mutable_prompt()->mutable_token_ids()->add_ids(1);
  expected.mutable_prompt()->mutable_token_ids()->add_ids(2);
  expected.mutable_sampling();
  expected.mutable_stop();
  expected.mutable_output();
  EXPECT_EQ(server_.log().OnlyTurn().DebugString(), expected.DebugString());
}

TEST_F(GenerateCommandTest, AModelWithoutTokenizerAnswersInTokenIds) {
  FakeReply reply = TextReply({"", ""});
  reply.messages[0].mutable_token_ids()->Clear();
  for (const uint32_t id : {7u, 8u}) reply.messages[0].add_token_ids(id);
  reply.messages[1].mutable_token_ids()->Clear();
  reply.messages[1].add_token_ids(9);
  server_.set_reply(reply);
  server_.set_has_tokenizer(false);
  EXPECT_EQ(Run({"generate", "--token-ids", "1,2"}).out, "7 8 9\n");
  EXPECT_THAT(Run({"generate", "--token-ids", "1,2", "--json"}).out, StartsWith("{"));
  // Where there is text, ids are not shown.
  server_.set_has_tokenizer(true);
  EXPECT_EQ(Run({"generate", "--token-ids", "1,2"}).out, "");
}

TEST_F(GenerateCommandTest, PromptFromTheStandardInput) {
  Run({"generate", "--prompt-file", "-"}, CommandInput{"from a pipe\n"});
  EXPECT_EQ(server_.log().OnlyTurn().prompt().text(), "from a pipe\n");
}

TEST_F(GenerateCommandTest, ASessionNeedsNoPrompt) {
  EXPECT_EQ(Run({"generate", "--session", "anna"}).exit_code, 0);
  EXPECT_EQ(server_.log().OnlyTurn().prompt().content_case(), v1::Prompt::CONTENT_NOT_SET);
}

TEST_F(GenerateCommandTest, NoPromptAndNoSessionIsAUsageError) {
  const CommandResult result = Run({"generate"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.err, StartsWith("eddy: give --prompt, --prompt-file or --token-ids"));
  EXPECT_TRUE(server_.log().Turns().empty());
}

TEST_F(GenerateCommandTest, AnUnreadablePromptFileIsAUsageError) {
  const CommandResult result = Run({"generate", "--prompt-file", "/does/not/exist"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.err, HasSubstr("/does/not/exist"));
  EXPECT_TRUE(server_.log().Turns().empty());
}

TEST_F(GenerateCommandTest, JsonIsOneLineForEachMessage) {
  FakeReply reply = TextReply({"a\n", "b", "c"}, 5);
  reply.messages.front().set_seed(42);
  server_.set_reply(reply);
  const CommandResult result = Run({"generate", "--prompt", "x", "--json"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.err, "");
  std::istringstream lines(result.out);
  std::vector<nlohmann::json> messages;
  for (std::string line; std::getline(lines, line);) {
    messages.push_back(nlohmann::json::parse(line));
  }
  ASSERT_EQ(messages.size(), 3u);
  EXPECT_EQ(messages[0], nlohmann::json::parse(R"({"position": 5, "token_ids": [5], "text": "a\n",
                                                   "log_probs": [], "seed": "42"})"));
  EXPECT_EQ(messages[1], nlohmann::json::parse(R"({"position": 6, "token_ids": [6], "text": "b",
                                                   "log_probs": []})"));
  EXPECT_EQ(messages[2], nlohmann::json::parse(R"({
      "position": 7, "token_ids": [7], "text": "c", "log_probs": [],
      "finish_reason": "FINISH_REASON_LENGTH",
      "usage": {"prompt_tokens": 5, "generated_tokens": 3, "reused_tokens": 0,
                "queue_ms": 0, "prefill_ms": 0, "decode_ms": 0}})"));
}

TEST_F(GenerateCommandTest, VerboseSummaryGoesToTheStandardError) {
  const CommandResult result = Run({"generate", "--prompt", "x", "--verbose"});
  EXPECT_EQ(result.out, "one two three");
  EXPECT_THAT(result.err, StartsWith("eddy: 3 tokens, "));
  EXPECT_THAT(result.err, HasSubstr(", length; prompt 3 tokens, 0 of them reused\n"));
}

TEST_F(GenerateCommandTest, ATerminalGetsALineEndAndASummary) {
  CommandInput terminal;
  terminal.terminal = true;
  const CommandResult result = Run({"generate", "--prompt", "x"}, terminal);
  EXPECT_EQ(result.out, "one two three\n");
  EXPECT_THAT(result.err, HasSubstr("3 tokens"));
  server_.set_reply(TextReply({"line\n"}));
  EXPECT_EQ(Run({"generate", "--prompt", "x"}, terminal).out, "line\n");
  EXPECT_EQ(Run({"generate", "--prompt", "x", "--json"}, terminal).err, "");
}

TEST_F(GenerateCommandTest, RefusalIsCodeAndSentence) {
  server_.set_reply(Refusal(grpc::StatusCode::INVALID_ARGUMENT,
                            "sampling.temperature is -1, must be in [0, 100]"));
  const CommandResult result = Run({"generate", "--prompt", "x", "--temperature", "-1"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(result.out, "");
  EXPECT_EQ(result.err,
            "eddy: INVALID_ARGUMENT: sampling.temperature is -1, must be in [0, 100]\n");
}

TEST_F(GenerateCommandTest, AFullQueueSaysWhenToComeAgain) {
  FakeReply reply = Refusal(grpc::StatusCode::RESOURCE_EXHAUSTED, "the queue is full");
  reply.retry_pushback_ms = "150";
  server_.set_reply(reply);
  EXPECT_EQ(Run({"generate", "--prompt", "x"}).err,
            "eddy: RESOURCE_EXHAUSTED: the queue is full (try again in 150 ms)\n");
}

TEST_F(GenerateCommandTest, AFailureInMidStreamKeepsWhatCame) {
  FakeReply reply = Refusal(grpc::StatusCode::INTERNAL, "step failed");
  reply.messages = {Message(0, "so far")};
  server_.set_reply(reply);
  const CommandResult result = Run({"generate", "--prompt", "x"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(result.out, "so far");
  EXPECT_EQ(result.err, "eddy: INTERNAL: step failed\n");
}

TEST_F(GenerateCommandTest, DeadlineIsTheCalls) {
  FakeReply reply;
  reply.hang = true;
  server_.set_reply(reply);
  const CommandResult result = Run({"generate", "--prompt", "x", "--deadline-ms", "40"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, StartsWith("eddy: DEADLINE_EXCEEDED: "));
  EXPECT_EQ(Run({"generate", "--prompt", "x", "--deadline-ms", "0"}).exit_code, 2);
}

TEST_F(GenerateCommandTest, NobodyAnswering) {
  const std::string address = DeadAddress();
  const CommandResult result = Run({"generate", "--server", address, "--prompt", "x"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.err, StartsWith("eddy: UNAVAILABLE: no server answers at " + address));
}

// Takes `capacity` bytes and no more.
class FullDisk : public std::streambuf {
 public:
  explicit FullDisk(int capacity) : left_(capacity) {}

 private:
  int_type overflow(int_type c) override { return left_-- > 0 ? c : traits_type::eof(); }
  int left_;
};

TEST_F(GenerateCommandTest, AnOutputThatTakesNoMoreCancelsTheCall) {
  FakeReply reply;
  reply.messages = {Message(0, "0123456789")};
  reply.hang = true;
  server_.set_reply(reply);
  std::istringstream in;
  FullDisk disk(4);
  std::ostream out(&disk);
  std::ostringstream err;
  Console console{in, out, err};
  const std::vector<const char*> argv = {"eddy", "generate", "--prompt",
                                         "x",    "--server", server_.address().c_str()};
  EXPECT_EQ(RunCommandLine(static_cast<int>(argv.size()), argv.data(), console), 1);
  EXPECT_EQ(err.str(), "eddy: cannot write to the standard output\n");
  EXPECT_TRUE(Eventually([this] { return server_.log().cancelled_count == 1; }));
}

}  // namespace
}  // namespace eddy
