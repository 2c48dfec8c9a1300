// SPDX-License-Identifier: Apache-2.0
#include "client/prompt_flags.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace eddy {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

void Parse(CLI::App& app, std::vector<std::string> arguments) {
  std::reverse(arguments.begin(), arguments.end());
  app.parse(arguments);
}

struct ParsedPrompt {
  bool given = false;
  std::string problem;
  v1::Prompt prompt;
};

ParsedPrompt ParsePrompt(const std::vector<std::string>& arguments, const std::string& input = "") {
  CLI::App app;
  PromptFlags flags;
  AddPromptFlags(app, flags);
  Parse(app, arguments);
  std::istringstream in(input);
  ParsedPrompt parsed;
  parsed.given = flags.given();
  parsed.problem = ReadPrompt(flags, in, &parsed.prompt);
  return parsed;
}

// What must reach the model unchanged, however odd: flags, lists and quotes to CLI11.
TEST(PromptFlagsTest, TextIsTakenAsItIs) {
  for (const std::string text :
       {"To be", "", " ", "-x", "--json", "--", "[a,b]", "{}", "[]", "%%", "\"quoted\"", "'q'",
        "a\nb\n", "1,2,3", "#", "\u00e9\U0001F600", "@file", "=x"}) {
    const ParsedPrompt parsed = ParsePrompt({"--prompt", text});
    EXPECT_TRUE(parsed.given) << text;
    EXPECT_EQ(parsed.problem, "");
    EXPECT_TRUE(parsed.prompt.has_text());
    EXPECT_EQ(parsed.prompt.text(), text);
    if (!text.empty()) {
      EXPECT_EQ(ParsePrompt({"--prompt=" + text}).prompt.text(), text);
    }
  }
}

TEST(PromptFlagsTest, TokenIds) {
  const ParsedPrompt parsed = ParsePrompt({"--token-ids", "1,2,4294967295"});
  EXPECT_TRUE(parsed.given);
  EXPECT_THAT(parsed.prompt.token_ids().ids(), ElementsAre(1u, 2u, 4294967295u));
  EXPECT_THAT(ParsePrompt({"--token-ids", "5"}).prompt.token_ids().ids(), ElementsAre(5u));
  EXPECT_THAT(ParsePrompt({"--token-ids", "5", "--token-ids", "6,7"}).prompt.token_ids().ids(),
              ElementsAre(5u, 6u, 7u));
}

TEST(PromptFlagsTest, NothingGiven) {
  const ParsedPrompt parsed = ParsePrompt({});
  EXPECT_FALSE(parsed.given);
  EXPECT_EQ(parsed.prompt.content_case(), v1::Prompt::CONTENT_NOT_SET);
}

TEST(PromptFlagsTest, BadCommandLines) {
  const std::vector<std::vector<std::string>> cases = {
      {"--prompt", "a", "--prompt-file", "f"},
      {"--prompt", "a", "--token-ids", "1"},
      {"--prompt-file", "f", "--token-ids", "1"},
      {"--prompt"},
      {"--prompt="},
      {"--prompt", "bad \xFF byte"},
      {"--token-ids", "1,x"},
      {"--token-ids", "-1"},
      {"--token-ids", "4294967296"},
      {"--token-ids", ""},
      {"--token-ids", "1.5"},
      {"--token-ids", "010"},
      {"--token-ids", "{}"},
  };
  for (const auto& arguments : cases) {
    EXPECT_THROW(ParsePrompt(arguments), CLI::ParseError) << testing::PrintToString(arguments);
  }
}

TEST(PromptFlagsTest, TextFlagsAloneTakeNoTokenIds) {
  CLI::App app;
  PromptFlags flags;
  AddTextFlags(app, flags);
  EXPECT_EQ(flags.token_ids_option, nullptr);
  EXPECT_THROW(Parse(app, {"--token-ids", "1"}), CLI::ParseError);
  CLI::App other;
  AddTextFlags(other, flags);
  Parse(other, {"--prompt", "x"});
  std::istringstream in;
  v1::Prompt prompt;
  EXPECT_EQ(ReadPrompt(flags, in, &prompt), "");
  EXPECT_EQ(prompt.text(), "x");
}

class PromptFileTest : public testing::Test {
 protected:
  std::string Write(const std::string& content) {
    const std::string path = testing::TempDir() + "/eddy_prompt_file_test.txt";
    std::ofstream(path, std::ios::binary) << content;
    return path;
  }
};

TEST_F(PromptFileTest, IsReadWhole) {
  for (const std::string& content : {std::string("ROMEO:\n\nO\u00e9"), std::string(),
                                     std::string("a\0b\r\n", 5), std::string(300'000, 'x')}) {
    const ParsedPrompt parsed = ParsePrompt({"--prompt-file", Write(content)});
    EXPECT_TRUE(parsed.given);
    EXPECT_EQ(parsed.problem, "");
    EXPECT_TRUE(parsed.prompt.has_text());
    EXPECT_EQ(parsed.prompt.text(), content);
  }
}

TEST_F(PromptFileTest, DashIsTheStandardInput) {
  EXPECT_EQ(ParsePrompt({"--prompt-file", "-"}, "from\na pipe\n").prompt.text(), "from\na pipe\n");
}

TEST_F(PromptFileTest, ProblemsNameTheFile) {
  EXPECT_THAT(ParsePrompt({"--prompt-file", "/does/not/exist"}).problem,
              StartsWith("cannot read prompt file /does/not/exist: No such file"));
  EXPECT_THAT(ParsePrompt({"--prompt-file", testing::TempDir()}).problem,
              HasSubstr("Is a directory"));
  const std::string path = Write("good\xC3");
  EXPECT_EQ(ParsePrompt({"--prompt-file", path}).problem,
            "prompt file " + path + ": the text is not UTF-8 from byte 4 on");
  EXPECT_THAT(ParsePrompt({"--prompt-file", "-"}, "\xFF").problem, HasSubstr("from byte 0 on"));
}

TEST(SessionFlagsTest, FlagsToFields) {
  CLI::App app;
  SessionFlags flags;
  AddSessionFlags(app, flags);
  Parse(app, {"--session", "anna", "--create", "--model", "m"});
  EXPECT_EQ(flags.session, "anna");
  EXPECT_TRUE(flags.create);
  EXPECT_EQ(flags.model, "m");
}

TEST(SessionFlagsTest, CreateNeedsASession) {
  CLI::App app;
  SessionFlags flags;
  AddSessionFlags(app, flags);
  EXPECT_THROW(Parse(app, {"--create"}), CLI::ParseError);
}

TEST(SessionFlagsTest, NamesAreUtf8) {
  for (const char* flag : {"--session", "--model"}) {
    CLI::App app;
    SessionFlags flags;
    AddSessionFlags(app, flags);
    EXPECT_THROW(Parse(app, {flag, "\xFE"}), CLI::ParseError);
  }
}

}  // namespace
}  // namespace eddy
