// SPDX-License-Identifier: Apache-2.0
#include "client/utf8.h"

#include <gtest/gtest.h>

#include <string>

namespace eddy {
namespace {

// The bytes of `code_point`, in as many bytes as are asked for, overlong or not.
std::string Encode(uint32_t code_point, int bytes) {
  if (bytes == 1) return std::string(1, static_cast<char>(code_point));
  std::string text;
  for (int i = 0; i < bytes - 1; ++i) {
    text.insert(text.begin(), static_cast<char>(0x80 | (code_point & 0x3F)));
    code_point >>= 6;
  }
  const uint32_t lead = (0xF00u >> bytes) & 0xFF;
  text.insert(text.begin(), static_cast<char>(lead | code_point));
  return text;
}

int ShortestBytes(uint32_t code_point) {
  return code_point < 0x80 ? 1 : code_point < 0x800 ? 2 : code_point < 0x10000 ? 3 : 4;
}

// Every value a sequence of 1 to 4 bytes can spell, in every number of bytes that can spell it.
TEST(FindInvalidUtf8Test, TakesEveryCodePointInItsShortestFormOnly) {
  for (uint32_t code_point = 0; code_point < 0x200000; ++code_point) {
    const bool exists = code_point <= 0x10FFFF && (code_point < 0xD800 || code_point > 0xDFFF);
    for (int bytes = ShortestBytes(code_point); bytes <= 4; ++bytes) {
      const bool good = exists && bytes == ShortestBytes(code_point);
      ASSERT_EQ(FindInvalidUtf8(Encode(code_point, bytes)).has_value(), !good)
          << code_point << " in " << bytes << " bytes";
    }
  }
}

TEST(FindInvalidUtf8Test, TellsWhereTheFirstBadSequenceBegins) {
  EXPECT_EQ(FindInvalidUtf8(""), std::nullopt);
  EXPECT_EQ(FindInvalidUtf8("plain"), std::nullopt);
  EXPECT_EQ(FindInvalidUtf8(std::string("a\0b", 3)), std::nullopt);
  EXPECT_EQ(FindInvalidUtf8("h\u00e9 \u65e5 \U0001F600"), std::nullopt);
  EXPECT_EQ(FindInvalidUtf8("ab\x80"), 2u);
  EXPECT_EQ(FindInvalidUtf8("ab\xC3"), 2u);
  EXPECT_EQ(FindInvalidUtf8("ab\xC3 x"), 2u);
  EXPECT_EQ(FindInvalidUtf8("\u00e9\xE6\x97"), 2u);
  EXPECT_EQ(FindInvalidUtf8("x\xF0\x9F\x98\xFF"), 1u);
  EXPECT_EQ(FindInvalidUtf8("\xFF"), 0u);
  EXPECT_EQ(FindInvalidUtf8("\xF8\x88\x80\x80\x80"), 0u);
}

}  // namespace
}  // namespace eddy
