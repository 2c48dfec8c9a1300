// SPDX-License-Identifier: Apache-2.0
// ScoreMerger: the chunks of a turn that scores to messages, as many chunks into one message as
// have come meanwhile.
#pragma once

#include <cstdint>
#include <vector>

#include "eddy/v1/generation.pb.h"
#include "engine/request.h"
#include "engine/tokenizer/tokenizer.h"

namespace eddy {

// Value of one turn; not thread-safe.
class ScoreMerger {
 public:
  using Message = v1::ScoreResponse;
  // Tells the tokens' bytes where there is a tokenizer, which outlives this.
  explicit ScoreMerger(const Tokenizer* tokenizer) : tokenizer_(tokenizer) {}

  // Replaces *message by all of `chunks`, in order.
  void Merge(const std::vector<TokenChunk>& chunks, v1::ScoreResponse* message);

 private:
  void SetBytes(v1::LogProb* log_prob) const;

  const Tokenizer* tokenizer_;
  int64_t next_position_ = 0;
};

}  // namespace eddy
