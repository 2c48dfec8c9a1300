// SPDX-License-Identifier: Apache-2.0
#include "engine/request_check.h"

#include <algorithm>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/tokenizer/tokenizer.h"
#include "kernels/status_macros.h"

namespace eddy {
namespace {

constexpr size_t kSessionNameBytesMax = 128;

// Written so that NaN is outside every range.
template <typename T>
absl::Status CheckRange(std::string_view field, T value, T least, T most) {
  if (value >= least && value <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(std::string(field), " is ", value,
                                                 "; it must be in [", least, ", ", most, "]."));
}

template <typename T>
absl::Status CheckAtLeast(std::string_view field, T value, T least) {
  if (value >= least) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(std::string(field), " is ", value, "; it must be at least ", least, "."));
}

absl::Status CheckCount(std::string_view field, size_t count, size_t most) {
  if (count <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(std::string(field), " has ", count, " entries; the limit is ", most, "."));
}

absl::Status CheckToken(std::string_view field, int64_t index, int32_t token,
                        int32_t vocabulary_size) {
  if (token >= 0 && token < vocabulary_size) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(std::string(field), "[", index, "] is ", token,
                                                 "; token ids must be in [0, ", vocabulary_size,
                                                 ")."));
}

absl::Status CheckPromptTokens(const std::vector<int32_t>& prompt, int32_t vocabulary_size) {
  for (size_t i = 0; i < prompt.size(); ++i) {
    EDDY_RETURN_IF_ERROR(
        CheckToken("prompt.token_ids", static_cast<int64_t>(i), prompt[i], vocabulary_size));
  }
  return absl::OkStatus();
}

absl::Status CheckPrompt(const TurnRequest& request, const RequestLimits& limits) {
  const auto count = static_cast<int64_t>(request.prompt.size());
  if (count == 0 && request.opening.empty() && request.session_name.empty()) {
    return absl::InvalidArgumentError(
        "prompt is empty; without a session to continue it needs at least one token.");
  }
  for (const auto* const frame : {&request.opening, &request.closing}) {
    EDDY_RETURN_IF_ERROR(
        CheckCount("the prompt's frame", frame->size(), TurnRequest::kFrameTokensMax));
    for (size_t i = 0; i < frame->size(); ++i) {
      EDDY_RETURN_IF_ERROR(CheckToken("the prompt's frame", static_cast<int64_t>(i), (*frame)[i],
                                      limits.vocabulary_size));
    }
  }
  if (count > limits.prompt_token_count_max) {
    return absl::InvalidArgumentError(absl::StrCat("prompt has ", count, " tokens; the limit is ",
                                                   limits.prompt_token_count_max, "."));
  }
  if (limits.position_max > 0 && count >= limits.position_max) {
    return absl::InvalidArgumentError(
        absl::StrCat("prompt has ", count, " tokens; the model holds at most ", limits.position_max,
                     " tokens a session, generated ones included."));
  }
  return CheckPromptTokens(request.prompt, limits.vocabulary_size);
}

absl::Status CheckScore(const TurnRequest& request, const RequestLimits& limits) {
  if (!request.session_name.empty() || request.create_session) {
    return absl::InvalidArgumentError(
        absl::StrCat("session is '", request.session_name, "'; what is scored has none."));
  }
  const auto count = static_cast<int64_t>(request.prompt.size());
  EDDY_RETURN_IF_ERROR(
      CheckRange<int64_t>("Length in tokens of prompt", count, 1, limits.score_token_count_max));
  if (limits.position_max > 0 && count > limits.position_max) {
    return absl::InvalidArgumentError(absl::StrCat("prompt has ", count,
                                                   " tokens; the model holds at most ",
                                                   limits.position_max, " tokens a session."));
  }
  EDDY_RETURN_IF_ERROR(CheckPromptTokens(request.prompt, limits.vocabulary_size));
  EDDY_RETURN_IF_ERROR(
      CheckRange("top_log_probs", request.alternative_count, 0, ScoreRow::kAlternativesMax));
  if (!limits.is_mixture || request.alternative_count == 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("top_log_probs is ", request.alternative_count,
                   ", but the model predicts a mixture of logistics, whose values have no "
                   "alternatives."));
}

absl::Status CheckBiases(const std::vector<LogitBias>& biases, int32_t vocabulary_size) {
  EDDY_RETURN_IF_ERROR(
      CheckCount("sampling.logit_bias", biases.size(), SamplingParams::kLogitBiasesMax));
  std::vector<int32_t> tokens;
  for (size_t i = 0; i < biases.size(); ++i) {
    EDDY_RETURN_IF_ERROR(CheckToken("sampling.logit_bias", static_cast<int64_t>(i), biases[i].token,
                                    vocabulary_size));
    EDDY_RETURN_IF_ERROR(CheckRange(absl::StrCat("sampling.logit_bias of token ", biases[i].token),
                                    biases[i].bias, -1000.0f, 1000.0f));
    tokens.push_back(biases[i].token);
  }
  std::sort(tokens.begin(), tokens.end());
  const auto twice = std::adjacent_find(tokens.begin(), tokens.end());
  if (twice == tokens.end()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("sampling.logit_bias names token ", *twice, " twice; once is allowed."));
}

