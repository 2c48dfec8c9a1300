// SPDX-License-Identifier: Apache-2.0
// How fast a turn streamed, as the client saw it.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "eddy/v1/generation.pb.h"

namespace eddy {

// The client's view of one turn's pace. One thread.
class TurnClock {
 public:
  using Clock = std::chrono::steady_clock;
  explicit TurnClock(Clock::time_point start) : start_(start) {}

  void OnMessage(const v1::GenerateResponse& message, Clock::time_point now);

  // "64 tokens, 812.3 tokens/s, first token after 3.1 ms, length": the pace is that of the tokens
  // behind the first message; it is left out where there is none.
  std::string Summary(const v1::GenerateResponse& last) const;

 private:
  Clock::time_point start_;
  std::optional<Clock::time_point> first_token_;
  Clock::time_point last_token_;
  int64_t first_message_token_count_ = 0;
  int64_t token_count_ = 0;
};

// "length" for FINISH_REASON_LENGTH and so on.
std::string FinishReasonWord(v1::FinishReason reason);

}  // namespace eddy
