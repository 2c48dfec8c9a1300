// SPDX-License-Identifier: Apache-2.0
#include "server/score_merger.h"

#include <string_view>

#include "server/convert.h"

namespace eddy {

void ScoreMerger::Merge(const std::vector<TokenChunk>& chunks, v1::ScoreResponse* message) {
  message->Clear();
  message->set_position(static_cast<uint32_t>(next_position_));
  for (const TokenChunk& chunk : chunks) {
    if (chunk.has_token) {
      v1::TokenLogProb* token = message->add_tokens();
      token->mutable_token()->set_token_id(static_cast<uint32_t>(chunk.token));
      if (chunk.log_prob) ToProto(*chunk.log_prob, token);
      SetBytes(token->mutable_token());
      for (v1::LogProb& top : *token->mutable_top()) SetBytes(&top);
      next_position_ = chunk.position + 1;
    }
    if (chunk.finish_reason != FinishReason::kNone) {
      message->set_finish_reason(ToProto(chunk.finish_reason));
    }
    if (chunk.usage) ToProto(*chunk.usage, message->mutable_usage());
  }
}

void ScoreMerger::SetBytes(v1::LogProb* log_prob) const {
  if (tokenizer_ == nullptr) return;
  const std::string_view bytes = tokenizer_->TokenBytes(static_cast<int32_t>(log_prob->token_id()));
  log_prob->set_bytes(bytes.data(), bytes.size());
}

}  // namespace eddy
