// SPDX-License-Identifier: Apache-2.0
// Turnstile: lets one thread at a time work on something, and makes sure that work announced
// meanwhile is seen.
//
// Whoever enters may stay over an asynchronous operation (a write in flight) and hand the place to
// the thread on which it completes. Any thread; never blocks.
#pragma once

#include <atomic>
#include <cstdint>

namespace eddy {

class Turnstile {
 public:
  // Announces work. True: the caller is inside now and does it. False: whoever is inside will see
  // it.
  bool Enter() {
    State state = state_.load(std::memory_order_relaxed);
    while (true) {
      const State next = state == State::kFree ? State::kInside : State::kAnnounced;
      if (state_.compare_exchange_weak(state, next, std::memory_order_acq_rel)) {
        return next == State::kInside;
      }
    }
  }

  // True: the caller is outside. False: work was announced since Enter or the last Leave; the
  // caller is still inside and looks again.
  bool Leave() {
    State state = State::kInside;
    if (state_.compare_exchange_strong(state, State::kFree, std::memory_order_acq_rel)) return true;
    state_.exchange(State::kInside, std::memory_order_acq_rel);
    return false;
  }

 private:
  enum class State : uint8_t { kFree, kInside, kAnnounced };
  std::atomic<State> state_{State::kFree};
};

}  // namespace eddy
