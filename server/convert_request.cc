// SPDX-License-Identifier: Apache-2.0
// The way from the wire: every field checked against its limit.
#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/status_macros.h"
#include "server/convert.h"

namespace eddy {
namespace {

constexpr int kNameBytesMax = 128;
constexpr uint32_t kMaxTokensDefault = 256;

template <typename Limit>
absl::Status TooMany(const std::string& field, int64_t count, const char* unit, Limit limit) {
  return absl::InvalidArgumentError(
      absl::StrCat(field, " has ", count, " ", unit, ": at most ", limit, " are allowed."));
}

// NaN is in no range.
absl::Status CheckRange(const char* field, float value, float min, float max) {
  if (value >= min && value <= max) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(field, " is ", value, ": it must lie in [", min, ", ", max, "]."));
}

absl::Status CheckTopLogProbs(const char* field, uint32_t count, int32_t max) {
  if (count <= static_cast<uint32_t>(max)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(field, " is ", count, ": it must lie in [0, ", max, "]."));
}

absl::Status CheckTokenId(const WireRules& rules, const std::string& field, uint32_t id) {
  if (id < static_cast<uint32_t>(rules.vocabulary_size)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(field, " is ", id, ": token ids of model \"",
                                                 rules.model_name, "\" lie in [0, ",
                                                 rules.vocabulary_size, ")."));
}

absl::Status CheckTokenIds(const WireRules& rules, const std::string& field,
                           const google::protobuf::RepeatedField<uint32_t>& ids,
                           int64_t count_max) {
  if (ids.size() > count_max) return TooMany(field, ids.size(), "entries", count_max);
  for (int i = 0; i < ids.size(); ++i) {
    if (ids[i] < static_cast<uint32_t>(rules.vocabulary_size)) continue;
    return CheckTokenId(rules, absl::StrCat(field, "[", i, "]"), ids[i]);
  }
  return absl::OkStatus();
}

absl::Status NeedsTokenizer(const WireRules& rules, const std::string& field, const char* instead) {
  if (rules.tokenizer != nullptr) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(field, " is given, but model \"",
                                                    rules.model_name, "\" has no tokenizer: use ",
                                                    instead, "."));
}

absl::StatusOr<std::vector<LogitBias>> ToBiases(const WireRules& rules,
                                                const v1::Sampling& sampling) {
  const int64_t count = static_cast<int64_t>(sampling.logit_bias().size());
  if (count > SamplingParams::kLogitBiasesMax) {
    return TooMany("sampling.logit_bias", count, "entries", SamplingParams::kLogitBiasesMax);
  }
  std::vector<LogitBias> biases;
  biases.reserve(static_cast<size_t>(count));
  for (const auto& [id, bias] : sampling.logit_bias()) {
    EDDY_RETURN_IF_ERROR(CheckTokenId(rules, "a token id of sampling.logit_bias", id));
    EDDY_RETURN_IF_ERROR(
        CheckRange(absl::StrCat("sampling.logit_bias[", id, "]").c_str(), bias, -1000.0f, 1000.0f));
    biases.push_back({static_cast<int32_t>(id), bias});
  }
  // The order of a protobuf map is by chance.
  std::sort(biases.begin(), biases.end(),
            [](const LogitBias& a, const LogitBias& b) { return a.token < b.token; });
  return biases;
}

}  // namespace

absl::Status CheckModel(const WireRules& rules, const std::string& name) {
  if (name.empty() || name == rules.model_name) return absl::OkStatus();
  // Not quoted whatever its length: a status travels in headers, which are small.
  const std::string quoted = name.size() <= kNameBytesMax
                                 ? absl::StrCat("\"", name, "\"")
                                 : absl::StrCat("of a name of ", name.size(), " bytes");
  return absl::NotFoundError(absl::StrCat(
      "model ", quoted, " is not served here: the only one is \"", rules.model_name, "\"."));
}

