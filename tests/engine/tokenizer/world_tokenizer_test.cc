// SPDX-License-Identifier: Apache-2.0
#include "engine/tokenizer/world_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <string>
#include <vector>

#include "tests/support/model_files.h"

namespace eddy {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// A line for each byte, id = byte + 1.
std::string ByteLines() {
  std::string lines;
  for (int byte = 0; byte < 256; ++byte) {
    char line[32];
    std::snprintf(line, sizeof(line), "%d b'\\x%02x' 1\n", byte + 1, byte);
    lines += line;
  }
  return lines;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> Load(const std::string& text) {
  const TestFolder folder;
  WriteBytes(folder / "vocab.txt", text);
  return LoadWorldTokenizer(folder / "vocab.txt", {});
}

TEST(WorldTokenizerTest, ReadsPythonLiterals) {
  const auto tokenizer = Load(ByteLines() +
                              "300 'a b' 3\r\n"
                              "301 \"it's\" 4\n"
                              "302 '\\t\\n\\r\\\\\\'' 5\n"
                              "303 '\\u20ac\\xe9' 5\n"
                              "304 b'\\xe9\\x80' 2\n"
                              "305 '\u00fc' 2\n");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->vocabulary_size(), 306);
  EXPECT_EQ((*tokenizer)->TokenBytes(300), "a b");
  EXPECT_EQ((*tokenizer)->TokenBytes(301), "it's");
  EXPECT_EQ((*tokenizer)->TokenBytes(302), "\t\n\r\\'");
  EXPECT_EQ((*tokenizer)->TokenBytes(303), "\u20ac\u00e9");
  EXPECT_EQ((*tokenizer)->TokenBytes(304), "\xe9\x80");
  EXPECT_EQ((*tokenizer)->TokenBytes(305), "\u00fc");
  EXPECT_EQ((*tokenizer)->TokenBytes(0), "");
  EXPECT_EQ((*tokenizer)->TokenBytes(299), "");
  EXPECT_THAT(*(*tokenizer)->Encode("a b\u20ac\u00e9\xe9\x80!"), ElementsAre(300, 303, 304, 34));
}

TEST(WorldTokenizerTest, NamesTheLineThatIsWrong) {
  const std::pair<const char*, const char*> kCases[] = {
      {"300 'ab'", "expected an id, a literal and a length"},
      {"x 'ab' 2", "expected an id from 1"},
      {"0 'ab' 2", "expected an id from 1"},
      {"99999999 'ab' 2", "expected an id from 1"},
      {"300 ab 2", "expected a Python literal"},
      {"300 'ab\" 2", "expected a Python literal"},
      {"300 'a'b' 3", "expected a Python literal"},
      {"300 '\\q' 1", "expected a Python literal"},
      {"300 '\\x4' 1", "expected a Python literal"},
      {"300 '\\ud800' 3", "expected a Python literal"},
      {"300 b'\\u0041' 1", "expected a Python literal"},
      {"300 'ab' 3", "expected the length of the literal, 2"},
      {"300 '' 0", "at least 1"},
      {"300 'a' 1", "the token occurs twice"},
      {"7 'ab' 2", "the id occurs twice"}};
  for (const auto& [line, part] : kCases) {
    const auto tokenizer = Load(ByteLines() + line + "\n");
    ASSERT_EQ(tokenizer.status().code(), absl::StatusCode::kInvalidArgument) << line;
    EXPECT_THAT(std::string(tokenizer.status().message()), HasSubstr("vocab.txt: line 257 is "));
    EXPECT_THAT(std::string(tokenizer.status().message()), HasSubstr(part)) << line;
  }
}

TEST(WorldTokenizerTest, NeedsEveryByteAndHasNoSpecialTokens) {
  EXPECT_THAT(std::string(Load("1 'a' 1\n").status().message()),
              HasSubstr("has tokens for 1 single bytes, expected one for each of the 256"));
  const TestFolder folder;
  WriteBytes(folder / "vocab.txt", ByteLines());
  TextRules rules;
  rules.file = "config";
  rules.adds_bos = true;
  EXPECT_THAT(std::string(LoadWorldTokenizer(folder / "vocab.txt", rules).status().message()),
              HasSubstr("config: add_bos_token or add_eos_token is true"));
}

}  // namespace
}  // namespace eddy
