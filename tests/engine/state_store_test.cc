// SPDX-License-Identifier: Apache-2.0
#include "engine/state_store.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <utility>

namespace eddy {
namespace {

StateBlob Blob(int64_t bytes, uint8_t value) {
  StateBlob blob(bytes);
  std::memset(blob.span().data(), value, blob.span().size());
  return blob;
}

TEST(MemoryStateStoreTest, GivesBackWhatWasPutOnce) {
  MemoryStateStore store(1000);
  ASSERT_TRUE(store.Put(7, Blob(100, 0x11)).ok());
  ASSERT_TRUE(store.Put(8, Blob(100, 0x22)).ok());
  EXPECT_EQ(store.bytes(), 200);
  EXPECT_EQ(store.state_count(), 2);
  absl::StatusOr<StateBlob> taken = store.Take(7);
  ASSERT_TRUE(taken.ok());
  EXPECT_EQ(taken->bytes(), 100);
  for (const std::byte b : taken->span()) EXPECT_EQ(b, std::byte{0x11});
  EXPECT_EQ(store.bytes(), 100);
  EXPECT_EQ(store.Take(7).status().code(), absl::StatusCode::kNotFound);
}

TEST(MemoryStateStoreTest, HoldsItsBudgetAndSaysSo) {
  MemoryStateStore store(250);
  ASSERT_TRUE(store.Put(1, Blob(100, 1)).ok());
  ASSERT_TRUE(store.Put(2, Blob(100, 2)).ok());
  const absl::Status full = store.Put(3, Blob(100, 3));
  EXPECT_EQ(full.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_NE(std::string(full.message()).find("host_state_bytes_max 250"), std::string::npos);
  EXPECT_EQ(store.CheckRoom(51).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_TRUE(store.CheckRoom(50).ok());
  EXPECT_EQ(store.bytes(), 200);
  store.Remove(2);
  store.Remove(2);
  EXPECT_EQ(store.bytes(), 100);
  EXPECT_TRUE(store.Put(3, Blob(100, 3)).ok());
}

TEST(MemoryStateStoreDeathTest, OneStateASession) {
  EXPECT_DEATH(
      {
        MemoryStateStore store(1000);
        (void)store.Put(1, Blob(10, 1));
        (void)store.Put(1, Blob(10, 1));
      },
      "already");
}

}  // namespace
}  // namespace eddy
