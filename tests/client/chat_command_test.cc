// SPDX-License-Identifier: Apache-2.0
#include "client/chat_command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/client/command_fixture.h"

namespace eddy {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

struct LineCase {
  std::string line;
  ChatLine::Kind kind;
  std::string text;
};

class ParseChatLineTest : public testing::TestWithParam<LineCase> {};

TEST_P(ParseChatLineTest, KindAndText) {
  const ChatLine parsed = ParseChatLine(GetParam().line);
  EXPECT_EQ(parsed.kind, GetParam().kind);
  EXPECT_EQ(parsed.text, GetParam().text);
}

INSTANTIATE_TEST_SUITE_P(
    Table, ParseChatLineTest,
    testing::Values(LineCase{"hello", ChatLine::Kind::kText, "hello\n"},
                    LineCase{"", ChatLine::Kind::kText, "\n"},
                    LineCase{" /exit", ChatLine::Kind::kText, " /exit\n"},
                    LineCase{"//exit", ChatLine::Kind::kText, "/exit\n"},
                    LineCase{"//", ChatLine::Kind::kText, "/\n"},
                    LineCase{"/exit", ChatLine::Kind::kExit, ""},
                    LineCase{"/quit", ChatLine::Kind::kExit, ""},
                    LineCase{"/exit \t\r", ChatLine::Kind::kExit, ""},
                    LineCase{"/help", ChatLine::Kind::kHelp, ""},
                    LineCase{"/exits", ChatLine::Kind::kUnknownCommand, "/exits"},
                    LineCase{"/", ChatLine::Kind::kUnknownCommand, "/"},
                    LineCase{"/fly away ", ChatLine::Kind::kUnknownCommand, "/fly away"}));

class ChatCommandTest : public CommandTest {
 protected:
  ChatCommandTest() {
    server_.set_answer([](const v1::GenerateRequest& turn) {
      return TextReply({"<", turn.prompt().text(), ">"});
    });
  }
};

TEST_F(ChatCommandTest, ALineInAReplyOut) {
  const CommandResult result = Run({"chat"}, CommandInput{"hello\nand you\n"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.out, "<hello\n>\n<and you\n>\n");
  EXPECT_EQ(result.err, "");
  EXPECT_EQ(server_.log().opens.size(), 1u);
  EXPECT_EQ(server_.log().Turns().size(), 2u);
}

// A model with a template gets messages: the line without its end, --prompt as the system's.
TEST_F(ChatCommandTest, AModelWithATemplateGetsMessages) {
  server_.set_chat_template("chatml");
  server_.set_reply(TextReply({"yes"}));
  const CommandResult result =
      Run({"chat", "--prompt", "Be brief."}, CommandInput{"hello\n//x\n"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.out, "yes\nyes\n");
  const std::vector<v1::GenerateRequest> turns = server_.log().Turns();
  ASSERT_EQ(turns.size(), 2u);
  const v1::Messages& first = turns[0].prompt().messages();
  ASSERT_EQ(first.messages_size(), 2);
  EXPECT_EQ(first.messages(0).role(), "system");
  EXPECT_EQ(first.messages(0).content(), "Be brief.");
  EXPECT_EQ(first.messages(1).role(), "user");
  EXPECT_EQ(first.messages(1).content(), "hello");
  const v1::Messages& second = turns[1].prompt().messages();
  ASSERT_EQ(second.messages_size(), 1);
  EXPECT_EQ(second.messages(0).content(), "/x");
}

TEST_F(ChatCommandTest, FlagsBecomeOpenAndGenerate) {
  Run({"chat", "--session", "anna", "--create", "--model", "fake", "--prompt", "Once ",
       "--max-tokens", "5", "--temperature", "0", "--stop", "\n\n"},
      CommandInput{"upon\na time\n"});
  ASSERT_EQ(server_.log().opens.size(), 1u);
  EXPECT_EQ(server_.log().opens[0].session(), "anna");
  EXPECT_EQ(server_.log().opens[0].model(), "fake");
  EXPECT_TRUE(server_.log().opens[0].create_session());
  const std::vector<v1::GenerateRequest> turns = server_.log().Turns();
  ASSERT_EQ(turns.size(), 2u);
  EXPECT_EQ(turns[0].prompt().text(), "Once upon\n");
  EXPECT_EQ(turns[1].prompt().text(), "a time\n");
  for (const v1::GenerateRequest& turn : turns) {
    EXPECT_EQ(turn.stop().max_tokens(), 5u);
    EXPECT_EQ(turn.stop().sequences(0), "\n\n");
    EXPECT_EQ(turn.sampling().temperature(), 0);
    EXPECT_TRUE(turn.sampling().has_temperature());
  }
}

TEST_F(ChatCommandTest, AReplyThatEndsItsLineGetsNoOther) {
  server_.set_reply(TextReply({"done\n"}));
  EXPECT_EQ(Run({"chat"}, CommandInput{"x\n"}).out, "done\n");
}

TEST_F(ChatCommandTest, CommandsAreNotSent) {
  const CommandResult result = Run({"chat"}, CommandInput{"/help\n/fly\n/exit\nunread\n"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.err, HasSubstr("/exit or Ctrl-D ends the chat"));
  EXPECT_THAT(result.err, HasSubstr("eddy: no command /fly; "));
  EXPECT_TRUE(server_.log().Turns().empty());
}

TEST_F(ChatCommandTest, ALineThatIsNotUtf8IsNotSent) {
  const CommandResult result = Run({"chat"}, CommandInput{"a\xFF\nb\n"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.out, "<b\n>\n");
  EXPECT_EQ(result.err, "eddy: this line is not sent: the text is not UTF-8 from byte 1 on\n");
}

TEST_F(ChatCommandTest, ATerminalIsPrompted) {
  CommandInput input{"hi\n"};
  input.terminal = true;
  const CommandResult result = Run({"chat"}, input);
  EXPECT_EQ(result.out, "<hi\n>\n");
  EXPECT_THAT(result.err, StartsWith("/exit or Ctrl-D"));
  EXPECT_THAT(result.err, HasSubstr("\n> > \n"));
}

TEST_F(ChatCommandTest, VerboseTellsOfEachReply) {
  const CommandResult result = Run({"chat", "--verbose"}, CommandInput{"a\nb\n"});
  EXPECT_EQ(result.out, "<a\n>\n<b\n>\n");
  EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 2);
  EXPECT_THAT(result.err, StartsWith("eddy: 3 tokens"));
}

TEST_F(ChatCommandTest, ARefusalEndsTheChat) {
  server_.set_reply(Refusal(grpc::StatusCode::NOT_FOUND, "session \"x\" does not exist"));
  const CommandResult result = Run({"chat", "--session", "x"}, CommandInput{"a\nb\n"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(result.err, "eddy: NOT_FOUND: session \"x\" does not exist\n");
  EXPECT_EQ(server_.log().Turns().size(), 1u);
}

TEST_F(ChatCommandTest, NobodyAnsweringIsToldEvenWithoutALine) {
  for (const char* input : {"", "hello\n"}) {
    const CommandResult result = Run({"chat", "--server", DeadAddress()}, CommandInput{input});
    EXPECT_EQ(result.exit_code, 1);
    EXPECT_THAT(result.err, StartsWith("eddy: UNAVAILABLE: no server answers at"));
  }
}

}  // namespace
}  // namespace eddy
