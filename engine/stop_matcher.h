// SPDX-License-Identifier: Apache-2.0
// StopMatcher: finds stop sequences in streamed text and never lets out the beginning of one.
//
// The result does not depend on how the text is cut into pieces: the sequence that is complete
// first ends the text; of several complete at the same byte the longest. Knuth-Morris-Pratt, one
// automaton a sequence. Belongs to a turn; not thread-safe.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace eddy {

class StopMatcher {
 public:
  // Copies the sequences; none may be empty.
  explicit StopMatcher(std::span<const std::string> sequences);

  // Appends to `out` what can no longer be part of a stop sequence. True when a sequence is
  // complete: `out` then has all text before it, and nothing more may be fed.
  bool Feed(std::string_view text, std::string* out);
  // Appends what was held back; for a turn that ends without a stop sequence.
  void Flush(std::string* out);

 private:
  struct Pattern {
    std::string text;
    std::vector<uint16_t> failure;  // [length] of the longest proper border of text[0 .. i]
    size_t matched = 0;             // bytes of it that the text so far ends with
  };

  std::vector<Pattern> patterns_;
  std::string held_;  // the longest suffix of the text that begins a sequence
};

}  // namespace eddy
