// SPDX-License-Identifier: Apache-2.0
// Between the wire and the engine: proto messages to checked values, values to proto messages,
// statuses.
//
// Every refusal is a sentence with field, value and limit. Pure functions; any thread. The cost of
// a request is bounded by prompt_bytes_max and prompt_token_count_max, for they run on gRPC's few
// threads: text beyond the first is refused before it is tokenized.
#pragma once

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "eddy/v1/generation.pb.h"
#include "eddy/v1/models.pb.h"
#include "eddy/v1/sessions.pb.h"
#include "engine/model.h"
#include "engine/request.h"
#include "engine/tokenizer/chat_template.h"
#include "engine/tokenizer/tokenizer.h"

namespace eddy {

// What a request is checked against.
struct WireRules {
  std::string model_name;
  int32_t vocabulary_size = 0;
  const Tokenizer* tokenizer = nullptr;  // null: prompts are token ids; outlives the rules
  // The model's, or why there is none; null: the folder says nothing.
  std::shared_ptr<const absl::StatusOr<ChatTemplate>> chat_template;
  int64_t prompt_bytes_max = int64_t{4} << 20;
  int64_t prompt_token_count_max = int64_t{1} << 20;
  int64_t score_token_count_max = 1 << 17;
  int64_t max_tokens_limit = int64_t{1} << 20;
};

// ---- from the wire ----
// OK for the empty name and the one served; NOT_FOUND else.
absl::Status CheckModel(const WireRules& rules, const std::string& name);
// 1 to 128 of [A-Za-z0-9._:-]. `field` names it in the sentence.
absl::Status CheckSessionName(const std::string& field, const std::string& name);
// A prompt's token ids. An empty one is fine here.
struct PromptTokens : ChatTokens {
  bool of_messages = false;
};
absl::StatusOr<PromptTokens> ToPrompt(const WireRules& rules, const v1::Prompt& prompt);
// Gives them to the turn, and to its stop conditions what ends the model's message.
void SetPrompt(const WireRules& rules, PromptTokens prompt, TurnRequest* turn);
// Text to ids; the length is checked before, the number of ids after.
absl::StatusOr<std::vector<int32_t>> Tokenize(const WireRules& rules, const std::string& field,
                                              const std::string& text);
// Ids to text with U+FFFD for invalid UTF-8; number and range of the ids are checked before.
absl::StatusOr<std::string> Detokenize(const WireRules& rules, const std::string& field,
                                       const google::protobuf::RepeatedField<uint32_t>& ids);
// A seed that was not given is drawn from the operating system.
absl::StatusOr<SamplingParams> ToSampling(const WireRules& rules, const v1::Sampling& sampling);
absl::StatusOr<StopConditions> ToStop(const WireRules& rules, const v1::StopConditions& stop);
absl::Status SetOutput(const v1::Output& output, TurnRequest* turn);
// All of the above, of either call; the deadline is left to the caller.
absl::StatusOr<TurnRequest> ToTurnRequest(const WireRules& rules,
                                          const v1::GenerateRequest& request);
absl::StatusOr<TurnRequest> ToTurnRequest(const WireRules& rules, const v1::ScoreRequest& request);

// The engine's deadline for a call's: earlier by a margin (the smaller of 50 ms and 5 % of what is
// left), because gRPC drops everything at the call's deadline and the last message must be there
// before. None for a call without.
std::optional<TimePoint> ToDeadline(std::chrono::system_clock::time_point call_deadline,
                                    std::chrono::system_clock::time_point system_now,
                                    TimePoint steady_now);

// ---- to the wire ----
v1::FinishReason ToProto(FinishReason reason);
void ToProto(const Usage& usage, v1::Usage* proto);
void ToProto(const TokenLogProb& log_prob, v1::TokenLogProb* proto);
void ToProto(const SessionInfo& info, const std::string& model_name, v1::Session* proto);
void ToProto(const ModelInfo& info, const BackendInfo& backend, int64_t state_bytes,
             const WireRules& rules, v1::Model* proto);
grpc::Status ToGrpc(const absl::Status& status);
// ToGrpc, and with RESOURCE_EXHAUSTED the trailer grpc-retry-pushback-ms. Before the call's Finish.
grpc::Status EndCall(grpc::ServerContextBase* context, const absl::Status& status,
                     Duration retry_after);
// What a call gets that comes while the server drains.
absl::Status DrainingError();

// From the operating system.
uint64_t DrawRandom();
// A session name that no request can carry (CheckSessionName refuses it), that sorts after all that
// can.
std::string DrawReservedSessionName();
bool IsReservedSessionName(const std::string& name);

}  // namespace eddy
