// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/thread_pool.h"

#include <emmintrin.h>

namespace eddy::cpu {
namespace {

// A pause is some 40 cycles on recent cores: about 30 us in all.
constexpr int kSpinCount = 2500;

}  // namespace

ThreadPool::ThreadPool(int thread_count) {
  for (int thread = 1; thread < thread_count; ++thread) {
    workers_.emplace_back([this, thread] { WorkerLoop(thread); });
  }
}

ThreadPool::~ThreadPool() {
  stopping_ = true;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    work_.notify_all();
  }
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::Run(int64_t chunk_count, const void* context, ChunkFn fn) {
  if (chunk_count <= 0) return;
  if (workers_.empty() || chunk_count == 1) {
    for (int64_t chunk = 0; chunk < chunk_count; ++chunk) fn(context, chunk, 0);
    return;
  }
  context_ = context;
  fn_ = fn;
  unfinished_.store(chunk_count, std::memory_order_relaxed);
  // Sequentially consistent, as the sleeper's count is: either it sees the work or it is seen
  // asleep.
  unclaimed_.store(chunk_count);
  if (sleeper_count_.load() > 0) {
    const std::lock_guard<std::mutex> lock(mutex_);
    work_.notify_all();
  }
  while (RunOneChunk(0)) {
  }
  if (unfinished_.load(std::memory_order_acquire) == 0) return;
  const auto start = std::chrono::steady_clock::now();
  WaitUntilDone();
  waited_ += std::chrono::steady_clock::now() - start;
}

// The claim comes first and the job is read after it: a chunk of this job keeps the job from
// ending, so even a thread that slept through earlier jobs reads the right one.
bool ThreadPool::RunOneChunk(int thread) {
  int64_t left = unclaimed_.load(std::memory_order_acquire);
  do {
    if (left == 0) return false;
  } while (!unclaimed_.compare_exchange_weak(left, left - 1, std::memory_order_acq_rel,
                                             std::memory_order_acquire));
  fn_(context_, left - 1, thread);
  if (unfinished_.fetch_sub(1) == 1 && caller_sleeps_.load()) {
    const std::lock_guard<std::mutex> lock(mutex_);
    done_.notify_one();
  }
  return true;
}

void ThreadPool::WorkerLoop(int thread) {
  while (!stopping_.load(std::memory_order_acquire)) {
    if (RunOneChunk(thread)) continue;
    if (!SpinForWork()) SleepUntilWork();
  }
}

bool ThreadPool::SpinForWork() const {
  for (int i = 0; i < kSpinCount; ++i) {
    if (unclaimed_.load(std::memory_order_relaxed) > 0) return true;
    if (stopping_.load(std::memory_order_relaxed)) return true;
    _mm_pause();
  }
  return false;
}

void ThreadPool::SleepUntilWork() {
  std::unique_lock<std::mutex> lock(mutex_);
  sleeper_count_.fetch_add(1);
  work_.wait(lock, [this] { return unclaimed_.load() > 0 || stopping_.load(); });
  sleeper_count_.fetch_sub(1);
}

void ThreadPool::WaitUntilDone() {
  for (int i = 0; i < kSpinCount; ++i) {
    if (unfinished_.load(std::memory_order_acquire) == 0) return;
    _mm_pause();
  }
  std::unique_lock<std::mutex> lock(mutex_);
  caller_sleeps_.store(true);
  done_.wait(lock, [this] { return unfinished_.load() == 0; });
  caller_sleeps_.store(false);
}

}  // namespace eddy::cpu
