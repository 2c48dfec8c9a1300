// SPDX-License-Identifier: Apache-2.0
// Turn: one running generation of a session: what of the prompt is left, how tokens are chosen,
// their text, when to stop, and the stream it all goes to. Or one prompt that is scored: what of it
// is left, and its log-probabilities to the stream. Made by Submit on any thread, then the step
// thread's alone.
//
// A turn is queued, begun (it has or had a slot), and ended. It ends exactly once, by Begin (a text
// of one token to score), Accept, AcceptScores, Finish or Fail; its stream ends with it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "engine/metrics.h"
#include "engine/model.h"
#include "engine/request.h"
#include "engine/scheduler.h"
#include "engine/session.h"
#include "engine/stop_matcher.h"
#include "engine/token_stream.h"
#include "engine/tokenizer/tokenizer.h"
#include "kernels/backend.h"

namespace eddy {

// What all turns of an engine share; must outlive them.
struct TurnContext {
  const ModelInfo* model = nullptr;
  const Tokenizer* tokenizer = nullptr;  // may be null: no text
  EngineMetrics* metrics = nullptr;
};

class Turn {
 public:
  // The request has been checked.
  Turn(const TurnContext& context, TurnRequest request, std::shared_ptr<TokenStream> stream,
       TimePoint submitted);

  const TurnRequest& request() const { return request_; }
  TokenStream& stream() { return *stream_; }
  bool scores() const { return request_.scores; }
  bool begun() const { return session_ != nullptr; }
  bool ended() const { return ended_; }
  std::optional<TimePoint> begun_at() const { return begun_at_; }

  // Takes up the session, whose state is in its slot. INVALID_ARGUMENT when there is nothing to
  // read or the session would outgrow the model; the caller fails the turn with it.
  absl::Status Begin(Session& session, TimePoint now);

  // The turn as the scheduler sees it.
  MovableTurn Movable() const;
  // A step has read the first token_count tokens of what Movable() offers.
  void Read(int32_t token_count);
  // How to choose the next token; for a turn that has read its prompt. Spans live as long as the
  // turn stays as it is.
  SampleRow SampleOptions();
  // Sends the token a step has chosen and ends the turn if it was the last. result.token is valid
  // (not -1).
  void Accept(const SampleResult& result, TimePoint now);

  // Of a turn that scores, after Read(token_count): the tokens that follow those read, one each.
  std::span<const int32_t> ScoredTokens(int32_t token_count) const;
  // Sends what a step says of them, and ends the turn with the prompt's last token. At logits that
  // are not finite it stops. Returns how many were sent; one row and one result for each token.
  size_t AcceptScores(std::span<const ScoreRow> rows, std::span<const ScoreResult> results,
                      TimePoint now);

  // Ends a turn well / with an error. The text held back is sent by Finish.
  void Finish(FinishReason reason, TimePoint now);
  void Fail(const absl::Status& status, TimePoint now);

  // Looks at the stream: a full one parks the turn, one with room wakes it.
  void UpdateParked(TimePoint now);
  std::optional<TimePoint> parked_since() const { return parked_since_; }

  // ---- kept by EngineCore ----
  Session* target = nullptr;  // the session it will take up
  uint64_t last_move = 0;     // as in MovableTurn

 private:
  // Puts before the prompt what the session wants there.
  void CompletePrompt(Session& session);
  bool PromptHasText() const;
  bool IsEndOfText(int32_t token) const;
  // Adds to the chunk the token's text as far as it may be sent. True when a stop sequence is
  // complete.
  bool AppendText(int32_t token, TokenChunk* chunk);
  // The first token of a prompt to score: of it nothing can be said.
  void SendFirstToken(TimePoint now);
  void CountToken(TimePoint now);
  void FinishWith(TokenChunk chunk, FinishReason reason, TimePoint now);
  void End(const absl::Status& status, TimePoint now);
  Usage MakeUsage(TimePoint now) const;

  // Constant after construction.
  const TurnContext context_;
  const std::shared_ptr<TokenStream> stream_;
  const TimePoint submitted_;
  std::vector<int32_t> banned_;  // before min_tokens: whatever would end the turn

  TurnRequest request_;
  Session* session_ = nullptr;
  size_t prompt_read_count_ = 0;
  int64_t generated_count_ = 0;
  std::optional<Detokenizer> detokenizer_;  // none: no text, or not begun
  StopMatcher stop_matcher_;
  bool ended_ = false;

  int64_t prompt_tokens_ = 0;
  int64_t reused_tokens_ = 0;
  std::optional<TimePoint> begun_at_;
  std::optional<TimePoint> first_token_at_;
  TimePoint last_token_at_;
  std::optional<TimePoint> parked_since_;
};

}  // namespace eddy
