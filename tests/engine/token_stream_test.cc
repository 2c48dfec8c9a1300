// SPDX-License-Identifier: Apache-2.0
#include "engine/token_stream.h"

#include <gtest/gtest.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

namespace eddy {
namespace {

TokenChunk Token(int32_t token) {
  TokenChunk chunk;
  chunk.token = token;
  chunk.has_token = true;
  return chunk;
}

class CountingReader : public StreamReader {
 public:
  void OnReady() override { ++ready_count; }
  std::atomic<int> ready_count{0};
};

TEST(TokenStreamTest, TakesChunksInOrderAndTheEndOnce) {
  TokenStream stream(4, nullptr);
  stream.Push(Token(1));
  stream.Push(Token(2));
  TokenStream::Taken taken;
  stream.Take(&taken);
  ASSERT_EQ(taken.chunks.size(), 2u);
  EXPECT_EQ(taken.chunks[0].token, 1);
  EXPECT_EQ(taken.chunks[1].token, 2);
  EXPECT_FALSE(taken.end.has_value());
  stream.Push(Token(3));
  stream.End(absl::InternalError("step"));
  stream.Take(&taken);
  ASSERT_EQ(taken.chunks.size(), 1u);
  ASSERT_TRUE(taken.end.has_value());
  EXPECT_EQ(taken.end->code(), absl::StatusCode::kInternal);
  stream.Take(&taken);
  EXPECT_TRUE(taken.chunks.empty());
  EXPECT_FALSE(taken.end.has_value());
  stream.WaitForMore();  // returns: the stream has ended
}

TEST(TokenStreamTest, TakesManyChunksAtOnceUpToItsRoom) {
  TokenStream stream(4, nullptr);
  const auto reader = std::make_shared<CountingReader>();
  stream.SetReader(reader);
  EXPECT_EQ(stream.capacity(), 4);
  EXPECT_EQ(stream.room(), 4);
  std::vector<TokenChunk> chunks = {Token(1), Token(2), Token(3)};
  stream.PushAll(chunks);
  EXPECT_EQ(reader->ready_count, 1);
  EXPECT_EQ(stream.room(), 1);
  EXPECT_FALSE(stream.full());
  stream.PushAll({});
  EXPECT_EQ(reader->ready_count, 1);
  stream.Push(Token(4));
  stream.Push(Token(5));  // the one beyond
  EXPECT_EQ(stream.room(), 0);
  EXPECT_TRUE(stream.full());
  TokenStream::Taken taken;
  stream.Take(&taken);
  ASSERT_EQ(taken.chunks.size(), 5u);
  for (size_t i = 0; i < 5; ++i) EXPECT_EQ(taken.chunks[i].token, static_cast<int32_t>(i + 1));
}

TEST(TokenStreamTest, WakesTheWriterOnlyWhenItHadBeenFull) {
  int wake_count = 0;
  TokenStream stream(2, [&] { ++wake_count; });
  TokenStream::Taken taken;
  stream.Push(Token(1));
  EXPECT_FALSE(stream.full());
  stream.Take(&taken);
  EXPECT_EQ(wake_count, 0);
  stream.Push(Token(2));
  stream.Push(Token(3));
  EXPECT_TRUE(stream.full());
  stream.Push(Token(4));  // the one that ends a parked turn
  stream.Take(&taken);
  EXPECT_EQ(taken.chunks.size(), 3u);
  EXPECT_FALSE(stream.full());
  EXPECT_EQ(wake_count, 1);
}

TEST(TokenStreamTest, CancelWakesTheWriterOnce) {
  int wake_count = 0;
  TokenStream stream(2, [&] { ++wake_count; });
  EXPECT_FALSE(stream.cancelled());
  stream.Cancel();
  stream.Cancel();
  EXPECT_TRUE(stream.cancelled());
  EXPECT_EQ(wake_count, 1);
}

TEST(TokenStreamTest, TellsTheReaderAndSurvivesItsDeath) {
  TokenStream stream(8, nullptr);
  stream.Push(Token(1));
  auto reader = std::make_shared<CountingReader>();
  stream.SetReader(reader);
  EXPECT_EQ(reader->ready_count, 1);  // something was there already
  stream.Push(Token(2));
  EXPECT_EQ(reader->ready_count, 2);
  reader.reset();
  stream.Push(Token(3));
  stream.End(absl::OkStatus());
}

TEST(TokenStreamTest, ASetReaderIsNotCalledForNothing) {
  TokenStream stream(8, nullptr);
  auto reader = std::make_shared<CountingReader>();
  stream.SetReader(reader);
  EXPECT_EQ(reader->ready_count, 0);
  stream.End(absl::OkStatus());
  EXPECT_EQ(reader->ready_count, 1);
}

TEST(TokenStreamDeathTest, RefusesMoreThanOneEndAndChunksAfterIt) {
  EXPECT_DEATH(
      {
        TokenStream stream(2, nullptr);
        stream.End(absl::OkStatus());
        stream.End(absl::OkStatus());
      },
      "ends twice");
  EXPECT_DEATH(
      {
        TokenStream stream(2, nullptr);
        stream.End(absl::OkStatus());
        stream.Push(Token(1));
      },
      "after the end");
  EXPECT_DEATH(
      {
        TokenStream stream(1, nullptr);
        for (int i = 0; i < 3; ++i) stream.Push(Token(i));
      },
      "capacity");
}

TEST(TokenStreamTest, NothingIsLostBetweenTwoThreads) {
  constexpr int kTokens = 20'000;
  TokenStream stream(16, nullptr);
  std::thread writer([&] {
    for (int i = 0; i < kTokens;) {
      if (stream.full()) {
        std::this_thread::yield();
        continue;
      }
      stream.Push(Token(i++));
    }
    stream.End(absl::OkStatus());
  });
  std::vector<int32_t> seen;
  TokenStream::Taken taken;
  do {
    stream.WaitForMore();
    stream.Take(&taken);
    for (const TokenChunk& chunk : taken.chunks) seen.push_back(chunk.token);
  } while (!taken.end.has_value());
  writer.join();
  ASSERT_EQ(seen.size(), static_cast<size_t>(kTokens));
  for (int i = 0; i < kTokens; ++i) ASSERT_EQ(seen[static_cast<size_t>(i)], i);
}

}  // namespace
}  // namespace eddy
