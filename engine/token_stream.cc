// SPDX-License-Identifier: Apache-2.0
#include "engine/token_stream.h"

#include <algorithm>
#include <utility>

#include "kernels/check.h"

namespace eddy {

TokenStream::TokenStream(int capacity, std::function<void()> wake_writer)
    : capacity_(capacity), wake_writer_(std::move(wake_writer)) {
  EDDY_CHECK_LE(1, capacity);
}

void TokenStream::Take(Taken* taken) {
  taken->chunks.clear();
  taken->end.reset();
  bool had_been_full = false;
  {
    MutexLock lock(&mutex_);
    had_been_full = static_cast<int>(chunks_.size()) >= capacity_;
    // Swapped, so that both sides keep their vectors' memory from call to call.
    taken->chunks.swap(chunks_);
    if (end_.has_value() && !end_taken_) {
      taken->end = end_;
      end_taken_ = true;
    }
  }
  if (had_been_full && wake_writer_) wake_writer_();
}

void TokenStream::SetReader(std::weak_ptr<StreamReader> reader) {
  bool ready = false;
  {
    MutexLock lock(&mutex_);
    EDDY_CHECK(!has_reader_);
    has_reader_ = true;
    reader_ = reader;
    ready = HasMore();
  }
  if (!ready) return;
  if (std::shared_ptr<StreamReader> alive = reader.lock()) alive->OnReady();
}

void TokenStream::WaitForMore() {
  MutexLock lock(&mutex_);
  while (!HasMore()) changed_.Wait(&mutex_);
}

void TokenStream::Cancel() {
  if (cancelled_.exchange(true, std::memory_order_relaxed)) return;
  if (wake_writer_) wake_writer_();
}

int TokenStream::room() const {
  MutexLock lock(&mutex_);
  return std::max(0, capacity_ - static_cast<int>(chunks_.size()));
}

void TokenStream::Push(TokenChunk chunk) {
  {
    MutexLock lock(&mutex_);
    EDDY_CHECK(!end_.has_value()) << "a chunk after the end of its stream";
    EDDY_CHECK_LE(static_cast<int>(chunks_.size()), capacity_);
    chunks_.push_back(std::move(chunk));
    changed_.SignalAll();
  }
  Notify();
}

void TokenStream::PushAll(std::span<TokenChunk> chunks) {
  if (chunks.empty()) return;
  {
    MutexLock lock(&mutex_);
    EDDY_CHECK(!end_.has_value()) << "chunks after the end of their stream";
    EDDY_CHECK_LE(chunks_.size() + chunks.size(), static_cast<size_t>(capacity_));
    for (TokenChunk& chunk : chunks) chunks_.push_back(std::move(chunk));
    changed_.SignalAll();
  }
  Notify();
}

void TokenStream::End(absl::Status status) {
  {
    MutexLock lock(&mutex_);
    EDDY_CHECK(!end_.has_value()) << "a stream that ends twice";
    end_ = std::move(status);
    changed_.SignalAll();
  }
  Notify();
}

// Outside the lock: the reader may call Take from OnReady.
void TokenStream::Notify() {
  std::shared_ptr<StreamReader> reader;
  {
    MutexLock lock(&mutex_);
    if (!has_reader_) return;
    reader = reader_.lock();
  }
  if (reader != nullptr) reader->OnReady();
}

}  // namespace eddy
