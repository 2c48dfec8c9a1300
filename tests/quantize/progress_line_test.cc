// SPDX-License-Identifier: Apache-2.0
#include "quantize/progress_line.h"

#include <gtest/gtest.h>

#include <sstream>

namespace eddy {
namespace {

TEST(ProgressLineTest, Format) {
  EXPECT_EQ(FormatProgressLine(0, 10, "x"), "[--------------------]   0 %  x");
  EXPECT_EQ(FormatProgressLine(4, 10, "x"), "[########------------]  40 %  x");
  EXPECT_EQ(FormatProgressLine(10, 10, "x"), "[####################] 100 %  x");
  EXPECT_EQ(FormatProgressLine(11, 10, "x"), "[####################] 100 %  x");
  EXPECT_EQ(FormatProgressLine(0, 0, "x"), "[####################] 100 %  x");
}

TEST(ProgressLineTest, WritesOverTheLineAndWipesIt) {
  std::ostringstream out;
  {
    ProgressLine line(out, true);
    line.Show(1, 2, "long");
    line.Show(1, 2, "long");  // says nothing new
    line.Show(2, 2, "x");
  }
  EXPECT_EQ(out.str(),
            "\r[##########----------]  50 %  long\r[####################] 100 %  x   \r" +
                std::string(31, ' ') + "\r");
}

TEST(ProgressLineTest, IsForTerminalsOnly) {
  std::ostringstream out;
  { ProgressLine(out, false).Show(1, 2, "x"); }
  { ProgressLine unused(out, true); }
  EXPECT_EQ(out.str(), "");
}

}  // namespace
}  // namespace eddy
