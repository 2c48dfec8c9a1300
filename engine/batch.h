// SPDX-License-Identifier: Apache-2.0
// Batch: the ragged work of one step in flat arrays, one row a turn. Its memory is taken at start;
// filling it allocates nothing. Not thread-safe: the step thread owns it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/backend.h"

namespace eddy {

class Batch {
 public:
  Batch(int32_t row_count_max, int32_t token_count_max);

  void Clear();
  // Opens a row for the turn with that index in what the scheduler was given. Aborts past a
  // maximum.
  void AddRow(int32_t turn_index, int32_t slot, int64_t position);
  // To the last row.
  void AddToken(int32_t token);
  void AddTokens(std::span<const int32_t> tokens);
  // The logits after the last token so far are wanted.
  void WantLogits();

  int32_t row_count() const { return static_cast<int32_t>(turn_index_.size()); }
  int32_t token_count() const { return static_cast<int32_t>(tokens_.size()); }
  int32_t logits_count() const { return static_cast<int32_t>(logits_row_.size()); }
  int32_t row_token_count(int32_t row) const {
    return token_begin_[static_cast<size_t>(row) + 1] - token_begin_[static_cast<size_t>(row)];
  }
  int32_t turn_index(int32_t row) const { return turn_index_[static_cast<size_t>(row)]; }
  // The row that the i-th logits belong to.
  int32_t logits_row(int32_t i) const { return logits_row_[static_cast<size_t>(i)]; }
  // A view as the ops want it; good until the batch changes.
  Rows rows() const;

 private:
  const int32_t row_count_max_;
  const int32_t token_count_max_;
  std::vector<int32_t> tokens_;        // [token]
  std::vector<int32_t> token_begin_;   // [row + 1]
  std::vector<int32_t> slot_;          // [row]
  std::vector<int64_t> position_;      // [row]
  std::vector<int32_t> turn_index_;    // [row]
  std::vector<int32_t> logits_token_;  // [logits]
  std::vector<int32_t> logits_row_;    // [logits]
};

}  // namespace eddy
