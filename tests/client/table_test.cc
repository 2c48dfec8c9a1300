// SPDX-License-Identifier: Apache-2.0
#include "client/table.h"

#include <gtest/gtest.h>

namespace eddy {
namespace {

TEST(FormatTableTest, WordsGoLeftAndNumbersRight) {
  EXPECT_EQ(FormatTable({{"NAME", "COUNT", "KIND"},
                         {"a", "7", "short"},
                         {"longer", "1234567", "x"},
                         {"b", "-1.5", ""}}),
            "NAME      COUNT  KIND\n"
            "a             7  short\n"
            "longer  1234567  x\n"
            "b          -1.5\n");
}

TEST(FormatTableTest, OneWordMakesAColumnOfWords) {
  EXPECT_EQ(FormatTable({{"N"}, {"12345"}, {"7"}, {"x"}}), "N\n12345\n7\nx\n");
}

TEST(FormatTableTest, WidthsAreCodePoints) {
  EXPECT_EQ(FormatTable({{"NAME", "X"}, {"h\u00e9llo", "y"}, {"\u65e5\u672c", "z"}}),
            "NAME   X\n"
            "h\u00e9llo  y\n"
            "\u65e5\u672c     z\n");
}

TEST(FormatTableTest, ShortRowsAndNoRows) {
  EXPECT_EQ(FormatTable({{"A", "B"}, {"x"}, {"y", "z", "beyond"}}), "A  B\nx\ny  z  beyond\n");
  EXPECT_EQ(FormatTable({{"A", "B"}}), "A  B\n");
  EXPECT_EQ(FormatTable({}), "");
}

TEST(FormatNumberTest, RoundsToDecimals) {
  EXPECT_EQ(FormatNumber(1.005, 1), "1.0");
  EXPECT_EQ(FormatNumber(2.75, 1), "2.8");
  EXPECT_EQ(FormatNumber(-3, 2), "-3.00");
  EXPECT_EQ(FormatNumber(1e15, 0), "1000000000000000");
}

}  // namespace
}  // namespace eddy
