// SPDX-License-Identifier: Apache-2.0
#include "client/perplexity_command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/client/command_fixture.h"

namespace eddy {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

TEST(PieceLengthTest, WholeLinesElseWholeCharacters) {
  EXPECT_EQ(PieceLength("abcdef", 6), 6u);
  EXPECT_EQ(PieceLength("abcdef", 5), 5u);
  EXPECT_EQ(PieceLength("ab\nc\ndef", 6), 5u);
  EXPECT_EQ(PieceLength("ab\ncdefgh", 6), 3u);
  EXPECT_EQ(PieceLength("abc\xe2\x82\xacxyz", 4), 3u);
  EXPECT_EQ(PieceLength("abc\xe2\x82\xacxyz", 5), 3u);
  EXPECT_EQ(PieceLength("abc\xe2\x82\xacxyz", 6), 6u);
  EXPECT_EQ(PieceLength("\xf0\x9f\x8c\x80\xf0\x9f\x8c\x80", 4), 4u);
}

TEST(ParseTokenIdsTest, NumbersAndWhatIsNone) {
  std::vector<uint32_t> ids;
  EXPECT_EQ(ParseTokenIds(" 12, 7\n3\t4294967295\n", &ids), "");
  EXPECT_THAT(ids, ElementsAre(12, 7, 3, 4294967295u));
  EXPECT_EQ(ParseTokenIds(",\n", &ids), "");
  EXPECT_TRUE(ids.empty());
  EXPECT_EQ(ParseTokenIds("12 x7", &ids), "at byte 3: \"x7\" is no token id in [0, 2^32)");
  for (const char* text : {"-1", "4294967296", "1.5", "0x10", "7;"}) {
    EXPECT_THAT(ParseTokenIds(text, &ids), StartsWith("at byte 0: ")) << text;
  }
}

class PerplexityCommandTest : public CommandTest {
 protected:
  // A file of this test alone.
  std::string File(const std::string& text) {
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    const std::string path = testing::TempDir() + "/perplexity_" + test->name() + ".txt";
    std::ofstream(path, std::ios::binary) << text;
    return path;
  }
  // Of the tokens of `text` after its first, in windows.
  double Nats(const std::string& text) {
    double nats = 0;
    for (size_t i = 1; i < text.size(); ++i) {
      nats -= FakeLogProb(static_cast<uint8_t>(text[i - 1]), static_cast<uint8_t>(text[i]));
    }
    return nats;
  }
};

TEST_F(PerplexityCommandTest, EveryTokenIsPredictedOnceWhateverTheWindow) {
  const std::string text = "O brave new world,\nThat has such people in it!\n";
  const double nats = Nats(text);
  for (const char* window : {"1", "7", "46", "47", "1000"}) {
    const CommandResult result = Run({"perplexity", File(text), "--window", window, "--json"});
    ASSERT_EQ(result.exit_code, 0) << result.err;
    EXPECT_EQ(result.err, "");
    const nlohmann::json line = nlohmann::json::parse(result.out);
    EXPECT_EQ(line["tokens"], text.size() - 1);
    EXPECT_EQ(line["bytes"], text.size() - 1);
    EXPECT_DOUBLE_EQ(line["nats"], nats);
    EXPECT_DOUBLE_EQ(line["nats_per_byte"], nats / static_cast<double>(text.size() - 1));
    EXPECT_DOUBLE_EQ(line["perplexity"], std::exp(nats / static_cast<double>(text.size() - 1)));
  }
  // Windows share the token that ends one and begins the next.
  const auto requests = server_.log().Scores();
  ASSERT_EQ(requests.size(), 46u + 7u + 1u + 1u + 1u);
  EXPECT_EQ(requests[0].prompt().token_ids().ids_size(), 2);
  EXPECT_EQ(requests[0].prompt().token_ids().ids(1), requests[1].prompt().token_ids().ids(0));
  EXPECT_TRUE(requests[0].token_bytes());
}

TEST_F(PerplexityCommandTest, ATableForPeople) {
  const CommandResult result = Run({"perplexity", "-", "--model", "fake"}, CommandInput{"abc"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out,
            "tokens                       2\n"
            "bytes                        2\n"
            "nats                     10.25\n"
            "nats per token         5.12500\n"
            "nats per byte          5.12500\n"
            "perplexity            168.1741\n");
  EXPECT_EQ(server_.log().Scores().at(0).model(), "fake");
}

TEST_F(PerplexityCommandTest, ABigFileIsTokenizedInPieces) {
  std::string text;
  while (text.size() < 600'000) text += "All the world's a stage.\n";
  const CommandResult result = Run({"perplexity", File(text), "--window", "100000", "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(nlohmann::json::parse(result.out)["tokens"], text.size() - 1);
  EXPECT_NEAR(nlohmann::json::parse(result.out)["nats"], Nats(text), 1e-6);
}

TEST_F(PerplexityCommandTest, AFileOfTokenIds) {
  const CommandResult result = Run({"perplexity", File("1 2\n3 300\n"), "--token-ids", "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const auto requests = server_.log().Scores();
  ASSERT_EQ(requests.size(), 1u);
  EXPECT_THAT(requests[0].prompt().token_ids().ids(), ElementsAre(1, 2, 3, 300));
}

TEST_F(PerplexityCommandTest, AProgressBarOnATerminalIsWiped) {
  CommandInput input{"abcdefgh"};
  input.terminal = true;
  const CommandResult result = Run({"perplexity", "-", "--window", "3"}, input);
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.err, HasSubstr("%  7/7 tokens"));
  EXPECT_THAT(result.err, testing::EndsWith(" \r"));
  EXPECT_THAT(result.out, StartsWith("tokens"));
}

TEST_F(PerplexityCommandTest, ErrorsNameTheFile) {
  EXPECT_THAT(Run({"perplexity", "/nowhere/at/all"}).err, HasSubstr("/nowhere/at/all"));
  EXPECT_EQ(Run({"perplexity", "/nowhere/at/all"}).exit_code, 2);
  const auto check = [&](const std::vector<std::string>& flags, const std::string& text,
                         int exit_code, const std::string& sentence) {
    const std::string path = File(text);
    std::vector<std::string> arguments = {"perplexity", path};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    const CommandResult result = Run(arguments);
    EXPECT_EQ(result.exit_code, exit_code) << sentence;
    EXPECT_EQ(result.out, "");
    EXPECT_THAT(result.err, HasSubstr(path));
    EXPECT_THAT(result.err, HasSubstr(sentence));
  };
  check({}, "a\xff", 2, "UTF-8");
  check({}, "", 2, "it has 0 tokens; at least 2 are needed");
  check({}, "a", 2, "it has 1 tokens; at least 2 are needed");
  check({"--token-ids"}, "1 x", 2, "at byte 2: \"x\" is no token id");
  check({"--model", "other"}, "abc", 1, "NOT_FOUND: model \"other\" is not served");
  check({"--server", DeadAddress()}, "abc", 1, "UNAVAILABLE");
}

TEST_F(PerplexityCommandTest, WhatTheServerDidNotFinishIsNoAnswer) {
  FakeScoring scoring;
  scoring.finish_reason = v1::FINISH_REASON_CANCELLED;
  scoring.token_count_max = 4;
  server_.set_scoring(scoring);
  const std::string path = File("abcdefghij");
  const CommandResult result = Run({"perplexity", path});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(result.out, "");
  EXPECT_EQ(result.err,
            "eddy: " + path + ": the server ended the call after token 3 of 9: cancelled\n");
}

TEST_F(PerplexityCommandTest, WrongFlags) {
  EXPECT_EQ(Run({"perplexity"}).exit_code, 2);
  EXPECT_EQ(Run({"perplexity", "-", "--window", "0"}).exit_code, 2);
}

}  // namespace
}  // namespace eddy
