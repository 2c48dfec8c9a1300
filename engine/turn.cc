// SPDX-License-Identifier: Apache-2.0
#include "engine/turn.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/check.h"

namespace eddy {
namespace {

double Seconds(Duration duration) { return std::chrono::duration<double>(duration).count(); }
double Milliseconds(Duration duration) { return Seconds(duration) * 1e3; }

bool HasPenalty(const SamplingParams& sampling) {
  return sampling.repetition_penalty != 1.0f || sampling.presence_penalty != 0.0f ||
         sampling.frequency_penalty != 0.0f;
}

bool Contains(const std::vector<int32_t>& tokens, int32_t token) {
  return std::find(tokens.begin(), tokens.end(), token) != tokens.end();
}

TokenLogProb MakeLogProb(const SampleResult& result) {
  TokenLogProb log_prob{.token = result.token, .log_prob = result.log_prob, .alternatives = {}};
  log_prob.alternatives.reserve(static_cast<size_t>(result.alternative_count));
  for (int32_t i = 0; i < result.alternative_count; ++i) {
    log_prob.alternatives.push_back(
        {.token = result.alternative_token[i], .bias = result.alternative_log_prob[i]});
  }
  return log_prob;
}

TokenLogProb MakeLogProb(const ScoreRow& row, const ScoreResult& result) {
  const auto alternatives = row.alternatives.first(static_cast<size_t>(result.alternative_count));
  return {.token = row.token,
          .log_prob = result.log_prob,
          .alternatives = {alternatives.begin(), alternatives.end()}};
}

}  // namespace

Turn::Turn(const TurnContext& context, TurnRequest request, std::shared_ptr<TokenStream> stream,
           TimePoint submitted)
    : context_(context),
      stream_(std::move(stream)),
      submitted_(submitted),
      request_(std::move(request)),
      stop_matcher_(request_.stop.sequences) {
  if (request_.stop.min_tokens == 0) return;
  banned_ = request_.stop.token_ids;
  if (!request_.stop.ignore_end_of_text) {
    banned_.insert(banned_.end(), context_.model->end_of_text_ids.begin(),
                   context_.model->end_of_text_ids.end());
  }
}

absl::Status Turn::Begin(Session& session, TimePoint now) {
  EDDY_CHECK(!begun() && !ended_);
  CompletePrompt(session);
  const auto prompt_size = static_cast<int64_t>(request_.prompt.size());
  if (prompt_size == 0 && session.pending_token() < 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "prompt is empty and session '", session.name(), "' (position ", session.position(),
        ") has no unread token to go on from; send at least one token."));
  }
  const int64_t position_max = context_.model->position_max;
  // What is scored was held against it before: nothing comes behind it.
  if (position_max > 0 && !scores() && session.position() + prompt_size >= position_max) {
    return absl::InvalidArgumentError(
        absl::StrCat("prompt has ", prompt_size, " tokens and session '", session.name(),
                     "' is at position ", session.position(), "; model ", context_.model->name,
                     " holds at most ", position_max, " tokens a session."));
  }
  if (context_.tokenizer != nullptr) {
    detokenizer_.emplace(*context_.tokenizer, session.position() == 0 && !PromptHasText());
  }
  session_ = &session;
  begun_at_ = now;
  prompt_tokens_ = session.position() + prompt_size;
  reused_tokens_ = session.read_count();
  session.window().KeepCounts(HasPenalty(request_.sampling));
  context_.metrics->prefix_reuse_tokens.Add(reused_tokens_);
  context_.metrics->request_queue_time.Observe(Seconds(now - submitted_));
  if (scores()) SendFirstToken(now);
  return absl::OkStatus();
}

void Turn::CompletePrompt(Session& session) {
  std::vector<int32_t>& prompt = request_.prompt;
  if (session.position() == 0) {
    prompt.insert(prompt.begin(), request_.opening.begin(), request_.opening.end());
  } else if (!session.window().EndsWith(request_.closing)) {
    prompt.insert(prompt.begin(), request_.closing.begin(), request_.closing.end());
  }
}

bool Turn::PromptHasText() const {
  return std::any_of(request_.prompt.begin(), request_.prompt.end(), [this](int32_t token) {
    return !context_.tokenizer->TokenBytes(token).empty();
  });
}

