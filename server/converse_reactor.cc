// SPDX-License-Identifier: Apache-2.0
#include "server/converse_reactor.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/status_macros.h"
#include "server/convert.h"
#include "server/wire_message.h"

namespace eddy {
namespace {

constexpr uint32_t kDeadlineMsMax = 86'400'000;

}  // namespace

std::shared_ptr<ConverseReactor> ConverseReactor::Start(ServiceEnv& env,
                                                        grpc::CallbackServerContext* context) {
  std::shared_ptr<ConverseReactor> reactor(new ConverseReactor(env, context));
  reactor->self_ = reactor;
  reactor->StartRead(&reactor->read_bytes_);
  return reactor;
}

ConverseReactor::ConverseReactor(ServiceEnv& env, grpc::CallbackServerContext* context)
    : env_(env), context_(context) {}

// ---- reading ----

void ConverseReactor::OnReadDone(bool ok) {
  if (!ok) {
    // The client will say nothing more: the running turn is still sent.
    absl::MutexLock lock(&mutex_);
    if (!end_) end_ = absl::OkStatus();
  } else if (absl::Status status = HandleBytes(); !status.ok()) {
    EndWith(std::move(status));
  } else {
    return StartRead(&read_bytes_);
  }
  if (turnstile_.Enter()) Pump();
}

absl::Status ConverseReactor::HandleBytes() {
  absl::StatusOr<v1::ConverseRequest> request = ParseMessage<v1::ConverseRequest>(read_bytes_);
  return request.ok() ? Handle(*request) : Counted(request.status());
}

absl::Status ConverseReactor::Handle(const v1::ConverseRequest& request) {
  using Request = v1::ConverseRequest;
  if (!is_open_ && request.action_case() != Request::kOpen) {
    return Counted(absl::FailedPreconditionError("the first message must be open."));
  }
  switch (request.action_case()) {
    case Request::kOpen:
      return Counted(Open(request.open()));
    case Request::kAppend:
      return Counted(Append(request.append()));
    case Request::kGenerate:
      return Generate(request.generate());
    case Request::kCancel:
      CancelTurn();
      return absl::OkStatus();
    case Request::ACTION_NOT_SET:
      break;
  }
  return Counted(
      absl::InvalidArgumentError("action is missing: set open, append, generate or cancel."));
}

absl::Status ConverseReactor::Open(const v1::ConverseRequest::Open& open) {
  if (is_open_) {
    return absl::FailedPreconditionError("open came twice: only the first message may be open.");
  }
  EDDY_RETURN_IF_ERROR(CheckModel(env_.rules, open.model()));
  if (open.session().empty()) {
    if (open.create_session()) {
      return absl::InvalidArgumentError(
          "open.create_session is true but open.session is empty: name the session to create.");
    }
    session_name_ = DrawReservedSessionName();
    create_session_ = true;
  } else {
    EDDY_RETURN_IF_ERROR(CheckSessionName("open.session", open.session()));
    session_name_ = open.session();
    create_session_ = open.create_session();
  }
  is_open_ = true;
  return absl::OkStatus();
}

absl::Status ConverseReactor::Append(const v1::ConverseRequest::Append& append) {
  EDDY_RETURN_IF_ERROR(CheckNoTurnRuns("append"));
  EDDY_ASSIGN_OR_RETURN(PromptTokens prompt, ToPrompt(env_.rules, append.prompt()));
  if (prompt.of_messages && !appended_.tokens.empty()) {
    return absl::InvalidArgumentError(
        "append.prompt.messages came after another prompt of the same turn: send all at once.");
  }
  const std::vector<int32_t>& tokens = prompt.tokens;
  const size_t token_count = appended_.tokens.size() + tokens.size();
  if (token_count > static_cast<size_t>(env_.rules.prompt_token_count_max)) {
    return absl::InvalidArgumentError(
        absl::StrCat("append.prompt makes ", token_count, " tokens for the next turn: at most ",
                     env_.rules.prompt_token_count_max, " are allowed."));
  }
  if (appended_.tokens.empty()) {
    appended_ = std::move(prompt);
  } else {
    appended_.tokens.insert(appended_.tokens.end(), tokens.begin(), tokens.end());
  }
  return absl::OkStatus();
}

absl::Status ConverseReactor::Generate(const v1::ConverseRequest::Generate& generate) {
  EDDY_RETURN_IF_ERROR(Counted(CheckNoTurnRuns("generate")));
  absl::StatusOr<TurnRequest> turn = MakeTurn(generate);
  if (!turn.ok()) return Counted(turn.status());
  return RunTurn(*std::move(turn));
}

absl::Status ConverseReactor::Counted(absl::Status status) {
  if (!status.ok()) env_.CountRefused(status);
  return status;
}

absl::StatusOr<TurnRequest> ConverseReactor::MakeTurn(
    const v1::ConverseRequest::Generate& generate) {
  TurnRequest turn;
  turn.session_name = session_name_;
  turn.create_session = create_session_;
  EDDY_ASSIGN_OR_RETURN(turn.sampling, ToSampling(env_.rules, generate.sampling()));
  EDDY_ASSIGN_OR_RETURN(turn.stop, ToStop(env_.rules, generate.stop()));
  EDDY_RETURN_IF_ERROR(SetOutput(generate.output(), &turn));
  const TimePoint now = std::chrono::steady_clock::now();
  turn.deadline = ToDeadline(context_->deadline(), std::chrono::system_clock::now(), now);
  if (generate.has_deadline_ms()) {
    if (generate.deadline_ms() < 1 || generate.deadline_ms() > kDeadlineMsMax) {
      return absl::InvalidArgumentError(
          absl::StrCat("generate.deadline_ms is ", generate.deadline_ms(), ": it must lie in [1, ",
                       kDeadlineMsMax, "]."));
    }
    const TimePoint own = now + std::chrono::milliseconds(generate.deadline_ms());
    turn.deadline = turn.deadline ? std::min(*turn.deadline, own) : own;
  }
  SetPrompt(env_.rules, std::exchange(appended_, {}), &turn);
  return turn;
}

absl::Status ConverseReactor::RunTurn(TurnRequest turn) {
  const uint64_t seed = turn.sampling.seed;
  EDDY_ASSIGN_OR_RETURN(std::shared_ptr<TokenStream> stream, env_.engine.Submit(std::move(turn)));
  bool is_wanted = false;
  {
    absl::MutexLock lock(&mutex_);
    // The call may have been cancelled, or drained, since the message came.
    is_wanted = !end_ && !is_finished_;
    if (is_wanted) {
      turn_ = std::make_shared<RunningTurn>(RunningTurn{++turn_count_, stream, ChunkMerger(seed)});
    }
  }
  if (!is_wanted) {
    stream->Cancel();
    return absl::CancelledError("the call was cancelled.");
  }
  stream->SetReader(weak_from_this());
  return absl::OkStatus();
}

absl::Status ConverseReactor::CheckNoTurnRuns(const char* action) {
  absl::MutexLock lock(&mutex_);
  if (turn_ == nullptr) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(action, " came while turn ", turn_->number,
                   " runs: wait for its finish_reason or send cancel."));
}

