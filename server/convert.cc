// SPDX-License-Identifier: Apache-2.0
// To the wire, and what is neither one way nor the other; convert_request.cc has the way from it.
#include "server/convert.h"

#include <algorithm>
#include <random>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace eddy {
namespace {

// '~' sorts after every character a name may have.
constexpr char kReservedPrefix = '~';

void ToTimestamp(std::chrono::system_clock::time_point time, google::protobuf::Timestamp* proto) {
  const int64_t ns =
      std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count();
  proto->set_seconds(ns / 1'000'000'000);
  proto->set_nanos(static_cast<int32_t>(ns % 1'000'000'000));
}

v1::Session::State ToProto(SessionInfo::State state) {
  switch (state) {
    case SessionInfo::State::kActive:
      return v1::Session::STATE_ACTIVE;
    case SessionInfo::State::kResident:
      return v1::Session::STATE_RESIDENT;
    case SessionInfo::State::kEvicted:
      return v1::Session::STATE_EVICTED;
  }
  return v1::Session::STATE_UNSPECIFIED;
}

void ToProto(const ImageFormat& image, v1::ImageFormat* proto) {
  proto->set_width(static_cast<uint32_t>(image.width));
  proto->set_height(static_cast<uint32_t>(image.height));
  proto->set_channels(static_cast<uint32_t>(image.channels));
  if (image.start_token.has_value()) {
    proto->set_start_token(static_cast<uint32_t>(*image.start_token));
  }
}

}  // namespace

std::optional<TimePoint> ToDeadline(std::chrono::system_clock::time_point call_deadline,
                                    std::chrono::system_clock::time_point system_now,
                                    TimePoint steady_now) {
  constexpr auto kFarthest = std::chrono::hours(24 * 365);
  if (call_deadline - system_now > kFarthest) return std::nullopt;
  const Duration left =
      std::max(Duration::zero(), std::chrono::duration_cast<Duration>(call_deadline - system_now));
  const Duration margin = std::min<Duration>(std::chrono::milliseconds(50), left / 20);
  return steady_now + left - margin;
}

v1::FinishReason ToProto(FinishReason reason) {
  switch (reason) {
    case FinishReason::kNone:
      return v1::FINISH_REASON_UNSPECIFIED;
    case FinishReason::kEndOfText:
      return v1::FINISH_REASON_END_OF_TEXT;
    case FinishReason::kStopSequence:
      return v1::FINISH_REASON_STOP_SEQUENCE;
    case FinishReason::kLength:
      return v1::FINISH_REASON_LENGTH;
    case FinishReason::kCancelled:
      return v1::FINISH_REASON_CANCELLED;
    case FinishReason::kDeadline:
      return v1::FINISH_REASON_DEADLINE;
    case FinishReason::kScored:
      return v1::FINISH_REASON_SCORED;
  }
  return v1::FINISH_REASON_UNSPECIFIED;
}

void ToProto(const Usage& usage, v1::Usage* proto) {
  proto->set_prompt_tokens(static_cast<uint32_t>(usage.prompt_tokens));
  proto->set_generated_tokens(static_cast<uint32_t>(usage.generated_tokens));
  proto->set_reused_tokens(static_cast<uint32_t>(usage.reused_tokens));
  proto->set_queue_ms(usage.queue_ms);
  proto->set_prefill_ms(usage.prefill_ms);
  proto->set_decode_ms(usage.decode_ms);
}

void ToProto(const TokenLogProb& log_prob, v1::TokenLogProb* proto) {
  proto->mutable_token()->set_token_id(static_cast<uint32_t>(log_prob.token));
  proto->mutable_token()->set_log_prob(log_prob.log_prob);
  for (const LogitBias& alternative : log_prob.alternatives) {
    v1::LogProb* top = proto->add_top();
    top->set_token_id(static_cast<uint32_t>(alternative.token));
    top->set_log_prob(alternative.bias);
  }
}

void ToProto(const SessionInfo& info, const std::string& model_name, v1::Session* proto) {
  proto->set_name(info.name);
  proto->set_model(model_name);
  proto->set_position(static_cast<uint32_t>(info.position));
  proto->set_turn_count(static_cast<uint32_t>(info.turn_count));
  proto->set_state(ToProto(info.state));
  proto->set_state_bytes(static_cast<uint64_t>(info.state_bytes));
  ToTimestamp(info.created, proto->mutable_create_time());
  ToTimestamp(info.last_used, proto->mutable_last_used_time());
}

void ToProto(const ModelInfo& info, const BackendInfo& backend, int64_t state_bytes,
             const WireRules& rules, v1::Model* proto) {
  proto->set_name(info.name);
  proto->set_family(info.family);
  proto->set_parameter_count(static_cast<uint64_t>(info.parameter_count));
  proto->set_weight_bytes(static_cast<uint64_t>(info.weight_bytes));
  proto->set_vocabulary_size(static_cast<uint32_t>(info.vocabulary_size));
  proto->set_state_bytes_per_session(static_cast<uint64_t>(state_bytes));
  proto->set_dtype(DTypeName(info.weight_dtype));
  proto->set_state_dtype(DTypeName(info.state_dtype));
  proto->set_numeric_path(backend.numeric_path);
  proto->set_backend(backend.name);
  proto->set_target(backend.target);
  proto->set_has_tokenizer(rules.tokenizer != nullptr);
  if (rules.chat_template != nullptr && rules.chat_template->ok()) {
    proto->set_chat_template((*rules.chat_template)->name());
  }
  for (int32_t id : info.end_of_text_ids) proto->add_end_of_text_ids(static_cast<uint32_t>(id));
  proto->set_position_max(static_cast<uint64_t>(info.position_max));
  proto->set_mixture_size(static_cast<uint32_t>(info.mixture_size));
  if (info.image.has_value()) ToProto(*info.image, proto->mutable_image());
}

grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  // The same numbers by both projects' definition.
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), std::string(status.message()));
}

grpc::Status EndCall(grpc::ServerContextBase* context, const absl::Status& status,
                     Duration retry_after) {
  if (absl::IsResourceExhausted(status)) {
    const int64_t ms = std::chrono::ceil<std::chrono::milliseconds>(retry_after).count();
    context->AddTrailingMetadata("grpc-retry-pushback-ms",
                                 absl::StrCat(std::clamp<int64_t>(ms, 1, 600'000)));
  }
  return ToGrpc(status);
}

absl::Status DrainingError() {
  return absl::UnavailableError("the server is shutting down: call another one, or come again.");
}

uint64_t DrawRandom() {
  std::random_device device;
  return (uint64_t{device()} << 32) | device();
}

std::string DrawReservedSessionName() {
  return absl::StrFormat("%cconverse-%016x%016x", kReservedPrefix, DrawRandom(), DrawRandom());
}

bool IsReservedSessionName(const std::string& name) {
  return !name.empty() && name.front() == kReservedPrefix;
}

}  // namespace eddy
