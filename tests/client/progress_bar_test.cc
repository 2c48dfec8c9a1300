// SPDX-License-Identifier: Apache-2.0
#include "client/progress_bar.h"

#include <gtest/gtest.h>

#include <sstream>

namespace eddy {
namespace {

LoadProgress Progress(double elapsed_s, int64_t running, int64_t finished, int64_t failed,
                      int64_t generated_tokens) {
  return LoadProgress{elapsed_s, running, finished, failed, generated_tokens};
}

TEST(FormatProgressTest, AgainstRequests) {
  EXPECT_EQ(FormatProgress(Progress(12.34, 8, 24, 2, 10'000), ProgressGoal{64, 0}),
            "[########------------]  40 %  12.3 s  26/64 requests  8 running  810.4 tokens/s"
            "  2 failed");
}

TEST(FormatProgressTest, AgainstTime) {
  EXPECT_EQ(FormatProgress(Progress(2.5, 3, 7, 0, 100), ProgressGoal{0, 10}),
            "[#####---------------]  25 %  2.5 s  7 requests  3 running  40.0 tokens/s");
}

TEST(FormatProgressTest, TheNearerGoalCounts) {
  const LoadProgress progress = Progress(5, 1, 8, 0, 0);
  EXPECT_EQ(FormatProgress(progress, ProgressGoal{10, 100}).substr(0, 28),
            "[################----]  80 %");
  EXPECT_EQ(FormatProgress(progress, ProgressGoal{1000, 10}).substr(0, 28),
            "[##########----------]  50 %");
}

TEST(FormatProgressTest, AtTheStart) {
  EXPECT_EQ(FormatProgress(LoadProgress(), ProgressGoal{4, 0}),
            "[--------------------]   0 %  0.0 s  0/4 requests  0 running");
}

TEST(FormatBarTest, SharesAndBeyond) {
  EXPECT_EQ(FormatBar(0.0), "[--------------------]   0 %");
  EXPECT_EQ(FormatBar(0.4), "[########------------]  40 %");
  EXPECT_EQ(FormatBar(1.0), "[####################] 100 %");
  EXPECT_EQ(FormatBar(1.5), FormatBar(1.0));
  EXPECT_EQ(FormatBar(-1.0), FormatBar(0.0));
}

TEST(FormatProgressTest, NeverMoreThanEverything) {
  EXPECT_EQ(FormatProgress(Progress(30, 0, 70, 0, 0), ProgressGoal{64, 10}).substr(0, 28),
            "[####################] 100 %");
}

TEST(ProgressBarTest, WritesOverTheLineBeforeAndWipesItAtTheEnd) {
  std::ostringstream out;
  const ProgressGoal goal{10, 0};
  const LoadProgress longer = Progress(1, 10, 0, 5, 1'000);
  const LoadProgress shorter = Progress(2, 0, 5, 0, 0);
  const std::string first = FormatProgress(longer, goal);
  const std::string second = FormatProgress(shorter, goal);
  ASSERT_LT(second.size(), first.size());
  {
    ProgressBar bar(out);
    bar.Show(first);
    bar.Show(second);
  }
  const std::string stale(first.size() - second.size(), ' ');
  EXPECT_EQ(out.str(),
            "\r" + first + "\r" + second + stale + "\r" + std::string(second.size(), ' ') + "\r");
}

TEST(ProgressBarTest, ABarNeverShownWritesNothing) {
  std::ostringstream out;
  { ProgressBar bar(out); }
  EXPECT_EQ(out.str(), "");
}

}  // namespace
}  // namespace eddy