absl::Status CheckSessionName(const std::string& field, const std::string& name) {
  if (name.empty() || name.size() > kNameBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat(field, " has ", name.size(), " bytes: a name has 1 to ", kNameBytesMax, "."));
  }
  for (size_t i = 0; i < name.size(); ++i) {
    const char c = name[i];
    const bool allowed = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                         (c >= '0' && c <= '9') || c == '.' || c == '_' || c == ':' || c == '-';
    if (allowed) continue;
    return absl::InvalidArgumentError(absl::StrCat(field, " is \"", name, "\": its character ", i,
                                                   " is not one of [A-Za-z0-9._:-]."));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<int32_t>> Tokenize(const WireRules& rules, const std::string& field,
                                              const std::string& text) {
  EDDY_RETURN_IF_ERROR(NeedsTokenizer(rules, field, "token ids"));
  const int64_t byte_count = static_cast<int64_t>(text.size());
  if (byte_count > rules.prompt_bytes_max) {
    return TooMany(field, byte_count, "bytes", rules.prompt_bytes_max);
  }
  EDDY_ASSIGN_OR_RETURN(std::vector<int32_t> tokens, rules.tokenizer->Encode(text));
  const int64_t token_count = static_cast<int64_t>(tokens.size());
  if (token_count > rules.prompt_token_count_max) {
    return TooMany(field, token_count, "tokens", rules.prompt_token_count_max);
  }
  return tokens;
}

absl::StatusOr<std::string> Detokenize(const WireRules& rules, const std::string& field,
                                       const google::protobuf::RepeatedField<uint32_t>& ids) {
  if (rules.tokenizer == nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat("model \"", rules.model_name, "\" has no tokenizer: its ids have no text."));
  }
  EDDY_RETURN_IF_ERROR(CheckTokenIds(rules, field, ids, rules.prompt_token_count_max));
  const std::vector<int32_t> tokens(ids.begin(), ids.end());
  return rules.tokenizer->Decode(tokens);
}

namespace {

absl::StatusOr<PromptTokens> RenderMessages(const WireRules& rules, const v1::Messages& wire) {
  EDDY_RETURN_IF_ERROR(NeedsTokenizer(rules, "prompt.messages", "token ids"));
  if (rules.chat_template == nullptr) {
    return absl::FailedPreconditionError(absl::StrCat(
        "prompt.messages is set but model \"", rules.model_name,
        "\" has no chat template: use text, or say eddy_chat_template in its folder."));
  }
  EDDY_RETURN_IF_ERROR(rules.chat_template->status());
  std::vector<ChatMessage> messages;
  int64_t byte_count = 0;
  for (const v1::ChatMessage& message : wire.messages()) {
    byte_count += static_cast<int64_t>(message.content().size());
    messages.push_back({message.role(), message.content()});
  }
  if (byte_count > rules.prompt_bytes_max) {
    return TooMany("prompt.messages", byte_count, "bytes", rules.prompt_bytes_max);
  }
  PromptTokens result;
  EDDY_ASSIGN_OR_RETURN(static_cast<ChatTokens&>(result), (*rules.chat_template)->Render(messages));
  const auto token_count = static_cast<int64_t>(result.tokens.size());
  if (token_count > rules.prompt_token_count_max) {
    return TooMany("prompt.messages", token_count, "tokens", rules.prompt_token_count_max);
  }
  result.of_messages = true;
  return result;
}

}  // namespace

absl::StatusOr<PromptTokens> ToPrompt(const WireRules& rules, const v1::Prompt& prompt) {
  PromptTokens result;
  switch (prompt.content_case()) {
    case v1::Prompt::kText: {
      EDDY_ASSIGN_OR_RETURN(result.tokens, Tokenize(rules, "prompt.text", prompt.text()));
      // What stands before every text stands there once in a session.
      const auto begin = result.tokens.begin() + rules.tokenizer->prefix_token_count();
      result.opening.assign(result.tokens.begin(), begin);
      result.tokens.erase(result.tokens.begin(), begin);
      return result;
    }
    case v1::Prompt::kTokenIds: {
      const auto& ids = prompt.token_ids().ids();
      EDDY_RETURN_IF_ERROR(
          CheckTokenIds(rules, "prompt.token_ids.ids", ids, rules.prompt_token_count_max));
      result.tokens.assign(ids.begin(), ids.end());
      return result;
    }
    case v1::Prompt::kMessages:
      return RenderMessages(rules, prompt.messages());
    case v1::Prompt::CONTENT_NOT_SET:
      break;
  }
  return absl::InvalidArgumentError(
      "prompt is missing: set prompt.text, prompt.token_ids or prompt.messages (an empty text goes "
      "on with a session).");
}

