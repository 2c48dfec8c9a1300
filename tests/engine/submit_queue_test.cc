// SPDX-License-Identifier: Apache-2.0
#include "engine/submit_queue.h"

#include <gtest/gtest.h>

#include <thread>

#include "tests/support/engine_fixture.h"

namespace eddy {
namespace {

class SubmitQueueTest : public ::testing::Test {
 protected:
  std::unique_ptr<Turn> MakeTurn() {
    return std::make_unique<Turn>(context_, MakeRequest({1}, 1),
                                  std::make_shared<TokenStream>(1, nullptr), TimePoint());
  }

  ModelInfo model_;
  EngineMetrics metrics_;
  TurnContext context_{.model = &model_, .tokenizer = nullptr, .metrics = &metrics_};
  SubmitQueue queue_{3};
  std::vector<Arrival> arrivals_;
};

TEST_F(SubmitQueueTest, IsBoundedByThoseWhoWaitAnywhere) {
  EXPECT_TRUE(queue_.PushTurn(MakeTurn()).ok());
  EXPECT_TRUE(queue_.PushTurn(MakeTurn()).ok());
  queue_.Wait(1, std::nullopt, &arrivals_);
  EXPECT_EQ(arrivals_.size(), 2u);
  // Three wait outside now: the one before and the two just moved out.
  const absl::Status full = queue_.PushTurn(MakeTurn());
  EXPECT_EQ(full.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(full.message(), "The queue is full: 3 turns wait and submit_queue_capacity is 3.");
  arrivals_.clear();
  queue_.Wait(2, Duration::zero(), &arrivals_);
  EXPECT_TRUE(queue_.PushTurn(MakeTurn()).ok());
  EXPECT_FALSE(queue_.PushTurn(MakeTurn()).ok());
}

TEST_F(SubmitQueueTest, CommandsHaveABoundOfTheirOwn) {
  for (int i = 0; i < SubmitQueue::kCommandCountMax; ++i) {
    ASSERT_TRUE(queue_.PushCommand([](EngineCore&) {}).ok());
  }
  EXPECT_EQ(queue_.PushCommand([](EngineCore&) {}).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(queue_.PushTurn(MakeTurn()).ok());
}

TEST_F(SubmitQueueTest, AWakeIsNotLostAndCountsOnce) {
  queue_.Wake();
  queue_.Wake();
  queue_.Wait(0, std::nullopt, &arrivals_);  // returns
  EXPECT_TRUE(arrivals_.empty());
  const auto begun = std::chrono::steady_clock::now();
  queue_.Wait(0, std::chrono::milliseconds(20), &arrivals_);
  EXPECT_GE(std::chrono::steady_clock::now() - begun, std::chrono::milliseconds(20));
}

TEST_F(SubmitQueueTest, KeepsTheOrderOfTurnsAndCommands) {
  ASSERT_TRUE(queue_.PushTurn(MakeTurn()).ok());
  ASSERT_TRUE(queue_.PushCommand([](EngineCore&) {}).ok());
  ASSERT_TRUE(queue_.PushTurn(MakeTurn()).ok());
  queue_.Wait(0, std::nullopt, &arrivals_);
  ASSERT_EQ(arrivals_.size(), 3u);
  EXPECT_EQ(arrivals_[0].index(), 0u);
  EXPECT_EQ(arrivals_[1].index(), 1u);
  EXPECT_EQ(arrivals_[2].index(), 0u);
}

TEST_F(SubmitQueueTest, RefusesTurnsThenEverything) {
  ASSERT_TRUE(queue_.PushTurn(MakeTurn()).ok());
  queue_.RefuseTurns(absl::UnavailableError("first"));
  queue_.RefuseTurns(absl::UnavailableError("second"));
  EXPECT_EQ(queue_.PushTurn(MakeTurn()).message(), "first");
  EXPECT_TRUE(queue_.PushCommand([](EngineCore&) {}).ok());
  queue_.Close(absl::UnavailableError("closed"), &arrivals_);
  EXPECT_EQ(arrivals_.size(), 2u);
  EXPECT_TRUE(queue_.empty());
  EXPECT_EQ(queue_.PushTurn(MakeTurn()).message(), "first");
  EXPECT_EQ(queue_.PushCommand([](EngineCore&) {}).message(), "closed");
}

TEST_F(SubmitQueueTest, ASleepingThreadWakesForAPush) {
  std::thread pusher([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    EXPECT_TRUE(queue_.PushTurn(MakeTurn()).ok());
  });
  queue_.Wait(0, std::nullopt, &arrivals_);
  EXPECT_EQ(arrivals_.size(), 1u);
  pusher.join();
}

}  // namespace
}  // namespace eddy
