// SPDX-License-Identifier: Apache-2.0
#include "engine/scheduler.h"

#include <algorithm>

#include "kernels/check.h"

namespace eddy {
namespace {

// What a scored token takes of the step's tokens.
constexpr int32_t kScoreCost = 2;

}  // namespace

Scheduler::Scheduler(const SchedulerOptions& options) : options_(options) {
  EDDY_CHECK(options.row_count_max >= 1 && options.token_count_max >= 1 &&
             options.prefill_chunk_token_count >= 1 &&
             options.prefill_beside_decode_token_count >= 1 && options.score_count_max >= 1);
  decode_.reserve(static_cast<size_t>(options.slot_count));
  prefill_.reserve(static_cast<size_t>(options.slot_count));
}

void Scheduler::Next(std::span<const MovableTurn> turns, Batch* batch) {
  EDDY_CHECK_EQ(batch->row_count(), 0);
  EDDY_CHECK_LE(turns.size(), static_cast<size_t>(options_.slot_count));
  decode_.clear();
  prefill_.clear();
  for (size_t i = 0; i < turns.size(); ++i) {
    (turns[i].prompt.empty() ? decode_ : prefill_).push_back(static_cast<int32_t>(i));
  }
  const int32_t row_count_max = std::min(options_.row_count_max, options_.token_count_max);
  if (prefill_.empty()) {
    AddDecode(turns, row_count_max, batch);
  } else if (row_count_max > 1) {
    AddDecode(turns, row_count_max - 1, batch);
    const int32_t beside = std::max(options_.prefill_beside_decode_token_count, batch->row_count());
    AddPrefill(turns, decode_.empty() ? options_.token_count_max : beside, batch);
  } else {
    const auto last_move = [&](int32_t i) { return turns[static_cast<size_t>(i)].last_move; };
    const bool decode_waited_longer = std::any_of(decode_.begin(), decode_.end(), [&](int32_t i) {
      return last_move(i) < last_move(prefill_.front());
    });
    if (decode_waited_longer) {
      AddDecode(turns, 1, batch);
    } else {
      AddPrefill(turns, options_.token_count_max, batch);
    }
  }
}

void Scheduler::AddDecode(std::span<const MovableTurn> turns, int32_t count_max, Batch* batch) {
  if (decode_.size() > static_cast<size_t>(count_max)) {
    // Those chosen keep their order, else the same few would come round sooner every time.
    std::partial_sort(decode_.begin(), decode_.begin() + count_max, decode_.end(),
                      [&](int32_t a, int32_t b) {
                        const uint64_t move_a = turns[static_cast<size_t>(a)].last_move;
                        const uint64_t move_b = turns[static_cast<size_t>(b)].last_move;
                        return move_a != move_b ? move_a < move_b : a < b;
                      });
    decode_.resize(static_cast<size_t>(count_max));
  }
  for (const int32_t i : decode_) {
    const MovableTurn& turn = turns[static_cast<size_t>(i)];
    batch->AddRow(i, turn.slot, turn.position);
    batch->AddToken(turn.pending_token);
    batch->WantLogits();
  }
}

void Scheduler::AddPrefill(std::span<const MovableTurn> turns, int32_t token_count_max,
                           Batch* batch) {
  const auto turn_at = [&](int32_t i) -> const MovableTurn& {
    return turns[static_cast<size_t>(i)];
  };
  int32_t left = std::min(token_count_max, options_.token_count_max - batch->token_count());
  int32_t scores_left = options_.score_count_max;
  // For the oldest, until it has its chunk.
  const int32_t oldest = prefill_.front();
  int32_t kept = (left + 3) / 4;
  int32_t scores_kept = turn_at(oldest).scores() ? (scores_left + 3) / 4 : 0;
  std::sort(prefill_.begin(), prefill_.end(), [&](int32_t a, int32_t b) {
    const MovableTurn& turn_a = turn_at(a);
    const MovableTurn& turn_b = turn_at(b);
    if (turn_a.scores() != turn_b.scores()) return turn_b.scores();
    const size_t size_a = turn_a.prompt.size();
    const size_t size_b = turn_b.prompt.size();
    return size_a != size_b ? size_a < size_b : a < b;
  });
  for (const int32_t i : prefill_) {
    if (i == oldest) kept = scores_kept = 0;
    const MovableTurn& turn = turn_at(i);
    const int32_t rows_left = options_.row_count_max - batch->row_count() - (kept > 0 ? 1 : 0);
    const int32_t room = std::min(left - kept, options_.prefill_chunk_token_count);
    if (room <= 0 || rows_left <= 0) continue;
    if (!turn.scores()) {
      left -= AddPromptRow(turn, i, room, batch);
      continue;
    }
    const int32_t count_max =
        std::min((room + kScoreCost - 1) / kScoreCost, scores_left - scores_kept);
    if (count_max <= 0) continue;
    const int32_t count = AddScoredRow(turn, i, count_max, batch);
    scores_left -= count;
    left -= std::min(count * kScoreCost, room);  // the last one must not take what is kept
  }
}

int32_t Scheduler::AddPromptRow(const MovableTurn& turn, int32_t index, int32_t count_max,
                                Batch* batch) {
  batch->AddRow(index, turn.slot, turn.position);
  const int32_t pending_count = turn.pending_token >= 0 ? 1 : 0;
  if (pending_count > 0) batch->AddToken(turn.pending_token);
  const size_t count = std::min(turn.prompt.size(), static_cast<size_t>(count_max - pending_count));
  batch->AddTokens(turn.prompt.first(count));
  if (count == turn.prompt.size()) batch->WantLogits();
  return pending_count + static_cast<int32_t>(count);
}

int32_t Scheduler::AddScoredRow(const MovableTurn& turn, int32_t index, int32_t count_max,
                                Batch* batch) {
  batch->AddRow(index, turn.slot, turn.position);
  const size_t count =
      std::min(turn.prompt.size(), static_cast<size_t>(std::min(count_max, turn.score_count_max)));
  for (const int32_t token : turn.prompt.first(count)) {
    batch->AddToken(token);
    batch->WantLogits();
  }
  return static_cast<int32_t>(count);
}

}  // namespace eddy
