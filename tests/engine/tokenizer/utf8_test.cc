// SPDX-License-Identifier: Apache-2.0
#include "engine/tokenizer/utf8.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>
#include <string>
#include <string_view>

namespace eddy {
namespace {

std::string Whole(std::string_view bytes) {
  Utf8Stream stream;
  std::string text;
  stream.Feed(bytes, &text);
  stream.Finish(&text);
  return text;
}

// The rule as Unicode states it, by trying: at each place the longest prefix that some valid
// character begins with (the maximal subpart) becomes that character if it is whole, else one
// U+FFFD. A character is valid when encoding its code point gives the same bytes.
std::string Encoded(uint32_t c) {
  const auto byte = [](uint32_t value) { return static_cast<char>(value); };
  if (c < 0x80) return {byte(c)};
  if (c < 0x800) return {byte(0xC0 | c >> 6), byte(0x80 | (c & 63))};
  if (c < 0x10000) return {byte(0xE0 | c >> 12), byte(0x80 | (c >> 6 & 63)), byte(0x80 | (c & 63))};
  return {byte(0xF0 | c >> 18), byte(0x80 | (c >> 12 & 63)), byte(0x80 | (c >> 6 & 63)),
          byte(0x80 | (c & 63))};
}

class NaiveUtf8 {
 public:
  NaiveUtf8() {
    for (uint32_t c = 0; c <= 0x10FFFF; ++c) {
      if (c >= 0xD800 && c <= 0xDFFF) continue;
      const std::string bytes = Encoded(c);
      for (size_t n = 1; n < bytes.size(); ++n) begins_.insert(bytes.substr(0, n));
      if (bytes.size() <= 2 || (c & 63) == 0) whole_.insert(bytes.substr(0, bytes.size() - 1));
    }
  }
  std::string Decode(std::string_view bytes) const {
    std::string text;
    for (size_t at = 0; at < bytes.size();) {
      size_t n = 1;
      while (n < 4 && at + n <= bytes.size() && begins_.contains(std::string(bytes.substr(at, n))))
        ++n;
      const std::string_view part = bytes.substr(at, n);
      if (part.size() == n && IsWhole(part)) {
        text.append(part);
        at += n;
      } else {
        text.append("\uFFFD");
        at += std::max<size_t>(n - 1, 1);
      }
    }
    return text;
  }

 private:
  bool IsWhole(std::string_view part) const {
    if (part.size() == 1) return static_cast<uint8_t>(part[0]) < 0x80;
    const uint8_t last = static_cast<uint8_t>(part.back());
    return last >= 0x80 && last < 0xC0 &&
           whole_.contains(std::string(part.substr(0, part.size() - 1)));
  }

  std::set<std::string> begins_;  // every proper prefix of a character
  std::set<std::string> whole_;   // every character of two bytes or more, without its last byte
};

TEST(Utf8StreamTest, TheExamplesOfTheStandard) {
  const std::string r = "\uFFFD";
  // Unicode 15, tables 3-8 to 3-11.
  EXPECT_EQ(Whole("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41"), r + r + r + r + r + r + r + r + "A");
  EXPECT_EQ(Whole("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41"), r + r + r + r + r + r + r + r + "A");
  EXPECT_EQ(Whole("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42"), r + r + r + r + r + "A" + r + r + "B");
  EXPECT_EQ(Whole("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41"), r + r + r + r + "A");
}

TEST(Utf8StreamTest, EveryValidCharacterPasses) {
  for (uint32_t c = 0; c <= 0x10FFFF; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    const std::string bytes = Encoded(c);
    ASSERT_EQ(Whole(bytes), bytes) << c;
  }
}

TEST(Utf8StreamTest, HoldsBackOnlyWhatMayBecomeWhole) {
  Utf8Stream stream;
  std::string text;
  stream.Feed("a\xF0\x9F", &text);
  EXPECT_EQ(text, "a");
  stream.Feed("\x98", &text);
  EXPECT_EQ(text, "a");
  stream.Feed("\x80", &text);
  EXPECT_EQ(text, "a\U0001F600");
  stream.Feed("\xE2\x82", &text);
  stream.Feed("b", &text);
  EXPECT_EQ(text, "a\U0001F600\uFFFDb");
  stream.Feed("\xFF", &text);  // can never begin one: not held back
  EXPECT_EQ(text, "a\U0001F600\uFFFDb\uFFFD");
  stream.Finish(&text);
  stream.Finish(&text);
  EXPECT_EQ(text, "a\U0001F600\uFFFDb\uFFFD");
}

TEST(Utf8StreamTest, AgreesWithTheNaiveRuleHoweverItIsCut) {
  const NaiveUtf8 naive;
  std::mt19937 random(20240601);
  // Bytes near the edges of the rule come up often.
  const std::string edges =
      "aZ\x7F\x80\x8F\x90\x9F\xA0\xBF\xC0\xC1\xC2\xDF\xE0\xE1\xEC\xED\xEE\xEF\xF0\xF1\xF3\xF4\xF5"
      "\xFF";
  for (int i = 0; i < 50000; ++i) {
    std::string bytes(random() % 24, '\0');
    for (char& c : bytes) {
      c = random() % 4 == 0 ? static_cast<char>(random() % 256) : edges[random() % edges.size()];
    }
    const std::string expected = naive.Decode(bytes);
    ASSERT_EQ(Whole(bytes), expected) << testing::PrintToString(bytes);
    Utf8Stream stream;
    std::string text;
    for (size_t at = 0; at < bytes.size();) {
      const size_t n = std::min<size_t>(random() % 5, bytes.size() - at);
      stream.Feed(std::string_view(bytes).substr(at, n), &text);
      at += n;
      ASSERT_EQ(Whole(text), text) << "not whole UTF-8";
      ASSERT_TRUE(expected.starts_with(text));
    }
    stream.Finish(&text);
    ASSERT_EQ(text, expected) << testing::PrintToString(bytes);
  }
}

TEST(Utf8StreamTest, MayReplaceEachByte) {
  const std::string r = "\uFFFD";
  Utf8Stream stream(Utf8Stream::Invalid::kByte);
  std::string text;
  stream.Feed("\xF0\x9F\x98 \xF0\x9F\x98\x80\xE2\xE2\x82", &text);
  stream.Finish(&text);
  EXPECT_EQ(text, r + r + r + " \U0001F600" + r + r + r);
}

TEST(Utf8Test, CharactersGoThereAndBack) {
  for (uint32_t c = 0; c <= 0x10FFFF; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    const std::string bytes = Encoded(c);
    std::string text;
    AppendUtf8(c, &text);
    ASSERT_EQ(text, bytes);
    ASSERT_EQ(ValidCharacterBytes(text + "\x80"), bytes.size()) << c;
    size_t count = 0;
    ASSERT_EQ(DecodeCharacter(text + "a", &count), c);
    ASSERT_EQ(count, bytes.size());
  }
  for (const char* invalid : {"", "\x80", "\xC0\xAF", "\xE2\x82", "\xE2\x82x", "\xED\xA0\x80",
                              "\xF4\x90\x80\x80", "\xF0\x9F\x98", "\xFF"}) {
    EXPECT_EQ(ValidCharacterBytes(invalid), 0u) << testing::PrintToString(invalid);
  }
}

}  // namespace
}  // namespace eddy