absl::Status CheckSampling(const SamplingParams& sampling, int32_t vocabulary_size) {
  EDDY_RETURN_IF_ERROR(
      CheckRange("sampling.repetition_penalty", sampling.repetition_penalty, 0.01f, 100.0f));
  EDDY_RETURN_IF_ERROR(
      CheckRange("sampling.presence_penalty", sampling.presence_penalty, -100.0f, 100.0f));
  EDDY_RETURN_IF_ERROR(
      CheckRange("sampling.frequency_penalty", sampling.frequency_penalty, -100.0f, 100.0f));
  EDDY_RETURN_IF_ERROR(CheckBiases(sampling.biases, vocabulary_size));
  EDDY_RETURN_IF_ERROR(CheckRange("sampling.temperature", sampling.temperature, 0.0f, 100.0f));
  EDDY_RETURN_IF_ERROR(CheckRange("sampling.top_k", sampling.top_k, 0, vocabulary_size));
  if (!(sampling.top_p > 0.0f && sampling.top_p <= 1.0f)) {
    return absl::InvalidArgumentError(
        absl::StrCat("sampling.top_p is ", sampling.top_p, "; it must be in (0, 1]."));
  }
  return CheckRange("sampling.min_p", sampling.min_p, 0.0f, 1.0f);
}

bool IsUtf8(std::string_view text) {
  Utf8Stream stream;
  std::string whole;
  stream.Feed(text, &whole);
  stream.Finish(&whole);
  return whole == text;
}

