// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>

#include "engine/request.h"

namespace eddy {

// Every bound of the process's engine side; printed at start with the bytes it costs.
struct EngineOptions {
  int32_t slot_count = 64;                  // sessions with state in the pool
  int32_t batch_row_count_max = 64;         // rows of a step; clamped to slot_count
  int32_t batch_token_count_max = 512;      // tokens of a step, decode rows included
  int32_t prefill_chunk_token_count = 256;  // prompt tokens of one row in a step
  // Prompt tokens of a step in which others decode; or as many as there are such rows, if more.
  int32_t prefill_beside_decode_token_count = 8;
  // Tokens scored in a step: each takes a row of logits.
  int32_t batch_score_count_max = 64;
  int32_t submit_queue_capacity = 256;  // turns waiting for a slot or for their session
  int32_t session_turn_count_max = 16;  // turns of one session waiting for the one that runs
  int32_t stream_capacity = 256;        // chunks a slow reader may leave before its turn is parked
  int64_t prompt_token_count_max = 1 << 20;
  int64_t score_token_count_max = 1 << 17;
  int64_t session_count_max = 100'000;                  // named sessions
  int64_t host_state_bytes_max = int64_t{4} << 30;      // evicted states in RAM
  Duration reader_stall_max = std::chrono::minutes(5);  // a parked turn ends after it
  std::function<TimePoint()> clock = [] { return std::chrono::steady_clock::now(); };
};

}  // namespace eddy