MovableTurn Turn::Movable() const {
  std::span<const int32_t> prompt(request_.prompt);
  // Nothing is asked of what comes after the last token scored.
  if (scores()) prompt = prompt.first(prompt.size() - 1);
  return {.slot = session_->slot.index(),
          .position = session_->read_count(),
          .pending_token = session_->pending_token(),
          .prompt = prompt.subspan(prompt_read_count_),
          .last_move = last_move,
          .score_count_max = scores() ? stream_->room() : 0};
}

void Turn::Read(int32_t token_count) {
  auto count = static_cast<size_t>(token_count);
  if (session_->pending_token() >= 0) --count;
  session_->Read(std::span<const int32_t>(request_.prompt).subspan(prompt_read_count_, count));
  prompt_read_count_ += count;
  context_.metrics->prompt_tokens.Add(static_cast<int64_t>(count));
  // Not needed again, and it may be megabytes.
  if (count > 0 && prompt_read_count_ == request_.prompt.size()) {
    std::vector<int32_t>().swap(request_.prompt);
    prompt_read_count_ = 0;
  }
}

SampleRow Turn::SampleOptions() {
  const SamplingParams& sampling = request_.sampling;
  const bool may_end = generated_count_ >= request_.stop.min_tokens;
  return {.temperature = sampling.temperature,
          .top_k = sampling.top_k,
          .top_p = sampling.top_p,
          .min_p = sampling.min_p,
          .repetition_penalty = sampling.repetition_penalty,
          .presence_penalty = sampling.presence_penalty,
          .frequency_penalty = sampling.frequency_penalty,
          .seed = sampling.seed,
          .position = session_->position(),
          .seen = session_->window().counts(),
          .biases = sampling.biases,
          .banned = may_end ? std::span<const int32_t>() : std::span<const int32_t>(banned_),
          .wants_log_prob = request_.wants_log_probs,
          .alternative_count = request_.alternative_count};
}

void Turn::Accept(const SampleResult& result, TimePoint now) {
  EDDY_CHECK(begun() && !ended_);
  const int32_t token = result.token;
  if (IsEndOfText(token)) return Finish(FinishReason::kEndOfText, now);
  if (Contains(request_.stop.token_ids, token)) return Finish(FinishReason::kStopSequence, now);

  TokenChunk chunk;
  chunk.position = session_->position();
  chunk.token = token;
  chunk.has_token = true;
  if (request_.wants_log_probs) chunk.log_prob = MakeLogProb(result);
  session_->AppendGenerated(token);
  CountToken(now);

  const bool stopped = AppendText(token, &chunk);
  const int64_t position_max = context_.model->position_max;
  if (stopped) {
    FinishWith(std::move(chunk), FinishReason::kStopSequence, now);
  } else if (generated_count_ == request_.stop.max_tokens ||
             (position_max > 0 && session_->position() >= position_max)) {
    FinishWith(std::move(chunk), FinishReason::kLength, now);
  } else {
    stream_->Push(std::move(chunk));
  }
}

void Turn::SendFirstToken(TimePoint now) {
  TokenChunk chunk;
  chunk.token = request_.prompt.front();
  chunk.has_token = true;
  if (request_.prompt.size() == 1) return FinishWith(std::move(chunk), FinishReason::kScored, now);
  stream_->Push(std::move(chunk));
}

std::span<const int32_t> Turn::ScoredTokens(int32_t token_count) const {
  const auto count = static_cast<size_t>(token_count);
  return std::span<const int32_t>(request_.prompt).subspan(prompt_read_count_ - count + 1, count);
}

size_t Turn::AcceptScores(std::span<const ScoreRow> rows, std::span<const ScoreResult> results,
                          TimePoint now) {
  EDDY_CHECK(begun() && !ended_ && rows.size() == results.size());
  const int64_t first_position = session_->position() - static_cast<int64_t>(rows.size()) + 1;
  std::vector<TokenChunk> chunks;
  chunks.reserve(rows.size());
  while (chunks.size() < rows.size() && results[chunks.size()].is_finite) {
    const size_t i = chunks.size();
    TokenChunk& chunk = chunks.emplace_back();
    chunk.position = first_position + static_cast<int64_t>(i);
    chunk.token = rows[i].token;
    chunk.has_token = true;
    chunk.log_prob = MakeLogProb(rows[i], results[i]);
  }
  const size_t count = chunks.size();
  context_.metrics->scored_tokens.Add(static_cast<int64_t>(count));
  const bool is_whole = count == rows.size() && prompt_read_count_ + 1 == request_.prompt.size();
  stream_->PushAll(std::span(chunks).first(is_whole ? count - 1 : count));
  if (is_whole) FinishWith(std::move(chunks.back()), FinishReason::kScored, now);
  return count;
}