void SetPrompt(const WireRules& rules, PromptTokens prompt, TurnRequest* turn) {
  turn->prompt = std::move(prompt.tokens);
  turn->opening = std::move(prompt.opening);
  turn->closing = std::move(prompt.closing);
  if (!prompt.of_messages) return;
  const ChatTemplate& chat = **rules.chat_template;
  const auto add = [](const auto& from, auto* to) {
    to->insert(to->end(), from.begin(), from.end());
  };
  add(chat.stop_token_ids(), &turn->stop.token_ids);
  add(chat.stop_sequences(), &turn->stop.sequences);
}

absl::StatusOr<SamplingParams> ToSampling(const WireRules& rules, const v1::Sampling& sampling) {
  SamplingParams params;
  if (sampling.has_repetition_penalty()) params.repetition_penalty = sampling.repetition_penalty();
  if (sampling.has_presence_penalty()) params.presence_penalty = sampling.presence_penalty();
  if (sampling.has_frequency_penalty()) params.frequency_penalty = sampling.frequency_penalty();
  if (sampling.has_temperature()) params.temperature = sampling.temperature();
  if (sampling.has_top_p()) params.top_p = sampling.top_p();
  if (sampling.has_min_p()) params.min_p = sampling.min_p();
  EDDY_RETURN_IF_ERROR(
      CheckRange("sampling.repetition_penalty", params.repetition_penalty, 0.01f, 100.0f));
  EDDY_RETURN_IF_ERROR(
      CheckRange("sampling.presence_penalty", params.presence_penalty, -100.0f, 100.0f));
  EDDY_RETURN_IF_ERROR(
      CheckRange("sampling.frequency_penalty", params.frequency_penalty, -100.0f, 100.0f));
  EDDY_ASSIGN_OR_RETURN(params.biases, ToBiases(rules, sampling));
  EDDY_RETURN_IF_ERROR(CheckRange("sampling.temperature", params.temperature, 0.0f, 100.0f));
  if (sampling.top_k() > static_cast<uint32_t>(rules.vocabulary_size)) {
    return absl::InvalidArgumentError(absl::StrCat("sampling.top_k is ", sampling.top_k(),
                                                   ": it must lie in [0, ", rules.vocabulary_size,
                                                   "], the vocabulary."));
  }
  params.top_k = static_cast<int32_t>(sampling.top_k());
  if (!(params.top_p > 0.0f && params.top_p <= 1.0f)) {
    return absl::InvalidArgumentError(
        absl::StrCat("sampling.top_p is ", params.top_p, ": it must lie in (0, 1]."));
  }
  EDDY_RETURN_IF_ERROR(CheckRange("sampling.min_p", params.min_p, 0.0f, 1.0f));
  params.seed = sampling.has_seed() ? sampling.seed() : DrawRandom();
  return params;
}

absl::StatusOr<StopConditions> ToStop(const WireRules& rules, const v1::StopConditions& stop) {
  StopConditions conditions;
  conditions.max_tokens = stop.has_max_tokens()
                              ? int64_t{stop.max_tokens()}
                              : std::min<int64_t>(kMaxTokensDefault, rules.max_tokens_limit);
  if (conditions.max_tokens < 1 || conditions.max_tokens > rules.max_tokens_limit) {
    return absl::InvalidArgumentError(absl::StrCat("stop.max_tokens is ", conditions.max_tokens,
                                                   ": it must lie in [1, ", rules.max_tokens_limit,
                                                   "]."));
  }
  conditions.min_tokens = int64_t{stop.min_tokens()};
  if (conditions.min_tokens > conditions.max_tokens) {
    return absl::InvalidArgumentError(absl::StrCat("stop.min_tokens is ", conditions.min_tokens,
                                                   ": it must lie in [0, ", conditions.max_tokens,
                                                   "], up to stop.max_tokens."));
  }
  if (stop.sequences_size() > StopConditions::kSequencesMax) {
    return TooMany("stop.sequences", stop.sequences_size(), "entries",
                   StopConditions::kSequencesMax);
  }
  for (int i = 0; i < stop.sequences_size(); ++i) {
    const std::string field = absl::StrCat("stop.sequences[", i, "]");
    EDDY_RETURN_IF_ERROR(NeedsTokenizer(rules, field, "stop.token_ids"));
    const size_t byte_count = stop.sequences(i).size();
    if (byte_count >= 1 && byte_count <= StopConditions::kSequenceBytesMax) continue;
    return absl::InvalidArgumentError(absl::StrCat(field, " has ", byte_count,
                                                   " bytes: it must have 1 to ",
                                                   StopConditions::kSequenceBytesMax, "."));
  }
  conditions.sequences.assign(stop.sequences().begin(), stop.sequences().end());
  EDDY_RETURN_IF_ERROR(
      CheckTokenIds(rules, "stop.token_ids", stop.token_ids(), StopConditions::kTokenIdsMax));
  conditions.token_ids.assign(stop.token_ids().begin(), stop.token_ids().end());
  conditions.ignore_end_of_text = stop.ignore_end_of_text();
  return conditions;
}

