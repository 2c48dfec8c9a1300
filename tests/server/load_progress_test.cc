// SPDX-License-Identifier: Apache-2.0
#include "server/load_progress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

namespace eddy {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr int64_t kMebibyte = int64_t{1} << 20;

class LoadProgressTest : public testing::Test {
 protected:
  LoadProgressLine::Clock Clock() {
    return [this] { return now_; };
  }

  steady_clock::time_point now_;
  std::ostringstream out_;
};

TEST_F(LoadProgressTest, KeepsALineOnATerminalAndWipesIt) {
  {
    LoadProgressLine line(out_, true, "m", Clock());
    line.Show(kMebibyte, 4 * kMebibyte);  // too soon
    EXPECT_EQ(out_.str(), "");
    now_ += milliseconds(100);
    line.Show(kMebibyte, 4 * kMebibyte);
    line.Show(2 * kMebibyte, 4 * kMebibyte);
    now_ += milliseconds(99);
    line.Show(3 * kMebibyte, 4 * kMebibyte);
    line.Show(4 * kMebibyte, 4 * kMebibyte);  // the end is shown whenever it comes
  }
  EXPECT_EQ(out_.str(),
            "\r[#####---------------]  25 %  loading m, 1.0 MiB of 4.0 MiB"
            "\r[####################] 100 %  loading m, 4.0 MiB of 4.0 MiB"
            "\r" +
                std::string(59, ' ') + "\r");
}

TEST_F(LoadProgressTest, AShorterLineCoversTheOneBefore) {
  LoadProgressLine line(out_, true, "m", Clock());
  now_ += milliseconds(100);
  line.Show(1023 * kMebibyte, 2048 * kMebibyte);
  out_.str("");
  line.Show(2048 * kMebibyte, 2048 * kMebibyte);
  EXPECT_EQ(out_.str(), "\r[####################] 100 %  loading m, 2.0 GiB of 2.0 GiB   ");
}

TEST_F(LoadProgressTest, AFewLinesElsewhereWhereItTakesLong) {
  LoadProgressLine line(out_, false, "folder/m", Clock());
  line.Show(kMebibyte, 4 * kMebibyte);
  EXPECT_EQ(out_.str(), "");  // may be done in a moment
  now_ += LoadProgressLine::kPatience;
  for (int64_t i = 2 * 1024; i <= 4 * 1024; ++i) line.Show(i << 10, 4 * kMebibyte);
  line.Show(4 * kMebibyte, 4 * kMebibyte);
  EXPECT_EQ(out_.str(),
            "eddy-server: loading folder/m: 2.0 MiB of 4.0 MiB\n"
            "eddy-server: loading folder/m: 3.0 MiB of 4.0 MiB\n"
            "eddy-server: loading folder/m: 4.0 MiB of 4.0 MiB\n");
}

TEST_F(LoadProgressTest, SaysNothingOfNothing) {
  for (const bool is_terminal : {true, false}) {
    LoadProgressLine line(out_, is_terminal, "m", Clock());
    now_ += LoadProgressLine::kPatience;
    line.Show(0, 0);
  }
  EXPECT_EQ(out_.str(), "");
}

}  // namespace
}  // namespace eddy