absl::Status CheckStopSequences(const StopConditions& stop, bool has_tokenizer) {
  EDDY_RETURN_IF_ERROR(
      CheckCount("stop.sequences", stop.sequences.size(), StopConditions::kSequencesMax));
  if (!stop.sequences.empty() && !has_tokenizer) {
    return absl::InvalidArgumentError(absl::StrCat(
        "stop.sequences has ", stop.sequences.size(),
        " entries, but the model has no tokenizer and so no text; use stop.token_ids."));
  }
  for (size_t i = 0; i < stop.sequences.size(); ++i) {
    const std::string& sequence = stop.sequences[i];
    const std::string field = absl::StrCat("stop.sequences[", i, "]");
    EDDY_RETURN_IF_ERROR(CheckRange(absl::StrCat("Length in bytes of ", field),
                                    static_cast<int>(std::min<size_t>(sequence.size(), 1u << 30)),
                                    1, StopConditions::kSequenceBytesMax));
    if (!IsUtf8(sequence)) {
      return absl::InvalidArgumentError(absl::StrCat(field, " is not valid UTF-8."));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckStop(const StopConditions& stop, const RequestLimits& limits) {
  EDDY_RETURN_IF_ERROR(CheckAtLeast<int64_t>("stop.max_tokens", stop.max_tokens, 1));
  EDDY_RETURN_IF_ERROR(CheckRange<int64_t>("stop.min_tokens", stop.min_tokens, 0, stop.max_tokens));
  EDDY_RETURN_IF_ERROR(CheckStopSequences(stop, limits.has_tokenizer));
  EDDY_RETURN_IF_ERROR(
      CheckCount("stop.token_ids", stop.token_ids.size(), StopConditions::kTokenIdsMax));
  for (size_t i = 0; i < stop.token_ids.size(); ++i) {
    EDDY_RETURN_IF_ERROR(CheckToken("stop.token_ids", static_cast<int64_t>(i), stop.token_ids[i],
                                    limits.vocabulary_size));
  }
  if (stop.min_tokens == 0) return absl::OkStatus();
  std::vector<int32_t> banned = stop.token_ids;
  if (!stop.ignore_end_of_text) {
    banned.insert(banned.end(), limits.end_of_text_ids.begin(), limits.end_of_text_ids.end());
  }
  std::sort(banned.begin(), banned.end());
  banned.erase(std::unique(banned.begin(), banned.end()), banned.end());
  if (static_cast<int64_t>(banned.size()) < limits.vocabulary_size) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "stop.min_tokens is ", stop.min_tokens, ", but stop.token_ids and end of text are all ",
      limits.vocabulary_size, " tokens of the vocabulary: none could be generated before them."));
}

// Of a mixture of logistics there are no logits to change and no tokens to cut off.
absl::Status CheckForMixture(const TurnRequest& request) {
  const SamplingParams& sampling = request.sampling;
  const std::pair<const char*, bool> set[] = {
      {"sampling.repetition_penalty", sampling.repetition_penalty != 1.0f},
      {"sampling.presence_penalty", sampling.presence_penalty != 0.0f},
      {"sampling.frequency_penalty", sampling.frequency_penalty != 0.0f},
      {"sampling.logit_bias", !sampling.biases.empty()},
      {"sampling.top_k", sampling.top_k != 0},
      {"sampling.top_p", sampling.top_p != 1.0f},
      {"sampling.min_p", sampling.min_p != 0.0f},
      {"stop.token_ids", !request.stop.token_ids.empty()},
      {"output.top_log_probs", request.alternative_count != 0},
  };
  for (const auto& [field, is_set] : set) {
    if (!is_set) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(field,
                     " is set, but the model predicts a mixture of logistics, which has no "
                     "logits: of sampling only temperature and seed apply, and values "
                     "neither stop a turn nor have alternatives."));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckSessionName(std::string_view name) {
  if (name.empty() || name.size() > kSessionNameBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat(
        "session name has ", name.size(), " bytes; it must have 1 to ", kSessionNameBytesMax, "."));
  }
  for (size_t i = 0; i < name.size(); ++i) {
    const char c = name[i];
    const bool allowed = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                         (c >= '0' && c <= '9') || c == '.' || c == '_' || c == ':' || c == '-' ||
                         (c == '~' && i == 0);
    if (!allowed) {
      return absl::InvalidArgumentError(
          absl::StrCat("session name has byte ", static_cast<int>(static_cast<unsigned char>(c)),
                       " at ", i, "; letters, digits and ._:- are allowed."));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckTurnRequest(const TurnRequest& request, const RequestLimits& limits) {
  if (request.scores) return CheckScore(request, limits);
  if (!request.session_name.empty()) {
    EDDY_RETURN_IF_ERROR(CheckSessionName(request.session_name));
  } else if (request.create_session) {
    return absl::InvalidArgumentError("create_session is true, but session has no name.");
  }
  EDDY_RETURN_IF_ERROR(CheckPrompt(request, limits));
  EDDY_RETURN_IF_ERROR(CheckSampling(request.sampling, limits.vocabulary_size));
  EDDY_RETURN_IF_ERROR(CheckStop(request.stop, limits));
  EDDY_RETURN_IF_ERROR(CheckRange("output.top_log_probs", request.alternative_count, 0,
                                  SampleResult::kAlternativesMax));
  if (request.alternative_count > 0 && !request.wants_log_probs) {
    return absl::InvalidArgumentError(absl::StrCat("output.top_log_probs is ",
                                                   request.alternative_count,
                                                   "; it needs output.log_probs to be true."));
  }
  return limits.is_mixture ? CheckForMixture(request) : absl::OkStatus();
}

absl::Status CheckEngineOptions(const EngineOptions& options) {
  constexpr int32_t kMost = std::numeric_limits<int32_t>::max() / 2;
  EDDY_RETURN_IF_ERROR(CheckRange("slot_count", options.slot_count, 1, 1 << 20));
  EDDY_RETURN_IF_ERROR(CheckRange("batch_row_count_max", options.batch_row_count_max, 1, 1 << 20));
  EDDY_RETURN_IF_ERROR(
      CheckRange("batch_token_count_max", options.batch_token_count_max, 1, 1 << 20));
  EDDY_RETURN_IF_ERROR(
      CheckRange("prefill_chunk_token_count", options.prefill_chunk_token_count, 1, 1 << 20));
  EDDY_RETURN_IF_ERROR(CheckRange("prefill_beside_decode_token_count",
                                  options.prefill_beside_decode_token_count, 1, 1 << 20));
  EDDY_RETURN_IF_ERROR(
      CheckRange("batch_score_count_max", options.batch_score_count_max, 1, 1 << 20));
  EDDY_RETURN_IF_ERROR(
      CheckRange("submit_queue_capacity", options.submit_queue_capacity, 1, kMost));
  EDDY_RETURN_IF_ERROR(
      CheckRange("session_turn_count_max", options.session_turn_count_max, 1, kMost));
  EDDY_RETURN_IF_ERROR(CheckRange("stream_capacity", options.stream_capacity, 1, kMost));
  EDDY_RETURN_IF_ERROR(
      CheckAtLeast<int64_t>("prompt_token_count_max", options.prompt_token_count_max, 1));
  EDDY_RETURN_IF_ERROR(
      CheckAtLeast<int64_t>("score_token_count_max", options.score_token_count_max, 1));
  EDDY_RETURN_IF_ERROR(CheckAtLeast<int64_t>("session_count_max", options.session_count_max, 0));
  EDDY_RETURN_IF_ERROR(
      CheckAtLeast<int64_t>("host_state_bytes_max", options.host_state_bytes_max, 0));
  return CheckAtLeast<int64_t>("reader_stall_max in ns", options.reader_stall_max.count(), 1);
}

}  // namespace eddy