absl::Status SetOutput(const v1::Output& output, TurnRequest* turn) {
  EDDY_RETURN_IF_ERROR(CheckTopLogProbs("output.top_log_probs", output.top_log_probs(),
                                        SampleResult::kAlternativesMax));
  if (output.top_log_probs() > 0 && !output.log_probs()) {
    return absl::InvalidArgumentError(
        absl::StrCat("output.top_log_probs is ", output.top_log_probs(),
                     " but output.log_probs is false: set it, or ask for 0."));
  }
  turn->wants_log_probs = output.log_probs();
  turn->alternative_count = static_cast<int32_t>(output.top_log_probs());
  return absl::OkStatus();
}

absl::StatusOr<TurnRequest> ToTurnRequest(const WireRules& rules,
                                          const v1::GenerateRequest& request) {
  TurnRequest turn;
  EDDY_RETURN_IF_ERROR(CheckModel(rules, request.model()));
  if (!request.session().empty()) {
    EDDY_RETURN_IF_ERROR(CheckSessionName("session", request.session()));
  } else if (request.create_session()) {
    return absl::InvalidArgumentError(
        "create_session is true but session is empty: name the session to create.");
  }
  turn.session_name = request.session();
  turn.create_session = request.create_session();
  EDDY_ASSIGN_OR_RETURN(turn.sampling, ToSampling(rules, request.sampling()));
  EDDY_ASSIGN_OR_RETURN(turn.stop, ToStop(rules, request.stop()));
  EDDY_RETURN_IF_ERROR(SetOutput(request.output(), &turn));
  // Last, for it costs most.
  EDDY_ASSIGN_OR_RETURN(PromptTokens prompt, ToPrompt(rules, request.prompt()));
  SetPrompt(rules, std::move(prompt), &turn);
  if (turn.prompt.empty() && turn.opening.empty() && turn.session_name.empty()) {
    return absl::InvalidArgumentError(
        "prompt is empty: without a session that has read something, at least 1 token is needed.");
  }
  return turn;
}

absl::StatusOr<TurnRequest> ToTurnRequest(const WireRules& rules, const v1::ScoreRequest& request) {
  TurnRequest turn;
  turn.scores = true;
  EDDY_RETURN_IF_ERROR(CheckModel(rules, request.model()));
  EDDY_RETURN_IF_ERROR(
      CheckTopLogProbs("top_log_probs", request.top_log_probs(), ScoreRow::kAlternativesMax));
  turn.alternative_count = static_cast<int32_t>(request.top_log_probs());
  EDDY_ASSIGN_OR_RETURN(PromptTokens prompt, ToPrompt(rules, request.prompt()));
  // What opens a session is scored like the rest.
  turn.prompt = std::move(prompt.opening);
  turn.prompt.insert(turn.prompt.end(), prompt.tokens.begin(), prompt.tokens.end());
  if (turn.prompt.empty()) {
    return absl::InvalidArgumentError("prompt is empty: at least 1 token is needed to score.");
  }
  if (std::ssize(turn.prompt) > rules.score_token_count_max) {
    return TooMany("prompt", std::ssize(turn.prompt), "tokens to score",
                   rules.score_token_count_max);
  }
  return turn;
}

}  // namespace eddy
