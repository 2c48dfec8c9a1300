// SPDX-License-Identifier: Apache-2.0
// ThreadPool: fixed workers for fork-join inside one op.
//
// Owned by CpuBackend and called by the step thread only, which works along. Workers take chunks
// one at a time, so an uneven machine balances itself; which thread runs a chunk must not change
// its result. Between jobs a worker spins for some tens of microseconds and then sleeps. A thread
// count of 1 has no workers at all.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace eddy::cpu {

class ThreadPool {
 public:
  explicit ThreadPool(int thread_count);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  // That the caller has waited at the end of its jobs, in all.
  double wait_seconds() const { return std::chrono::duration<double>(waited_).count(); }
  int thread_count() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls fn(chunk, thread) once for every chunk in [0, chunk_count), thread in [0, thread_count),
  // no two at a time with the same thread; returns when all are done and their writes can be seen.
  // Not reentrant.
  template <typename Fn>
  void ParallelFor(int64_t chunk_count, const Fn& fn) {
    Run(chunk_count, &fn, [](const void* context, int64_t chunk, int thread) {
      (*static_cast<const Fn*>(context))(chunk, thread);
    });
  }

 private:
  using ChunkFn = void (*)(const void* context, int64_t chunk, int thread);

  void Run(int64_t chunk_count, const void* context, ChunkFn fn);
  void WorkerLoop(int thread);
  bool RunOneChunk(int thread);
  bool SpinForWork() const;
  void SleepUntilWork();
  void WaitUntilDone();

  // The job. Written by the caller while unclaimed_ is 0, read by whoever has claimed a chunk.
  const void* context_ = nullptr;
  ChunkFn fn_ = nullptr;
  std::chrono::steady_clock::duration waited_{};  // the caller's own

  std::atomic<int64_t> unclaimed_{0};   // chunks nobody has taken yet; chunk n - 1 is the next
  std::atomic<int64_t> unfinished_{0};  // chunks that have not ended yet
  std::atomic<bool> stopping_{false};
  std::atomic<int> sleeper_count_{0};
  std::atomic<bool> caller_sleeps_{false};
  std::mutex mutex_;  // for sleeping only; guards no data
  std::condition_variable work_;
  std::condition_variable done_;
  std::vector<std::thread> workers_;  // last: they use what is above
};

}  // namespace eddy::cpu
