// SPDX-License-Identifier: Apache-2.0
#include "engine/stop_matcher.h"

#include <algorithm>
#include <limits>

#include "kernels/check.h"

namespace eddy {

StopMatcher::StopMatcher(std::span<const std::string> sequences) {
  patterns_.reserve(sequences.size());
  for (const std::string& sequence : sequences) {
    EDDY_CHECK(!sequence.empty() && sequence.size() <= std::numeric_limits<uint16_t>::max());
    Pattern& pattern = patterns_.emplace_back();
    pattern.text = sequence;
    pattern.failure.assign(sequence.size(), 0);
    for (size_t i = 1, border = 0; i < sequence.size(); ++i) {
      while (border > 0 && sequence[i] != sequence[border]) border = pattern.failure[border - 1];
      if (sequence[i] == sequence[border]) ++border;
      pattern.failure[i] = static_cast<uint16_t>(border);
    }
  }
}

bool StopMatcher::Feed(std::string_view text, std::string* out) {
  if (patterns_.empty()) {
    out->append(text);
    return false;
  }
  for (const char c : text) {
    held_.push_back(c);
    size_t longest_partial = 0;
    size_t longest_match = 0;
    for (Pattern& pattern : patterns_) {
      while (pattern.matched > 0 && c != pattern.text[pattern.matched]) {
        pattern.matched = pattern.failure[pattern.matched - 1];
      }
      if (c == pattern.text[pattern.matched]) ++pattern.matched;
      longest_partial = std::max(longest_partial, pattern.matched);
      if (pattern.matched == pattern.text.size()) {
        longest_match = std::max(longest_match, pattern.matched);
      }
    }
    if (longest_match > 0) {
      out->append(held_, 0, held_.size() - longest_match);
      held_.clear();
      return true;
    }
    out->append(held_, 0, held_.size() - longest_partial);
    held_.erase(0, held_.size() - longest_partial);
  }
  return false;
}

void StopMatcher::Flush(std::string* out) {
  out->append(held_);
  held_.clear();
}

}  // namespace eddy
