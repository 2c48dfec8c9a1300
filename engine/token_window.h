// SPDX-License-Identifier: Apache-2.0
// TokenWindow: the last 1,024 tokens of a session, the only history it keeps: what penalties look
// at. Its memory does not grow with the session. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/backend.h"

namespace eddy {

class TokenWindow {
 public:
  static constexpr size_t kTokenCountMax = 1024;

  void Append(int32_t token);
  // Keeps counts() up to date from now on, or no longer.
  void KeepCounts(bool keep);
  // Each token of the window once, in no order; empty unless counts are kept. Good until the next
  // Append.
  std::span<const TokenCount> counts() const { return counts_; }
  size_t size() const { return ring_.size(); }
  // Whether the last tokens are these; never when they are more than the window has.
  bool EndsWith(std::span<const int32_t> tokens) const;

 private:
  void Count(int32_t token, int32_t change);

  std::vector<int32_t> ring_;
  size_t oldest_ = 0;  // where the next token goes once the ring is full
  bool keeps_counts_ = false;
  std::vector<TokenCount> counts_;
};

}  // namespace eddy
