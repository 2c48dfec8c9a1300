// SPDX-License-Identifier: Apache-2.0
// TokenStream: the bounded channel of one turn, from the step thread to one reader, with cancel
// going back.
//
// Writer: the step thread. Reader: any one thread at a time. It ends exactly once, with a Status;
// finishing well is OK and a finish reason in the last chunk. A full stream parks its turn: the
// engine does not step it until the reader has taken something. Shared by engine and reader, each
// of which may let go first.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "engine/mutex.h"
#include "engine/request.h"

namespace eddy {

// Told when there is something to take. Called on the step thread, and once by SetReader on its
// caller's, perhaps at the same time: who takes from here sees to it that one thread does. Must not
// block, nor call into the engine.
class StreamReader {
 public:
  virtual ~StreamReader() = default;
  virtual void OnReady() = 0;
};

class TokenStream {
 public:
  // wake_writer is called (from the reader's thread, without locks held) when a full stream has
  // room again and when the reader cancels.
  TokenStream(int capacity, std::function<void()> wake_writer);

  // ---- reader ----
  struct Taken {
    std::vector<TokenChunk> chunks;   // cleared, then filled in order
    std::optional<absl::Status> end;  // set once all chunks before it were taken
  };
  // Moves out everything there is, at once; never blocks.
  void Take(Taken* taken);
  // The weak pointer may be expired at any time; set once, before the first Take. Calls OnReady at
  // once when something is there already.
  void SetReader(std::weak_ptr<StreamReader> reader);
  // Blocks until something can be taken or the stream has ended. For tests and command-line tools,
  // never for a gRPC thread.
  void WaitForMore();
  // Ask the engine to end the turn; its last chunk says cancelled. Idempotent.
  void Cancel();

  // ---- writer: step thread ----
  bool cancelled() const { return cancelled_.load(std::memory_order_relaxed); }
  int capacity() const { return capacity_; }
  // Chunks that may be pushed before it is full.
  int room() const;
  bool full() const { return room() == 0; }
  // One chunk beyond the capacity is accepted (the last one of a parked turn); more is a bug.
  void Push(TokenChunk chunk);
  // Moves all of them in at once; there is room.
  void PushAll(std::span<TokenChunk> chunks);
  void End(absl::Status status);

 private:
  bool HasMore() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return !chunks_.empty() || end_.has_value();
  }
  void Notify();

  // Constant after construction.
  const int capacity_;
  const std::function<void()> wake_writer_;

  std::atomic<bool> cancelled_{false};

  mutable Mutex mutex_;
  CondVar changed_ ABSL_GUARDED_BY(mutex_);
  std::vector<TokenChunk> chunks_ ABSL_GUARDED_BY(mutex_);
  std::optional<absl::Status> end_ ABSL_GUARDED_BY(mutex_);
  bool end_taken_ ABSL_GUARDED_BY(mutex_) = false;
  std::weak_ptr<StreamReader> reader_ ABSL_GUARDED_BY(mutex_);
  bool has_reader_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace eddy
