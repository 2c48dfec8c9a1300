// SPDX-License-Identifier: Apache-2.0
#include "client/turn_clock.h"

#include <gtest/gtest.h>

#include "tests/client/fake_server.h"

namespace eddy {
namespace {

using std::chrono::milliseconds;

const TurnClock::Clock::time_point kStart{};

TEST(TurnClockTest, PaceIsThatOfTheTokensBehindTheFirstMessage) {
  TurnClock clock(kStart);
  clock.OnMessage(Message(5, "ab", 2), kStart + milliseconds(30));
  clock.OnMessage(Message(7, "c", 1), kStart + milliseconds(80));
  clock.OnMessage(Message(8, "def", 3), kStart + milliseconds(130));
  const v1::GenerateResponse last =
      Last(Message(11, "", 0), v1::FINISH_REASON_STOP_SEQUENCE, 5, 6, 4);
  clock.OnMessage(last, kStart + milliseconds(500));
  EXPECT_EQ(clock.Summary(last),
            "6 tokens, 40.0 tokens/s, first token after 30.0 ms, stop_sequence; prompt 5 tokens, "
            "4 of them reused");
}

TEST(TurnClockTest, OneMessageHasNoPace) {
  TurnClock clock(kStart);
  const v1::GenerateResponse last = Last(Message(1, "abc", 3), v1::FINISH_REASON_LENGTH, 1, 3);
  clock.OnMessage(last, kStart + milliseconds(2));
  EXPECT_EQ(clock.Summary(last),
            "3 tokens, first token after 2.0 ms, length; prompt 1 tokens, 0 of them reused");
}

TEST(TurnClockTest, NoTokens) {
  TurnClock clock(kStart);
  const v1::GenerateResponse last = Last(Message(1, "", 0), v1::FINISH_REASON_DEADLINE, 1, 0);
  clock.OnMessage(last, kStart + milliseconds(2));
  EXPECT_EQ(clock.Summary(last), "0 tokens, deadline; prompt 1 tokens, 0 of them reused");
}

TEST(FinishReasonWordTest, EveryReason) {
  EXPECT_EQ(FinishReasonWord(v1::FINISH_REASON_UNSPECIFIED), "unspecified");
  EXPECT_EQ(FinishReasonWord(v1::FINISH_REASON_END_OF_TEXT), "end_of_text");
  EXPECT_EQ(FinishReasonWord(v1::FINISH_REASON_STOP_SEQUENCE), "stop_sequence");
  EXPECT_EQ(FinishReasonWord(v1::FINISH_REASON_LENGTH), "length");
  EXPECT_EQ(FinishReasonWord(v1::FINISH_REASON_CANCELLED), "cancelled");
  EXPECT_EQ(FinishReasonWord(v1::FINISH_REASON_DEADLINE), "deadline");
  EXPECT_EQ(FinishReasonWord(static_cast<v1::FinishReason>(77)), "reason 77");
}

}  // namespace
}  // namespace eddy
