// SPDX-License-Identifier: Apache-2.0
#include "engine/session_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "tests/support/fake_backend.h"

namespace eddy {
namespace {

using ::testing::HasSubstr;
using Placement = SessionTable::Placement;

constexpr int64_t kStateBytes = 64;

class SessionTableTest : public ::testing::Test {
 protected:
  void Make(int32_t slot_count, int64_t host_states) {
    options_.session_count_max = 5;
    pool_ = *StatePool::Make(backend_, slot_count, kStateBytes);
    store_ = std::make_unique<MemoryStateStore>(host_states * kStateBytes);
    table_ = std::make_unique<SessionTable>(backend_, *pool_, *store_, metrics_, options_);
  }
  // A session between turns whose state, in a slot, is all `value`.
  Session& MakeIdle(const std::string& name, uint8_t value) {
    Session& session = **table_->Create(name);
    EXPECT_EQ(table_->Place(session).placement, Placement::kPlaced);
    const int32_t prompt[] = {1};
    session.Read(prompt);
    Fill(session, value);
    table_->Rest(session);
    return session;
  }
  void Fill(Session& session, uint8_t value) {
    EXPECT_TRUE(backend_.Synchronize().ok());
    std::memset(pool_->states().base + session.slot.index() * kStateBytes, value, kStateBytes);
  }
  uint8_t ValueOf(const Session& session) {
    EXPECT_TRUE(backend_.Synchronize().ok());
    return std::to_integer<uint8_t>(pool_->states().base[session.slot.index() * kStateBytes]);
  }

