// SPDX-License-Identifier: Apache-2.0
// What a caller asks of the engine and what it gets back: plain values, the words spoken with the
// server.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kernels/backend.h"

namespace eddy {

using TimePoint = std::chrono::steady_clock::time_point;
using Duration = std::chrono::steady_clock::duration;

struct SamplingParams {
  float temperature = 1.0f;         // [0, 100]; 0: greedy
  int32_t top_k = 0;                // [0, vocabulary]; 0: off
  float top_p = 1.0f;               // (0, 1]
  float min_p = 0.0f;               // [0, 1]
  float repetition_penalty = 1.0f;  // [0.01, 100]
  float presence_penalty = 0.0f;    // [-100, 100]
  float frequency_penalty = 0.0f;   // [-100, 100]
  std::vector<LogitBias> biases;  // at most kLogitBiasesMax, each token once; bias in [-1000, 1000]
  uint64_t seed = 0;

  static constexpr int kLogitBiasesMax = 1024;
};

struct StopConditions {
  int64_t max_tokens = 0;  // at least 1
  int64_t min_tokens = 0;  // [0, max_tokens]; end of text, stop tokens and strings wait for it
  std::vector<std::string>
      sequences;  // at most kSequencesMax of 1..kSequenceBytesMax bytes; never sent
  std::vector<int32_t> token_ids;  // at most kTokenIdsMax; end the turn, are never sent
  bool ignore_end_of_text = false;

  static constexpr int kSequencesMax = 16;
  static constexpr int kSequenceBytesMax = 256;
  static constexpr int kTokenIdsMax = 64;
};

// One turn: read the prompt into the session's state, then generate; or, with `scores`, tell how
// probable each of the prompt's own tokens is.
struct TurnRequest {
  std::string session_name;     // empty: an unnamed session that ends with the turn
  bool create_session = false;  // make the named session when it is not there
  // Token ids. May be empty only when the session ends with a generated token: the turn goes on
  // from it.
  std::vector<int32_t> prompt;
  // Read before the prompt, so that a conversation of many turns has the tokens of a single text:
  // `opening` by a session that has no tokens yet ("<s>"), `closing` by one that has some and does
  // not end with it (the end of the turn that the model spoke). At most kFrameTokensMax each.
  std::vector<int32_t> opening;
  std::vector<int32_t> closing;
  static constexpr int64_t kFrameTokensMax = 1024;  // as many as a session remembers
  SamplingParams sampling;
  StopConditions stop;
  std::optional<TimePoint> deadline;
  bool wants_log_probs = false;
  int32_t alternative_count = 0;  // [0, SampleResult::kAlternativesMax]
  // Nothing is generated: every token of the prompt comes back with its log-probability after those
  // before it, and alternative_count, here up to ScoreRow::kAlternativesMax, of the most probable.
  // The first comes without, for nothing is before it. Always in an unnamed session; sampling, stop
  // and wants_log_probs mean nothing.
  bool scores = false;
};

enum class FinishReason : uint8_t {
  kNone,
  kEndOfText,
  kStopSequence,
  kLength,
  kCancelled,
  kDeadline,
  kScored,  // the last token of a prompt to be scored
};

// All 0 but queue_ms for a turn that ended before it began.
struct Usage {
  int64_t prompt_tokens =
      0;  // everything before the first generated token, the session's history included
  int64_t reused_tokens = 0;  // the part of it whose state was already there
  int64_t generated_tokens = 0;
  double queue_ms = 0;    // from Submit to the first step
  double prefill_ms = 0;  // from the first step to the first token
  double decode_ms = 0;   // from the first token to the last
};

struct TokenLogProb {
  int32_t token = 0;
  float log_prob = 0;
  std::vector<LogitBias> alternatives;  // {token, log-probability}, most probable first
};

// What one step gives one turn. Text may lag behind token ids (unfinished UTF-8, a possible stop
// string) and is whole UTF-8 always. A chunk without token (has_token false) only releases text or
// ends the turn.
struct TokenChunk {
  int64_t position = 0;  // of the token in the session, the first prompt token ever being 0
  int32_t token = -1;
  bool has_token = false;
  std::string text;
  std::optional<TokenLogProb> log_prob;  // when asked for; not of the first token scored
  FinishReason finish_reason =
      FinishReason::kNone;     // in the last chunk of a turn that finished well
  std::optional<Usage> usage;  // in the last chunk
};

struct SessionInfo {
  std::string name;
  int64_t position = 0;    // tokens read and generated so far
  int64_t turn_count = 0;  // finished turns
  enum class State : uint8_t { kActive, kResident, kEvicted } state = State::kResident;
  int64_t state_bytes = 0;
  std::chrono::system_clock::time_point created;
  std::chrono::system_clock::time_point last_used;
};

}  // namespace eddy
