// SPDX-License-Identifier: Apache-2.0
#include "engine/submit_queue.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/check.h"

namespace eddy {

absl::Status SubmitQueue::PushTurn(std::unique_ptr<Turn> turn) {
  MutexLock lock(&mutex_);
  if (!turn_refusal_.ok()) return turn_refusal_;
  if (turn_count_ + waiting_count_ >= turn_capacity_) {
    return absl::ResourceExhaustedError(
        absl::StrCat("The queue is full: ", turn_count_ + waiting_count_,
                     " turns wait and submit_queue_capacity is ", turn_capacity_, "."));
  }
  ++turn_count_;
  arrivals_.emplace_back(std::move(turn));
  pushed_.Signal();
  return absl::OkStatus();
}

absl::Status SubmitQueue::PushCommand(Command command) {
  MutexLock lock(&mutex_);
  if (!command_refusal_.ok()) return command_refusal_;
  if (command_count_ >= kCommandCountMax) {
    return absl::ResourceExhaustedError(absl::StrCat(
        command_count_, " session calls are under way; the limit is ", kCommandCountMax, "."));
  }
  ++command_count_;
  arrivals_.emplace_back(std::move(command));
  pushed_.Signal();
  return absl::OkStatus();
}

void SubmitQueue::Wake() {
  MutexLock lock(&mutex_);
  woken_ = true;
  pushed_.Signal();
}

void SubmitQueue::RefuseTurns(absl::Status reason) {
  EDDY_CHECK(!reason.ok());
  MutexLock lock(&mutex_);
  if (turn_refusal_.ok()) turn_refusal_ = std::move(reason);
  woken_ = true;
  pushed_.Signal();
}

void SubmitQueue::Wait(int32_t waiting_count, std::optional<Duration> timeout,
                       std::vector<Arrival>* arrivals) {
  // A timeout beyond any clock is none.
  if (timeout.has_value() && *timeout > std::chrono::hours(1'000'000)) timeout.reset();
  const TimePoint until = std::chrono::steady_clock::now() + timeout.value_or(Duration::zero());
  MutexLock lock(&mutex_);
  waiting_count_ = waiting_count;
  while (arrivals_.empty() && !woken_) {
    if (!timeout.has_value()) {
      pushed_.Wait(&mutex_);
    } else if (*timeout <= Duration::zero() || pushed_.WaitUntil(&mutex_, until)) {
      break;
    }
  }
  woken_ = false;
  MoveOut(arrivals);
}

void SubmitQueue::Close(absl::Status reason, std::vector<Arrival>* arrivals) {
  EDDY_CHECK(!reason.ok());
  MutexLock lock(&mutex_);
  if (turn_refusal_.ok()) turn_refusal_ = reason;
  command_refusal_ = std::move(reason);
  MoveOut(arrivals);
}

bool SubmitQueue::empty() const {
  MutexLock lock(&mutex_);
  return arrivals_.empty();
}

void SubmitQueue::MoveOut(std::vector<Arrival>* arrivals) {
  EDDY_CHECK(arrivals->empty());
  // Swapped, so that both keep their memory.
  arrivals->swap(arrivals_);
  waiting_count_ += turn_count_;
  turn_count_ = 0;
  command_count_ = 0;
}

}  // namespace eddy
