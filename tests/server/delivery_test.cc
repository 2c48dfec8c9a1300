// SPDX-License-Identifier: Apache-2.0
#include "server/delivery.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>
#include <vector>

#include "server/turnstile.h"

namespace eddy {
namespace {

TEST(DeliveryTest, DeliversInOrderOnOneThreadAndAllBeforeItEnds) {
  std::vector<int> seen;
  std::thread::id thread;
  {
    Delivery delivery;
    for (int i = 0; i < 1000; ++i) {
      delivery.Post([&, i] {
        seen.push_back(i);
        if (i == 0) thread = std::this_thread::get_id();
        EXPECT_EQ(thread, std::this_thread::get_id());
      });
    }
  }
  ASSERT_EQ(seen.size(), 1000u);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(seen[static_cast<size_t>(i)], i);
  EXPECT_NE(thread, std::this_thread::get_id());
}

TEST(DeliveryTest, LetsGoOfWhatItDelivered) {
  class Item : public Deliverable {
   public:
    void Deliver() override {}
  };
  auto item = std::make_shared<Item>();
  const std::weak_ptr<Item> weak = item;
  Delivery delivery;
  delivery.Post(std::move(item));
  for (int i = 0; i < 5000 && !weak.expired(); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_TRUE(weak.expired());
}

TEST(TurnstileTest, SeesWorkAnnouncedWhileSomeoneIsInside) {
  Turnstile turnstile;
  EXPECT_TRUE(turnstile.Enter());
  EXPECT_FALSE(turnstile.Enter());
  EXPECT_FALSE(turnstile.Enter());
  EXPECT_FALSE(turnstile.Leave());
  EXPECT_TRUE(turnstile.Leave());
  EXPECT_TRUE(turnstile.Enter());
  EXPECT_TRUE(turnstile.Leave());
}

TEST(TurnstileTest, OneInsideAndNothingLost) {
  constexpr int kThreads = 4;
  constexpr int kAnnouncements = 20'000;
  Turnstile turnstile;
  std::atomic<int> announced{0};
  std::atomic<int> inside{0};
  int seen = 0;  // by whoever is inside
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < kAnnouncements; ++i) {
        ++announced;
        if (!turnstile.Enter()) continue;
        do {
          EXPECT_EQ(++inside, 1);
          seen = announced;
          --inside;
        } while (!turnstile.Leave());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(seen, kThreads * kAnnouncements);
}

}  // namespace
}  // namespace eddy