void Turn::Finish(FinishReason reason, TimePoint now) {
  TokenChunk chunk;
  if (session_ != nullptr) chunk.position = session_->position();
  FinishWith(std::move(chunk), reason, now);
}

void Turn::FinishWith(TokenChunk chunk, FinishReason reason, TimePoint now) {
  // After a stop token or end of text, too, what looked like the beginning of a stop sequence was
  // none. A sequence that an unfinished character completes ends the text all the same.
  const bool at_sequence = chunk.has_token && reason == FinishReason::kStopSequence;
  if (!at_sequence) {
    std::string rest;
    if (detokenizer_) detokenizer_->Finish(&rest);
    if (!stop_matcher_.Feed(rest, &chunk.text)) stop_matcher_.Flush(&chunk.text);
  }
  chunk.finish_reason = reason;
  chunk.usage = MakeUsage(now);
  stream_->Push(std::move(chunk));
  context_.metrics->finished[static_cast<size_t>(reason)].Add(1);
  End(absl::OkStatus(), now);
}

void Turn::Fail(const absl::Status& status, TimePoint now) {
  context_.metrics->failed[static_cast<size_t>(status.code())].Add(1);
  End(status, now);
}

void Turn::End(const absl::Status& status, TimePoint now) {
  EDDY_CHECK(!ended_);
  ended_ = true;
  EngineMetrics& metrics = *context_.metrics;
  metrics.e2e_request_latency.Observe(Seconds(now - submitted_));
  if (first_token_at_.has_value()) {
    metrics.request_decode_time.Observe(Seconds(last_token_at_ - *first_token_at_));
  }
  if (session_ != nullptr) session_->window().KeepCounts(false);
  stream_->End(status);
}

void Turn::UpdateParked(TimePoint now) {
  if (!stream_->full()) {
    parked_since_.reset();
  } else if (!parked_since_.has_value()) {
    parked_since_ = now;
    context_.metrics->stream_parked.Add(1);
  }
}

bool Turn::IsEndOfText(int32_t token) const {
  return !request_.stop.ignore_end_of_text && Contains(context_.model->end_of_text_ids, token);
}

bool Turn::AppendText(int32_t token, TokenChunk* chunk) {
  if (!detokenizer_) return false;
  std::string text;
  detokenizer_->Feed(token, &text);
  if (generated_count_ <= request_.stop.min_tokens) {
    chunk->text = std::move(text);
    return false;
  }
  return stop_matcher_.Feed(text, &chunk->text);
}

void Turn::CountToken(TimePoint now) {
  ++generated_count_;
  EngineMetrics& metrics = *context_.metrics;
  metrics.generation_tokens.Add(1);
  if (!first_token_at_.has_value()) {
    first_token_at_ = now;
    metrics.time_to_first_token.Observe(Seconds(now - submitted_));
    metrics.request_prefill_time.Observe(Seconds(now - *begun_at_));
  } else {
    metrics.inter_token_latency.Observe(Seconds(now - last_token_at_));
  }
  last_token_at_ = now;
}

Usage Turn::MakeUsage(TimePoint now) const {
  Usage usage{.prompt_tokens = prompt_tokens_,
              .reused_tokens = reused_tokens_,
              .generated_tokens = generated_count_};
  usage.queue_ms = Milliseconds(begun_at_.value_or(now) - submitted_);
  if (begun_at_.has_value()) {
    usage.prefill_ms = Milliseconds(first_token_at_.value_or(now) - *begun_at_);
  }
  if (first_token_at_.has_value()) {
    usage.decode_ms = Milliseconds(last_token_at_ - *first_token_at_);
  }
  return usage;
}

}  // namespace eddy
