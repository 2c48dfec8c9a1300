// SPDX-License-Identifier: Apache-2.0
#include "server/chunk_merger.h"

#include "server/convert.h"

namespace eddy {

void ChunkMerger::Merge(const std::vector<TokenChunk>& chunks, v1::GenerateResponse* message) {
  message->Clear();
  if (is_first_) message->set_seed(seed_);
  is_first_ = false;
  for (const TokenChunk& chunk : chunks) {
    if (next_position_ < 0) next_position_ = chunk.position;
    if (chunk.has_token) {
      if (message->token_ids_size() == 0) {
        message->set_position(static_cast<uint32_t>(chunk.position));
      }
      message->add_token_ids(static_cast<uint32_t>(chunk.token));
      next_position_ = chunk.position + 1;
    }
    message->mutable_text()->append(chunk.text);
    if (chunk.log_prob) ToProto(*chunk.log_prob, message->add_log_probs());
    if (chunk.finish_reason != FinishReason::kNone) {
      message->set_finish_reason(ToProto(chunk.finish_reason));
    }
    if (chunk.usage) ToProto(*chunk.usage, message->mutable_usage());
  }
  if (message->token_ids_size() == 0 && next_position_ >= 0) {
    message->set_position(static_cast<uint32_t>(next_position_));
  }
}

}  // namespace eddy
