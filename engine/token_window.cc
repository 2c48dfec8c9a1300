// SPDX-License-Identifier: Apache-2.0
#include "engine/token_window.h"

#include <algorithm>

#include "kernels/check.h"

namespace eddy {

void TokenWindow::Append(int32_t token) {
  if (ring_.size() < kTokenCountMax) {
    // Memory at once for all: a warm step allocates nothing.
    if (ring_.empty()) ring_.reserve(kTokenCountMax);
    ring_.push_back(token);
  } else {
    if (keeps_counts_) Count(ring_[oldest_], -1);
    ring_[oldest_] = token;
    oldest_ = (oldest_ + 1) % kTokenCountMax;
  }
  if (keeps_counts_) Count(token, 1);
}

bool TokenWindow::EndsWith(std::span<const int32_t> tokens) const {
  if (tokens.size() > ring_.size()) return false;
  // The oldest is at oldest_ once the ring is full, at 0 before, where oldest_ is, too.
  const size_t first = oldest_ + ring_.size() - tokens.size();
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (ring_[(first + i) % ring_.size()] != tokens[i]) return false;
  }
  return true;
}

void TokenWindow::KeepCounts(bool keep) {
  if (keep == keeps_counts_) return;
  keeps_counts_ = keep;
  if (!keep) {
    std::vector<TokenCount>().swap(counts_);
    return;
  }
  counts_.reserve(kTokenCountMax);
  for (const int32_t token : ring_) Count(token, 1);
}

// A scan over at most 1,024 pairs costs less than a hash map would to keep, and turns without
// penalties pay nothing.
void TokenWindow::Count(int32_t token, int32_t change) {
  const auto it = std::find_if(counts_.begin(), counts_.end(),
                               [&](const TokenCount& entry) { return entry.token == token; });
  if (it == counts_.end()) {
    EDDY_CHECK_EQ(change, 1);
    counts_.push_back({.token = token, .count = 1});
    return;
  }
  it->count += change;
  if (it->count == 0) {
    *it = counts_.back();
    counts_.pop_back();
  }
}

}  // namespace eddy