void ConverseReactor::CancelTurn() {
  std::shared_ptr<TokenStream> stream;
  {
    absl::MutexLock lock(&mutex_);
    if (turn_ != nullptr) stream = turn_->stream;
  }
  if (stream != nullptr) stream->Cancel();
}

void ConverseReactor::EndWith(absl::Status status) {
  {
    absl::MutexLock lock(&mutex_);
    // A half-close is only a wish; an error ranks before it.
    if (!end_ || end_->ok()) end_ = std::move(status);
  }
  CancelTurn();
}

// ---- writing ----

void ConverseReactor::OnReady() { env_.delivery.Post(shared_from_this()); }

void ConverseReactor::Deliver() {
  if (turnstile_.Enter()) Pump();
}

void ConverseReactor::Pump() {
  do {
    if (PumpOnce()) return;
  } while (!turnstile_.Leave());
}

bool ConverseReactor::PumpOnce() {
  std::shared_ptr<RunningTurn> turn;
  std::optional<absl::Status> end;
  {
    absl::MutexLock lock(&mutex_);
    turn = turn_;
    end = end_;
  }
  if (turn == nullptr) return end && FinishCall(*end);
  turn->stream->Take(&taken_);
  // The last word counts as the end, though the stream's own may come a moment later: the client
  // may go on as soon as it has read it.
  const bool has_last_word =
      !taken_.chunks.empty() && taken_.chunks.back().finish_reason != FinishReason::kNone;
  if (taken_.end || has_last_word) {
    absl::MutexLock lock(&mutex_);
    turn_ = nullptr;
    // A failed turn ends the call, after what came before its failure.
    if (taken_.end && !taken_.end->ok() && (!end_ || end_->ok())) end_ = *taken_.end;
  }
  if (taken_.chunks.empty()) return taken_.end && PumpOnce();
  message_.Clear();
  message_.set_turn(turn->number);
  turn->merger.Merge(taken_.chunks, message_.mutable_output());
  SerializeMessage(message_, &write_bytes_);
  StartWrite(&write_bytes_);
  return true;
}

bool ConverseReactor::FinishCall(const absl::Status& status) {
  {
    absl::MutexLock lock(&mutex_);
    is_finished_ = true;
  }
  Finish(EndCall(context_, status, env_.engine.RetryAfter()));
  return true;
}

void ConverseReactor::OnWriteDone(bool ok) {
  if (ok) return Pump();
  EndWith(absl::CancelledError("the call was cancelled."));
  FinishCall(absl::CancelledError("the call was cancelled."));
}

void ConverseReactor::Drain() {
  {
    absl::MutexLock lock(&mutex_);
    // A client that has said its last word is only waiting for the running turn.
    if (!end_) end_ = DrainingError();
  }
  if (turnstile_.Enter()) Pump();
}

void ConverseReactor::OnCancel() {
  EndWith(absl::CancelledError("the call was cancelled."));
  if (turnstile_.Enter()) Pump();
}

void ConverseReactor::OnDone() {
  if (IsReservedSessionName(session_name_)) {
    env_.engine.DeleteSession(session_name_, [](const absl::Status&) {});
  }
  self_.reset();
}

}  // namespace eddy
