// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/thread_pool.h"

#include <gtest/gtest.h>

#include <chrono>
#include <numeric>
#include <thread>
#include <vector>

namespace eddy::cpu {
namespace {

class ThreadPoolTest : public ::testing::TestWithParam<int> {};

TEST_P(ThreadPoolTest, RunsEveryChunkOnce) {
  ThreadPool pool(GetParam());
  EXPECT_EQ(pool.thread_count(), GetParam());
  for (const int64_t chunk_count : {0, 1, 2, 3, 7, 1000}) {
    std::vector<int> runs(static_cast<size_t>(chunk_count));  // not atomic: once, by one thread
    pool.ParallelFor(chunk_count, [&](int64_t chunk, int) { ++runs[static_cast<size_t>(chunk)]; });
    EXPECT_EQ(std::count(runs.begin(), runs.end(), 1), chunk_count);
  }
}

TEST_P(ThreadPoolTest, NoTwoChunksAtATimeHaveTheSameThread) {
  ThreadPool pool(GetParam());
  std::vector<int> busy(static_cast<size_t>(GetParam()));  // a race here is a failure under TSan
  pool.ParallelFor(5000, [&](int64_t, int thread) {
    ASSERT_GE(thread, 0);
    ASSERT_LT(thread, GetParam());
    EXPECT_EQ(busy[static_cast<size_t>(thread)]++, 0);
    EXPECT_EQ(--busy[static_cast<size_t>(thread)], 0);
  });
}

TEST_P(ThreadPoolTest, WhatOneJobWritesTheNextOneReads) {
  ThreadPool pool(GetParam());
  std::vector<int64_t> values(64, 0);
  for (int64_t job = 1; job <= 20000; ++job) {
    pool.ParallelFor(4, [&](int64_t chunk, int) {
      for (int64_t i = chunk * 16; i < chunk * 16 + 16; ++i) {
        // Another chunk's value of the job before: whole jobs are ordered, not only chunks.
        EXPECT_GE(values[static_cast<size_t>(i)], job - 1);
        values[static_cast<size_t>(i)] = job;
      }
    });
    ASSERT_EQ(std::accumulate(values.begin(), values.end(), int64_t{0}), 64 * job);
  }
}

TEST_P(ThreadPoolTest, WakesWorkersThatSleep) {
  ThreadPool pool(GetParam());
  for (int job = 0; job < 20; ++job) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
    std::atomic<int64_t> sum{0};
    pool.ParallelFor(100, [&](int64_t chunk, int) { sum += chunk; });
    EXPECT_EQ(sum, 4950);
  }
}

TEST_P(ThreadPoolTest, WaitsForAChunkThatTakesLong) {
  ThreadPool pool(GetParam());
  std::atomic<int> done{0};
  pool.ParallelFor(GetParam(), [&](int64_t chunk, int) {
    std::this_thread::sleep_for(std::chrono::milliseconds(chunk == 0 ? 1 : 20));
    ++done;
  });
  EXPECT_EQ(done, GetParam());
}

TEST_P(ThreadPoolTest, EndsAtOnceWithoutWork) {
  for (int i = 0; i < 50; ++i) ThreadPool pool(GetParam());
}

INSTANTIATE_TEST_SUITE_P(Threads, ThreadPoolTest, ::testing::Values(1, 2, 3, 8));

TEST(ThreadPoolWorkTest, IsSharedWhenAChunkIsSlow) {
  ThreadPool pool(2);
  // Each chunk waits for the other to start: one thread alone would never end.
  std::atomic<int> started{0};
  pool.ParallelFor(2, [&](int64_t, int) {
    ++started;
    while (started < 2) std::this_thread::yield();
  });
  EXPECT_EQ(started, 2);
}

}  // namespace
}  // namespace eddy::cpu
