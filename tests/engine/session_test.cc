// SPDX-License-Identifier: Apache-2.0
#include "engine/session.h"

#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <random>
#include <vector>

#include "engine/token_window.h"

namespace eddy {
namespace {

std::map<int32_t, int32_t> Counts(const TokenWindow& window) {
  std::map<int32_t, int32_t> counts;
  for (const TokenCount& entry : window.counts()) {
    EXPECT_TRUE(counts.emplace(entry.token, entry.count).second)
        << "token " << entry.token << " twice";
  }
  return counts;
}

TEST(TokenWindowTest, CountsTheLast1024TokensWheneverAskedTo) {
  std::mt19937 random(1);
  TokenWindow window;
  std::deque<int32_t> reference;
  for (int i = 0; i < 5000; ++i) {
    if (i % 700 == 300) window.KeepCounts(true);
    if (i % 700 == 650) window.KeepCounts(false);
    const auto token = static_cast<int32_t>(random() % 90);
    window.Append(token);
    reference.push_back(token);
    if (reference.size() > TokenWindow::kTokenCountMax) reference.pop_front();
    if (i % 50 != 0) continue;
    const bool keeps = i >= 300 && (i - 300) % 700 < 350;
    std::map<int32_t, int32_t> expected;
    if (keeps) {
      for (const int32_t seen : reference) ++expected[seen];
    }
    ASSERT_EQ(Counts(window), expected) << i;
    for (const size_t count : {size_t{0}, size_t{1}, size_t{30}, reference.size()}) {
      if (count > reference.size()) continue;
      std::vector<int32_t> last(reference.end() - static_cast<std::ptrdiff_t>(count),
                                reference.end());
      ASSERT_TRUE(window.EndsWith(last));
      if (last.empty()) continue;
      last.front() += 1;
      ASSERT_FALSE(window.EndsWith(last));
    }
  }
  EXPECT_FALSE(window.EndsWith(std::vector<int32_t>(TokenWindow::kTokenCountMax + 1)));
  EXPECT_EQ(window.size(), TokenWindow::kTokenCountMax);
}

TEST(SessionTest, TheLastGeneratedTokenIsPendingUntilItIsRead) {
  Session session(1, "s");
  EXPECT_EQ(session.position(), 0);
  const int32_t prompt[] = {5, 6, 7};
  session.Read(prompt);
  EXPECT_EQ(session.position(), 3);
  EXPECT_EQ(session.read_count(), 3);
  EXPECT_EQ(session.pending_token(), -1);
  session.AppendGenerated(9);
  EXPECT_EQ(session.position(), 4);
  EXPECT_EQ(session.read_count(), 3);
  EXPECT_EQ(session.pending_token(), 9);
  session.Read({});
  EXPECT_EQ(session.position(), 4);
  EXPECT_EQ(session.read_count(), 4);
  session.AppendGenerated(8);
  session.Read(prompt);  // the pending one first
  EXPECT_EQ(session.position(), 8);
  EXPECT_EQ(session.read_count(), 8);
}

TEST(SessionDeathTest, ATokenMustBeReadBeforeTheNextIsGenerated) {
  EXPECT_DEATH(
      {
        Session session(1, "s");
        session.AppendGenerated(1);
        session.AppendGenerated(2);
      },
      "was not read");
}

}  // namespace
}  // namespace eddy
