// SPDX-License-Identifier: Apache-2.0
// SubmitQueue: the one way into the step thread, for turns and for session commands; also where
// that thread sleeps.
//
// Bounded: turns by the places that are not taken by others waiting, here or in the engine;
// commands by a count of their own. Any thread pushes and wakes, the step thread alone waits and
// closes.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <variant>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "engine/mutex.h"
#include "engine/request.h"
#include "engine/turn.h"

namespace eddy {

class EngineCore;

using Command = std::function<void(EngineCore&)>;
using Arrival = std::variant<std::unique_ptr<Turn>, Command>;

class SubmitQueue {
 public:
  static constexpr int32_t kCommandCountMax = 1024;

  explicit SubmitQueue(int32_t turn_capacity) : turn_capacity_(turn_capacity) {}

  // RESOURCE_EXHAUSTED when full; whatever RefuseTurns or Close said. A refused turn is dropped:
  // its stream must not have been given out.
  absl::Status PushTurn(std::unique_ptr<Turn> turn);
  // RESOURCE_EXHAUSTED when full; whatever Close said.
  absl::Status PushCommand(Command command);
  // The step thread has something to look at.
  void Wake();
  // No more turns from now on; the first reason stays.
  void RefuseTurns(absl::Status reason);

  // ---- step thread ----
  // Sleeps until something was pushed or someone has called Wake since the last time, at most
  // `timeout`; none: for as long as it takes. Then moves out everything. `waiting_count`: turns
  // outside that take a place of the queue.
  void Wait(int32_t waiting_count, std::optional<Duration> timeout, std::vector<Arrival>* arrivals);
  // Refuses everything from now on and moves out the rest.
  void Close(absl::Status reason, std::vector<Arrival>* arrivals);
  bool empty() const;

 private:
  void MoveOut(std::vector<Arrival>* arrivals) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const int32_t turn_capacity_;

  mutable Mutex mutex_;
  CondVar pushed_ ABSL_GUARDED_BY(mutex_);
  std::vector<Arrival> arrivals_ ABSL_GUARDED_BY(mutex_);
  int32_t turn_count_ ABSL_GUARDED_BY(mutex_) = 0;     // in arrivals_
  int32_t command_count_ ABSL_GUARDED_BY(mutex_) = 0;  // in arrivals_
  int32_t waiting_count_ ABSL_GUARDED_BY(mutex_) = 0;  // moved out, but still waiting
  bool woken_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status turn_refusal_ ABSL_GUARDED_BY(mutex_);
  absl::Status command_refusal_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace eddy
