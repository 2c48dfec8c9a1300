// SPDX-License-Identifier: Apache-2.0
#include "engine/batch.h"

#include "kernels/check.h"

namespace eddy {

Batch::Batch(int32_t row_count_max, int32_t token_count_max)
    : row_count_max_(row_count_max), token_count_max_(token_count_max) {
  const auto rows = static_cast<size_t>(row_count_max);
  tokens_.reserve(static_cast<size_t>(token_count_max));
  token_begin_.reserve(rows + 1);
  slot_.reserve(rows);
  position_.reserve(rows);
  turn_index_.reserve(rows);
  logits_token_.reserve(static_cast<size_t>(token_count_max));
  logits_row_.reserve(static_cast<size_t>(token_count_max));
  Clear();
}

void Batch::Clear() {
  tokens_.clear();
  token_begin_.assign(1, 0);
  slot_.clear();
  position_.clear();
  turn_index_.clear();
  logits_token_.clear();
  logits_row_.clear();
}

void Batch::AddRow(int32_t turn_index, int32_t slot, int64_t position) {
  EDDY_CHECK_LT(row_count(), row_count_max_);
  turn_index_.push_back(turn_index);
  slot_.push_back(slot);
  position_.push_back(position);
  token_begin_.push_back(token_count());
}

void Batch::AddToken(int32_t token) { AddTokens({&token, 1}); }

void Batch::AddTokens(std::span<const int32_t> tokens) {
  EDDY_CHECK(row_count() > 0);
  EDDY_CHECK_LE(tokens_.size() + tokens.size(), static_cast<size_t>(token_count_max_));
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
  token_begin_.back() = token_count();
}

void Batch::WantLogits() {
  EDDY_CHECK(row_count() > 0 && row_token_count(row_count() - 1) > 0);
  logits_token_.push_back(token_count() - 1);
  logits_row_.push_back(row_count() - 1);
}

Rows Batch::rows() const {
  return {.row_count = row_count(),
          .token_count = token_count(),
          .logits_count = logits_count(),
          .tokens = tokens_.data(),
          .token_begin = token_begin_.data(),
          .slot = slot_.data(),
          .position = position_.data(),
          .logits_token = logits_token_.data()};
}

}  // namespace eddy
