// SPDX-License-Identifier: Apache-2.0
#include "engine/state_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>

#include "tests/support/fake_backend.h"

namespace eddy {
namespace {

constexpr int64_t kStateBytes = 256;

class StatePoolTest : public ::testing::Test {
 protected:
  StatePoolTest() : pool_(*StatePool::Make(backend_, 3, kStateBytes)) {}

  std::span<std::byte> BytesOf(int32_t slot_index) {
    EXPECT_TRUE(backend_.Synchronize().ok());
    return {pool_->states().base + slot_index * kStateBytes, kStateBytes};
  }
  static bool AllAre(std::span<const std::byte> bytes, uint8_t value) {
    return std::all_of(bytes.begin(), bytes.end(),
                       [&](std::byte b) { return b == std::byte{value}; });
  }

  FakeBackend backend_{FakeBackend::Stream::kLazy};
  std::unique_ptr<StatePool> pool_;
};

TEST_F(StatePoolTest, HandsOutEachSlotOnceAndThenNone) {
  std::vector<StateSlot> slots;
  std::set<int32_t> indices;
  for (int i = 0; i < 3; ++i) {
    slots.push_back(pool_->Acquire());
    ASSERT_TRUE(slots.back().held());
    indices.insert(slots.back().index());
  }
  EXPECT_EQ(indices, (std::set<int32_t>{0, 1, 2}));
  EXPECT_EQ(pool_->free_count(), 0);
  EXPECT_FALSE(pool_->Acquire().held());
  slots.erase(slots.begin() + 1);
  EXPECT_EQ(pool_->free_count(), 1);
  EXPECT_TRUE(pool_->Acquire().held());
}

TEST_F(StatePoolTest, ASlotIsZeroedAtEveryAcquireAndGetsANewGeneration) {
  StateSlot slot = pool_->Acquire();
  const int32_t index = slot.index();
  const uint64_t generation = slot.generation();
  std::memset(BytesOf(index).data(), 0x5a, kStateBytes);
  slot.Release();
  EXPECT_FALSE(slot.held());
  slot = pool_->Acquire();
  EXPECT_EQ(slot.index(), index);
  EXPECT_GT(slot.generation(), generation);
  EXPECT_EQ(pool_->generation(index), slot.generation());
  EXPECT_TRUE(AllAre(BytesOf(index), 0));
}

// A release build leaves the bytes alone.
TEST_F(StatePoolTest, AFreeSlotIsNaNsInDebugBuilds) {
  const uint8_t expected = StatePool::kPoisons ? StatePool::kPoison : 0;
  EXPECT_TRUE(AllAre(BytesOf(0), expected));
  StateSlot slot = pool_->Acquire();
  slot.Release();
  EXPECT_TRUE(AllAre(BytesOf(0), expected));
  float value = 0;
  std::memcpy(&value, BytesOf(0).data(), sizeof(value));
  EXPECT_EQ(std::isnan(value), StatePool::kPoisons);
}

TEST_F(StatePoolTest, AMovedSlotHasOneOwner) {
  StateSlot a = pool_->Acquire();
  StateSlot b = std::move(a);
  EXPECT_FALSE(a.held());
  EXPECT_TRUE(b.held());
  a = pool_->Acquire();
  b = std::move(a);  // the slot b had goes back
  EXPECT_EQ(pool_->free_count(), 2);
  b.Release();
  b.Release();
  EXPECT_EQ(pool_->free_count(), 3);
}

TEST_F(StatePoolTest, SaveAndLoadCarryAStateFromSlotToSlot) {
  StateSlot from = pool_->Acquire();
  StateSlot to = pool_->Acquire();
  StateSlot other = pool_->Acquire();
  std::span<std::byte> bytes = BytesOf(from.index());
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i);
  std::vector<std::byte> snapshot(kStateBytes);
  pool_->Save(from, snapshot);
  pool_->Load(to, snapshot);
  std::span<std::byte> loaded = BytesOf(to.index());
  EXPECT_TRUE(std::equal(loaded.begin(), loaded.end(), bytes.begin()));
  EXPECT_TRUE(AllAre(BytesOf(other.index()), 0));
}

TEST_F(StatePoolTest, NoRoomIsSaidWithTheNumbers) {
  class FullBackend : public FakeBackend {
    absl::StatusOr<Buffer> Allocate(int64_t) override {
      return absl::ResourceExhaustedError("None left.");
    }
  } full;
  const auto pool = StatePool::Make(full, 7, 1000);
  EXPECT_EQ(pool.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_NE(std::string(pool.status().message()).find("7 slots of 1000 bytes"), std::string::npos);
}

TEST(StatePoolDeathTest, ASlotMustNotOutliveItsPool) {
  EXPECT_DEATH(
      {
        FakeBackend backend;
        StateSlot slot;
        {
          auto pool = *StatePool::Make(backend, 1, kStateBytes);
          slot = pool->Acquire();
        }
      },
      "outlives its pool");
}

}  // namespace
}  // namespace eddy
