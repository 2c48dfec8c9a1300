// SPDX-License-Identifier: Apache-2.0
#include "engine/tokenizer/pattern.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

namespace eddy {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<std::string> Matches(const char* pattern, std::string_view text) {
  const auto made = Pattern::Make(pattern, "f: p");
  EXPECT_TRUE(made.ok()) << made.status();
  std::vector<std::string> matches;
  Pattern::Scan scan(*made);
  scan.Start(text);
  for (Pattern::Match match;;) {
    const auto found = scan.Next(&match);
    EXPECT_TRUE(found.ok()) << found.status();
    if (!found.ok() || !*found) return matches;
    matches.emplace_back(text.substr(match.begin, match.end - match.begin));
  }
}

TEST(PatternTest, FindsMatchesFromLeftToRight) {
  EXPECT_THAT(Matches(R"(\p{L}+|\p{N}{1,3})", "ab12345é!x"),
              ElementsAre("ab", "123", "45", "é", "x"));
  EXPECT_THAT(Matches(R"((?i:'s|'ll)|\s+(?!\S)|\s+)", "it'S  a 'll "),
              ElementsAre("'S", " ", " ", " ", "'ll", " "));
  EXPECT_THAT(Matches("x*", "axé"), ElementsAre("", "x", "", ""));
  EXPECT_THAT(Matches(R"(\u00e9|\.)", "aé."), ElementsAre("é", "."));
  EXPECT_THAT(Matches("a", ""), ElementsAre());
}

// Oniguruma's \s is White_Space: with U+0085, without U+180E and U+200B.
TEST(PatternTest, BlanksAreWhiteSpace) {
  EXPECT_THAT(Matches(R"(\s)", "a\u0085\u180e\u200b\u3000\x1c\x0b"),
              ElementsAre("\u0085", "\u3000", "\x0b"));
  EXPECT_THAT(Matches(R"([^\s\p{L}]+)", "a\u180e\u0085,"), ElementsAre("\u180e", ","));
  EXPECT_THAT(Matches(R"(\S+)", "a\u180e\u0085b"), ElementsAre("a\u180e", "b"));
}

TEST(PatternTest, RefusesWhatMayNotMeanTheSame) {
  const std::pair<const char*, const char*> kCases[] = {{"^a", "\"^\""},
                                                        {"a$", "\"$\""},
                                                        {R"(\w+)", R"("\\w")"},
                                                        {R"(\h)", R"("\\h")"},
                                                        {R"(\bx)", R"("\\b")"},
                                                        {"(?i)a", "(?i)"},
                                                        {"[[:alpha:]]", "[:"},
                                                        {"[a&&b]", "&&"},
                                                        {R"([\S])", R"("\\S")"},
                                                        {"a{,3}", "{,3}"},
                                                        {"a{1,2}+", "{1,2}+"},
                                                        {"(?<name>a)", "(?<n"},
                                                        {R"(\p{^L})", R"("\\p")"},
                                                        {R"(\1)", R"("\\1")"},
                                                        {"[]a]", "[]"},
                                                        {"[a", "[ without ]"},
                                                        {"a)", "no pattern"},
                                                        {"(a", "no pattern"},
                                                        {R"(\p{Nonsense})", "no pattern"},
                                                        {"", "1 to 4096 bytes"},
                                                        {"*", "no pattern"}};
  for (const auto& [pattern, part] : kCases) {
    const auto made = Pattern::Make(pattern, "f: p");
    ASSERT_EQ(made.status().code(), absl::StatusCode::kInvalidArgument) << pattern;
    EXPECT_THAT(std::string(made.status().message()), HasSubstr(part)) << pattern;
    EXPECT_THAT(std::string(made.status().message()), HasSubstr("f: p is ")) << pattern;
  }
  EXPECT_FALSE(Pattern::Make(std::string(5000, 'a'), "f").ok());
}

// A pattern that tries all ways ends in an error, not in the next century.
TEST(PatternTest, EndsWhenItIsTooMuch) {
  const auto pattern = Pattern::Make("(?:a|a?)+b", "f: p");
  ASSERT_TRUE(pattern.ok()) << pattern.status();
  const std::string text = std::string(200, 'a') + "cb";
  Pattern::Scan scan(*pattern);
  scan.Start(text);
  Pattern::Match match;
  const auto found = scan.Next(&match);
  ASSERT_EQ(found.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(found.status().message()), HasSubstr("too much for the pattern of f: p"));
}

}  // namespace
}  // namespace eddy