  FakeBackend backend_{FakeBackend::Stream::kLazy};
  EngineMetrics metrics_;
  EngineOptions options_;
  std::unique_ptr<StatePool> pool_;
  std::unique_ptr<MemoryStateStore> store_;
  std::unique_ptr<SessionTable> table_;
};

TEST_F(SessionTableTest, NamesAreUniqueAndBounded) {
  Make(2, 10);
  EXPECT_EQ(table_->Find("a").status().code(), absl::StatusCode::kNotFound);
  Session& a = **table_->Create("a");
  EXPECT_EQ(*table_->Find("a"), &a);
  EXPECT_EQ(table_->Create("a").status().code(), absl::StatusCode::kAlreadyExists);
  for (const char* name : {"b", "c", "d", "e"}) EXPECT_TRUE(table_->Create(name).ok());
  const absl::Status full = table_->Create("f").status();
  EXPECT_EQ(full.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(full.message()), HasSubstr("session_count_max 5"));
  table_->CreateUnnamed();  // do not count
  table_->Remove(a);
  EXPECT_TRUE(table_->Create("f").ok());
}

TEST_F(SessionTableTest, ListsByNameInPages) {
  Make(2, 10);
  for (const char* name : {"c", "a", "d", "b"}) EXPECT_TRUE(table_->Create(name).ok());
  table_->CreateUnnamed();
  const auto names = [&](std::string_view after, int limit) {
    std::string joined;
    for (const SessionInfo& info : table_->List(after, limit)) joined += info.name;
    return joined;
  };
  EXPECT_EQ(names("", 10), "abcd");
  EXPECT_EQ(names("", 2), "ab");
  EXPECT_EQ(names("b", 2), "cd");
  EXPECT_EQ(names("bb", 1), "c");
  EXPECT_EQ(names("d", 2), "");
}

TEST_F(SessionTableTest, TheLeastRecentlyUsedStateMovesOutAndComesBack) {
  Make(2, 10);
  Session& a = MakeIdle("a", 0xa);
  Session& b = MakeIdle("b", 0xb);
  table_->Rest(a);  // used after b
  Session& c = MakeIdle("c", 0xc);
  EXPECT_TRUE(b.in_store);
  EXPECT_FALSE(b.slot.held());
  EXPECT_EQ(table_->Info(b).state, SessionInfo::State::kEvicted);
  EXPECT_EQ(table_->Info(c).state, SessionInfo::State::kResident);
  EXPECT_EQ(store_->bytes(), kStateBytes);
  ASSERT_EQ(table_->Place(b).placement, Placement::kPlaced);
  EXPECT_EQ(ValueOf(b), 0xb);
  EXPECT_FALSE(b.in_store);
  EXPECT_TRUE(a.in_store);
  b.active = true;
  ASSERT_EQ(table_->Place(a).placement, Placement::kPlaced);
  EXPECT_EQ(ValueOf(a), 0xa);
  EXPECT_TRUE(c.in_store);
  EXPECT_EQ(metrics_.state_move_out.bucket_count(0), 3);
  EXPECT_EQ(metrics_.state_move_in.bucket_count(0), 2);
}

TEST_F(SessionTableTest, AStateInTheStoreIsWhole) {
  Make(1, 10);
  Session& a = MakeIdle("a", 0xa);
  Session& b = **table_->Create("b");
  ASSERT_EQ(table_->Place(b).placement, Placement::kPlaced);
  // Nobody has synchronized since: the copy was waited for before it was published.
  const absl::StatusOr<StateBlob> state = store_->Take(a.id());
  ASSERT_TRUE(state.ok());
  for (const std::byte byte : state->span()) EXPECT_EQ(byte, std::byte{0xa});
}

TEST_F(SessionTableTest, ASessionThatCanMoveIsNeverTheVictim) {
  Make(2, 10);
  Session& a = MakeIdle("a", 0xa);
  Session& b = MakeIdle("b", 0xb);
  a.active = b.active = true;
  Session& c = **table_->Create("c");
  EXPECT_EQ(table_->Place(c).placement, Placement::kNoRoomYet);
  EXPECT_TRUE(a.slot.held() && b.slot.held());
  b.parked = true;
  EXPECT_EQ(table_->Place(c).placement, Placement::kPlaced);
  EXPECT_TRUE(b.in_store);
}

TEST_F(SessionTableTest, AFullStoreIsSaidUnlessSomeoneWillLeave) {
  Make(2, 1);
  MakeIdle("a", 0xa);
  MakeIdle("b", 0xb);
  MakeIdle("c", 0xc);  // a is in the store, which is full
  Session& d = **table_->Create("d");
  const SessionTable::PlaceResult full = table_->Place(d);
  EXPECT_EQ(full.placement, Placement::kNoRoom);
  EXPECT_EQ(full.status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(full.status.message()), HasSubstr("host_state_bytes_max 64"));

  table_->Remove(**table_->Find("c"));
  Session& unnamed = table_->CreateUnnamed();
  ASSERT_EQ(table_->Place(unnamed).placement, Placement::kPlaced);
  unnamed.active = true;
  EXPECT_EQ(table_->Place(d).placement, Placement::kNoRoomYet);
}

TEST_F(SessionTableTest, TwoSessionsChangePlacesWhenTheStoreIsFull) {
  Make(1, 1);
  Session& a = MakeIdle("a", 0xa);
  Session& b = MakeIdle("b", 0xb);
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(table_->Place(a).placement, Placement::kPlaced);
    EXPECT_EQ(ValueOf(a), 0xa);
    EXPECT_TRUE(b.in_store);
    ASSERT_EQ(table_->Place(b).placement, Placement::kPlaced);
    EXPECT_EQ(ValueOf(b), 0xb);
    EXPECT_TRUE(a.in_store);
  }
}

TEST_F(SessionTableTest, NothingIsKeptOfASessionThatIsGoneOrHasReadNothing) {
  Make(2, 10);
  Session& a = MakeIdle("a", 0xa);
  Session& b = MakeIdle("b", 0xb);
  MakeIdle("c", 0xc);
  EXPECT_TRUE(a.in_store);
  table_->Remove(a);
  EXPECT_EQ(store_->state_count(), 0);
  table_->Remove(b);
  EXPECT_EQ(pool_->free_count(), 1);
  Session& empty = **table_->Create("e");
  ASSERT_EQ(table_->Place(empty).placement, Placement::kPlaced);
  table_->Rest(empty);
  EXPECT_EQ(pool_->free_count(), 1);
}

TEST_F(SessionTableTest, ALostDeviceIsToldApart) {
  Make(1, 10);
  MakeIdle("a", 0xa);
  Session& b = **table_->Create("b");
  backend_.FailSynchronize(1);
  EXPECT_EQ(table_->Place(b).placement, Placement::kDeviceLost);
}

}  // namespace
}  // namespace eddy
