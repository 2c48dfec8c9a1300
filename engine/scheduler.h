// SPDX-License-Identifier: Apache-2.0
// Scheduler: who moves in the next step. A pure function of what could move: no clock, no thread,
// and no allocation but for its index lists, taken at start.
//
// Decode rows come first. If there are more of them than rows, those that have waited longest go,
// so all take turns. Then prefill chunks, the shortest rest of a prompt first, so that a short one
// does not wait behind long ones; a quarter of what there is for prefill, a row and a token at
// least, is kept for the oldest turn, so nobody starves. Beside decode rows, prefill gets as many
// tokens as there are such rows, or a number to be set if that is more: a step then takes at most
// about twice as long as without, and those who decode hardly notice. Where a step has only one row
// or token, prefill and decode take turns.
//
// Tokens to be scored are prefill whose every token wants logits. As each then takes a row of the
// head's product, too, it counts for two; a step has a number of them at most. They come last in a
// batch, so that the logits to sample from and those to score lie apart.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/batch.h"

namespace eddy {

// One turn that can move, as the scheduler sees it. It has a token to read, pending or of the
// prompt.
struct MovableTurn {
  int32_t slot = -1;
  int64_t position = 0;        // of its first token to read
  int32_t pending_token = -1;  // generated, not read yet, to be read before the prompt; -1: none
  std::span<const int32_t> prompt;  // what is left of it; empty: the turn decodes
  uint64_t last_move = 0;           // number of its last row, counted over all steps; 0: none
  // More than 0: the prompt's tokens are scored, so many of them at most in this step.
  int32_t score_count_max = 0;

  bool scores() const { return score_count_max > 0; }
};

struct SchedulerOptions {
  int32_t slot_count = 1;  // turns that can move at most
  int32_t row_count_max = 1;
  int32_t token_count_max = 1;
  int32_t prefill_chunk_token_count = 1;
  int32_t prefill_beside_decode_token_count = 1;
  int32_t score_count_max = 1;  // tokens scored in a step
};

class Scheduler {
 public:
  explicit Scheduler(const SchedulerOptions& options);

  // Fills an empty batch with at least one row if there is a turn. Turns are given oldest first, at
  // most slot_count.
  void Next(std::span<const MovableTurn> turns, Batch* batch);

 private:
  void AddDecode(std::span<const MovableTurn> turns, int32_t count_max, Batch* batch);
  void AddPrefill(std::span<const MovableTurn> turns, int32_t token_count_max, Batch* batch);
  // Each adds a row of at most so many tokens and returns how many they are.
  static int32_t AddPromptRow(const MovableTurn& turn, int32_t index, int32_t count_max,
                              Batch* batch);
  static int32_t AddScoredRow(const MovableTurn& turn, int32_t index, int32_t count_max,
                              Batch* batch);

  const SchedulerOptions options_;
  std::vector<int32_t> decode_;   // indices of turns
  std::vector<int32_t> prefill_;  // indices of turns
};

}  // namespace eddy
