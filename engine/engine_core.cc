// SPDX-License-Identifier: Apache-2.0
#include "engine/engine_core.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/check.h"
#include "kernels/status_macros.h"

namespace eddy {

bool EngineCore::Step(std::vector<Arrival>* arrivals) {
  now_ = options_.clock();
  AdmitNew(arrivals);
  DropEnded();
  StartWaiting();
  const bool moves = NextBatch();
  if (moves) {
    Forward();
    Sample();
    Score();
    if (absl::Status status = backend_->Synchronize(); !status.ok()) {
      LoseDevice(status);
      return false;
    }
    Deliver();
  }
  Record();
  return moves;
}

absl::StatusOr<std::unique_ptr<EngineCore>> EngineCore::Make(std::unique_ptr<Backend> backend,
                                                             std::unique_ptr<Model> model,
                                                             const EngineOptions& options,
                                                             EngineMetrics& metrics) {
  EngineOptions clamped = options;
  clamped.batch_row_count_max =
      std::min({options.batch_row_count_max, options.slot_count, options.batch_token_count_max});
  clamped.batch_score_count_max =
      std::min(options.batch_score_count_max, options.batch_token_count_max);
  std::unique_ptr<EngineCore> core(
      new EngineCore(std::move(backend), std::move(model), clamped, metrics));
  EDDY_RETURN_IF_ERROR(core->AllocateAll());
  core->Record();
  return core;
}

EngineCore::EngineCore(std::unique_ptr<Backend> backend, std::unique_ptr<Model> model,
                       const EngineOptions& options, EngineMetrics& metrics)
    : options_(options),
      metrics_(metrics),
      backend_(std::move(backend)),
      model_(std::move(model)),
      store_(std::make_unique<MemoryStateStore>(options.host_state_bytes_max)),
      scheduler_({.slot_count = options.slot_count,
                  .row_count_max = options.batch_row_count_max,
                  .token_count_max = options.batch_token_count_max,
                  .prefill_chunk_token_count = options.prefill_chunk_token_count,
                  .prefill_beside_decode_token_count = options.prefill_beside_decode_token_count,
                  .score_count_max = options.batch_score_count_max}),
      batch_(options.batch_row_count_max, options.batch_token_count_max) {}

EngineCore::~EngineCore() {
  if (sessions_ == nullptr) return;  // Make has failed
  std::vector<Arrival> none;
  CancelAll(&none);
}

absl::Status EngineCore::AllocateAll() {
  const auto slots = static_cast<size_t>(options_.slot_count);
  const auto rows = static_cast<size_t>(options_.batch_row_count_max);
  movable_.reserve(slots);
  movable_turns_.reserve(slots);
  sample_rows_.reserve(rows);
  sample_results_.resize(rows);
  const auto scores = static_cast<size_t>(options_.batch_score_count_max);
  score_rows_.reserve(scores);
  score_results_.resize(scores);
  score_alternatives_.resize(scores * ScoreRow::kAlternativesMax);
  turns_.reserve(slots + static_cast<size_t>(options_.submit_queue_capacity));

  EDDY_ASSIGN_OR_RETURN(
      pool_, StatePool::Make(*backend_, options_.slot_count, model_->state_layout().bytes()));
  sessions_ = std::make_unique<SessionTable>(*backend_, *pool_, *store_, metrics_, options_);

  const int32_t logits_count_max =
      std::min(options_.batch_row_count_max + options_.batch_score_count_max,
               options_.batch_token_count_max);
  const Shape logits_shape = {logits_count_max, model_->info().output_size()};
  EDDY_ASSIGN_OR_RETURN(logits_buffer_,
                        backend_->Allocate(logits_shape.element_count() * DTypeBytes(DType::kF32)));
  logits_ = logits_buffer_.View(DType::kF32, logits_shape);

  Rows largest;
  largest.row_count = options_.batch_row_count_max;
  largest.token_count = options_.batch_token_count_max;
  largest.logits_count = logits_count_max;
  Workspace measuring;
  model_->Forward(largest, pool_->states(), measuring, logits_);
  EDDY_ASSIGN_OR_RETURN(Buffer scratch,
                        backend_->Allocate(std::max<int64_t>(measuring.peak_bytes(), 64)));
  workspace_ = Workspace(std::move(scratch));
  return backend_->Synchronize();
}

std::optional<TimePoint> EngineCore::NextEvent() const {
  std::optional<TimePoint> next;
  const auto take = [&](TimePoint time) { next = next.has_value() ? std::min(*next, time) : time; };
  for (const std::unique_ptr<Turn>& turn : turns_) {
    if (turn->request().deadline.has_value()) take(*turn->request().deadline);
    if (turn->parked_since().has_value()) take(*turn->parked_since() + options_.reader_stall_max);
  }
  return next;
}

int32_t EngineCore::waiting_count() const {
  return static_cast<int32_t>(std::count_if(turns_.begin(), turns_.end(), [](const auto& turn) {
    return !turn->begun() || !turn->target->slot.held();
  }));
}

// ---- the phases of a step, in order ----

void EngineCore::AdmitNew(std::vector<Arrival>* arrivals) {
  for (Arrival& arrival : *arrivals) {
    if (auto* turn = std::get_if<std::unique_ptr<Turn>>(&arrival)) {
      AdmitTurn(std::move(*turn));
    } else {
      std::get<Command>(arrival)(*this);
    }
  }
  arrivals->clear();
}

void EngineCore::AdmitTurn(std::unique_ptr<Turn> turn) {
  if (!health_.ok()) return turn->Fail(health_, now_);
  absl::StatusOr<Session*> session = FindSession(turn->request());
  if (!session.ok()) return turn->Fail(session.status(), now_);
  turn->target = *session;
  if ((*session)->open_turn_count++ == 0) ++active_session_count_;
  turns_.push_back(std::move(turn));
}

absl::StatusOr<Session*> EngineCore::FindSession(const TurnRequest& request) {
  if (request.session_name.empty()) return &sessions_->CreateUnnamed();
  absl::StatusOr<Session*> session = sessions_->Find(request.session_name);
  if (!session.ok() && request.create_session) return sessions_->Create(request.session_name);
  if (!session.ok()) return session;
  EDDY_RETURN_IF_ERROR((*session)->failure);
  // The one that runs does not count.
  if ((*session)->open_turn_count > options_.session_turn_count_max) {
    return absl::FailedPreconditionError(absl::StrCat(
        "Session '", request.session_name, "' has ", (*session)->open_turn_count - 1,
        " turns waiting; session_turn_count_max is ", options_.session_turn_count_max, "."));
  }
  return session;
}

void EngineCore::DropEnded() {
  for (const std::unique_ptr<Turn>& turn : turns_) {
    if (turn->begun()) {
      turn->UpdateParked(now_);
      turn->target->parked = turn->parked_since().has_value();
    }
    const std::optional<TimePoint>& deadline = turn->request().deadline;
    const std::optional<TimePoint> parked_since = turn->parked_since();
    if (turn->stream().cancelled()) {
      Finish(*turn, FinishReason::kCancelled);
    } else if (deadline.has_value() && *deadline <= now_) {
      Finish(*turn, FinishReason::kDeadline);
    } else if (parked_since.has_value() && *parked_since + options_.reader_stall_max <= now_) {
      const double limit_s = std::chrono::duration<double>(options_.reader_stall_max).count();
      Fail(*turn, absl::ResourceExhaustedError(
                      absl::StrCat("The reader left ", turn->stream().capacity(),
                                   " tokens untaken for longer than reader_stall_max, ", limit_s,
                                   " s; the turn has ended.")));
    }
  }
  EraseEnded();
}

// In order of arrival. Once one turn finds no slot, no later one gets a slot either; a later one
// whose session still has its slot may begin, as it takes nothing from those before it.
void EngineCore::StartWaiting() {
  bool has_room = true;
  for (const std::unique_ptr<Turn>& turn : turns_) {
    Session& session = *turn->target;
    const bool waits_for_session = !turn->begun() && session.active;
    const bool moves = turn->begun() && session.slot.held();
    if (turn->ended() || waits_for_session || moves || session.parked) continue;
    if (!has_room && !session.slot.held()) continue;
    if (!Start(*turn)) has_room = false;
    if (!health_.ok()) return;
  }
  EraseEnded();
}

// False: there is no slot for it now.
bool EngineCore::Start(Turn& turn) {
  Session& session = *turn.target;
  if (!session.failure.ok()) {
    Fail(turn, session.failure);
    return true;
  }
  const SessionTable::PlaceResult placed = sessions_->Place(session);
  switch (placed.placement) {
    case SessionTable::Placement::kPlaced:
      break;
    case SessionTable::Placement::kNoRoomYet:
      return false;
    case SessionTable::Placement::kNoRoom:
      Fail(turn, placed.status);
      return true;
    case SessionTable::Placement::kDeviceLost:
      LoseDevice(placed.status);
      return false;
  }
  if (turn.begun()) return true;
  if (absl::Status status = turn.Begin(session, now_); !status.ok()) {
    Fail(turn, status);
    return true;
  }
  session.active = true;
  if (turn.ended()) {
    Settle(turn);
  } else {
    turn.UpdateParked(now_);
    session.parked = turn.parked_since().has_value();
  }
  return true;
}

bool EngineCore::NextBatch() {
  movable_.clear();
  movable_turns_.clear();
  batch_.Clear();
  if (!health_.ok()) return false;
  for (const std::unique_ptr<Turn>& turn : turns_) {
    if (!turn->begun() || !turn->target->slot.held() || turn->target->parked) continue;
    movable_.push_back(turn->Movable());
    movable_turns_.push_back(turn.get());
  }
  scheduler_.Next(movable_, &batch_);
  return batch_.row_count() > 0;
}

void EngineCore::Forward() {
  workspace_.Reset();
  const Rows& rows = backend_->BeginStep(batch_.rows());
  model_->Forward(rows, pool_->states(), workspace_, logits_.First(batch_.logits_count()));
  for (int32_t row = 0; row < batch_.row_count(); ++row) {
    Turn& turn = TurnOfRow(row);
    turn.Read(batch_.row_token_count(row));
    turn.last_move = ++move_count_;
  }
}

void EngineCore::Sample() {
  sample_rows_.clear();
  for (int32_t i = 0; i < batch_.logits_count(); ++i) {
    Turn& turn = TurnOfRow(batch_.logits_row(i));
    if (turn.scores()) break;  // they come last
    sample_rows_.push_back(turn.SampleOptions());
  }
  if (sample_rows_.empty()) return;
  SampleOutputs(*backend_, model_->info(), logits_.First(static_cast<int64_t>(sample_rows_.size())),
                sample_rows_, std::span<SampleResult>(sample_results_).first(sample_rows_.size()));
}

void EngineCore::Score() {
  score_rows_.clear();
  std::span<LogitBias> room(score_alternatives_);
  for (int32_t row = 0; row < batch_.row_count(); ++row) {
    const Turn& turn = TurnOfRow(row);
    if (!turn.scores()) continue;
    const auto alternative_count = static_cast<size_t>(turn.request().alternative_count);
    for (const int32_t token : turn.ScoredTokens(batch_.row_token_count(row))) {
      score_rows_.push_back({.token = token, .alternatives = room.first(alternative_count)});
      room = room.subspan(alternative_count);
    }
  }
  if (score_rows_.empty()) return;
  const int64_t size = logits_.dim(1);
  const Tensor logits(logits_.f32() + static_cast<int64_t>(sample_rows_.size()) * size, DType::kF32,
                      {static_cast<int64_t>(score_rows_.size()), size});
  ScoreOutputs(*backend_, model_->info(), logits, score_rows_,
               std::span<ScoreResult>(score_results_).first(score_rows_.size()));
}

void EngineCore::Deliver() {
  const TimePoint begun = now_;
  now_ = options_.clock();
  for (size_t i = 0; i < sample_rows_.size(); ++i) {
    Turn& turn = TurnOfRow(batch_.logits_row(static_cast<int32_t>(i)));
    const SampleResult& result = sample_results_[i];
    if (result.token < 0) {
      FailNotFinite(turn, turn.target->position());
      continue;
    }
    turn.Accept(result, now_);
    if (turn.ended()) Settle(turn);
  }
  DeliverScores();
  EraseEnded();
  metrics_.step_time.Observe(std::chrono::duration<double>(options_.clock() - begun).count());
  metrics_.batch_rows.Observe(batch_.row_count());
  metrics_.iteration_tokens.Observe(batch_.token_count());
}

void EngineCore::DeliverScores() {
  size_t begin = 0;
  for (int32_t row = 0; row < batch_.row_count(); ++row) {
    Turn& turn = TurnOfRow(row);
    if (!turn.scores()) continue;
    const auto count = static_cast<size_t>(batch_.row_token_count(row));
    const size_t sent = turn.AcceptScores(std::span(score_rows_).subspan(begin, count),
                                          std::span(score_results_).subspan(begin, count), now_);
    begin += count;
    if (sent < count) {
      FailNotFinite(turn, turn.target->position() - static_cast<int64_t>(count - sent) + 1);
    } else if (turn.ended()) {
      Settle(turn);
    }
  }
}

void EngineCore::Record() {
  int32_t used = 0;
  int32_t idle = 0;
  for (const Session* session : sessions_->residents()) {
    if (session == nullptr) continue;
    ++(session->active ? used : idle);
  }
  const int32_t waiting = waiting_count();
  metrics_.requests_running.Set(turn_count() - waiting);
  metrics_.requests_waiting.Set(waiting);
  metrics_.slots_used.Set(used);
  metrics_.slots_idle.Set(idle);
  metrics_.slots_free.Set(pool_->free_count());
  metrics_.sessions_active.Set(active_session_count_);
  metrics_.sessions_resident.Set(idle);
  metrics_.sessions_evicted.Set(store_->state_count());
  metrics_.host_state_bytes.Set(store_->bytes());
}

// ---- how turns end ----

void EngineCore::Finish(Turn& turn, FinishReason reason) {
  turn.Finish(reason, now_);
  Settle(turn);
}

void EngineCore::Fail(Turn& turn, const absl::Status& status) {
  turn.Fail(status, now_);
  Settle(turn);
}

void EngineCore::FailNotFinite(Turn& turn, int64_t position) {
  Session& session = *turn.target;
  session.failure = absl::FailedPreconditionError(
      absl::StrCat("Session '", session.name(), "' got logits that are not finite at position ",
                   position, "; its state cannot be used any more: delete it."));
  Fail(turn, absl::InternalError(absl::StrCat(
                 "The logits at position ", position, " are not finite; no token can be ",
                 turn.scores() ? "scored" : "chosen", " and the turn has ended.")));
}

// What the end of a turn means for its session; the turn itself is erased later, by EraseEnded.
void EngineCore::Settle(Turn& turn) {
  Session& session = *turn.target;
  if (turn.begun()) {
    session.active = false;
    session.parked = false;
    ++session.turn_count;
    const Duration::rep took = (now_ - *turn.begun_at()).count();
    const Duration::rep average = turn_time_.load(std::memory_order_relaxed);
    turn_time_.store(average == 0 ? took : average + (took - average) / 8,
                     std::memory_order_relaxed);
  }
  if (--session.open_turn_count == 0) --active_session_count_;
  if (!session.named()) {
    sessions_->Remove(session);
  } else if (!session.active) {
    // Not when a turn has ended in the queue while another one runs.
    sessions_->Rest(session);
  }
}

void EngineCore::EraseEnded() {
  std::erase_if(turns_, [](const std::unique_ptr<Turn>& turn) { return turn->ended(); });
}

void EngineCore::CancelAll(std::vector<Arrival>* arrivals) {
  now_ = options_.clock();
  AdmitNew(arrivals);
  for (const std::unique_ptr<Turn>& turn : turns_) {
    if (!turn->ended()) Finish(*turn, FinishReason::kCancelled);
  }
  EraseEnded();
  Record();
}

void EngineCore::LoseDevice(const absl::Status& status) {
  const std::string sentence =
      absl::StrCat("The device is lost and every turn has ended: ", std::string(status.message()));
  for (const std::unique_ptr<Turn>& turn : turns_) {
    if (!turn->ended()) Fail(*turn, absl::InternalError(sentence));
  }
  EraseEnded();
  health_ = absl::UnavailableError(sentence);
  Record();
}

// ---- session commands ----

absl::StatusOr<SessionInfo> EngineCore::CreateSession(std::string name) {
  EDDY_RETURN_IF_ERROR(health_);
  EDDY_ASSIGN_OR_RETURN(Session * session, sessions_->Create(std::move(name)));
  return sessions_->Info(*session);
}

absl::StatusOr<SessionInfo> EngineCore::GetSession(const std::string& name) {
  EDDY_ASSIGN_OR_RETURN(Session * session, sessions_->Find(name));
  return sessions_->Info(*session);
}

absl::Status EngineCore::DeleteSession(const std::string& name) {
  EDDY_ASSIGN_OR_RETURN(Session * session, sessions_->Find(name));
  for (const std::unique_ptr<Turn>& turn : turns_) {
    if (turn->target == session && !turn->ended()) Finish(*turn, FinishReason::kCancelled);
  }
  EraseEnded();
  sessions_->Remove(*session);
  return absl::OkStatus();
}

std::vector<SessionInfo> EngineCore::ListSessions(const std::string& after, int limit) {
  return sessions_->List(after, limit);
}

}  // namespace eddy
