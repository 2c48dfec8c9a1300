// SPDX-License-Identifier: Apache-2.0
// EngineCore: everything the step thread owns, stepped by hand: no thread, no lock, no waiting.
// Engine gives it a thread and a queue; tests step it with a clock of their own. Not thread-safe
// but where said.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/batch.h"
#include "engine/engine_options.h"
#include "engine/metrics.h"
#include "engine/model.h"
#include "engine/scheduler.h"
#include "engine/session_table.h"
#include "engine/state_pool.h"
#include "engine/state_store.h"
#include "engine/submit_queue.h"
#include "engine/turn.h"
#include "kernels/backend.h"
#include "kernels/workspace.h"

namespace eddy {

class EngineCore {
 public:
  // Takes all the memory that steps need. The options have been checked; backend and model are
  // owned from now on.
  static absl::StatusOr<std::unique_ptr<EngineCore>> Make(std::unique_ptr<Backend> backend,
                                                          std::unique_ptr<Model> model,
                                                          const EngineOptions& options,
                                                          EngineMetrics& metrics);
  ~EngineCore();

  // Takes in what has arrived (and clears it), then does one step. False: there was nothing to
  // step, and there will not be before something arrives, a reader takes or cancels, or NextEvent()
  // comes.
  bool Step(std::vector<Arrival>* arrivals);
  // The next deadline of a turn or limit of a parked one.
  std::optional<TimePoint> NextEvent() const;
  // Ends every turn with finish reason cancelled; those that have just arrived, too.
  void CancelAll(std::vector<Arrival>* arrivals);

  // Session commands; errors as in engine.h.
  absl::StatusOr<SessionInfo> CreateSession(std::string name);
  absl::StatusOr<SessionInfo> GetSession(const std::string& name);
  absl::Status DeleteSession(const std::string& name);
  std::vector<SessionInfo> ListSessions(const std::string& after, int limit);

  // Turns that have no slot: they take places of the submit queue.
  int32_t waiting_count() const;
  int32_t turn_count() const { return static_cast<int32_t>(turns_.size()); }
  // Not OK once the device is lost: every turn has ended, and new ones end at once.
  const absl::Status& health() const { return health_; }

  const Model& model() const { return *model_; }
  const Backend& backend() const { return *backend_; }
  const EngineOptions& options() const { return options_; }
  const StatePool& pool() const { return *pool_; }
  const StateStore& store() const { return *store_; }
  const SessionTable& sessions() const { return *sessions_; }
  const std::vector<std::unique_ptr<Turn>>& turns() const { return turns_; }  // oldest first
  // A moving average of how long a turn takes from its begin to its end. Any thread.
  Duration AverageTurnTime() const { return Duration(turn_time_.load(std::memory_order_relaxed)); }

 private:
  EngineCore(std::unique_ptr<Backend> backend, std::unique_ptr<Model> model,
             const EngineOptions& options, EngineMetrics& metrics);
  absl::Status AllocateAll();

  void AdmitNew(std::vector<Arrival>* arrivals);
  void AdmitTurn(std::unique_ptr<Turn> turn);
  absl::StatusOr<Session*> FindSession(const TurnRequest& request);
  void DropEnded();
  void StartWaiting();
  bool Start(Turn& turn);
  bool NextBatch();
  void Forward();
  void Sample();
  void Score();
  void Deliver();
  void DeliverScores();
  void Record();

  Turn& TurnOfRow(int32_t row) {
    return *movable_turns_[static_cast<size_t>(batch_.turn_index(row))];
  }

  void Finish(Turn& turn, FinishReason reason);
  void Fail(Turn& turn, const absl::Status& status);
  void FailNotFinite(Turn& turn, int64_t position);
  void Settle(Turn& turn);
  void EraseEnded();
  void LoseDevice(const absl::Status& status);

  // Constant after construction. The order is that of destruction, from the bottom.
  const EngineOptions options_;
  EngineMetrics& metrics_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<StatePool> pool_;
  std::unique_ptr<StateStore> store_;
  std::unique_ptr<SessionTable> sessions_;

  // A step's memory, taken at start.
  Workspace workspace_;
  Buffer logits_buffer_;
  Tensor logits_;  // [row, vocabulary] f32
  Scheduler scheduler_;
  Batch batch_;
  std::vector<MovableTurn> movable_;
  std::vector<Turn*> movable_turns_;  // of the same index
  std::vector<SampleRow> sample_rows_;
  std::vector<SampleResult> sample_results_;
  std::vector<ScoreRow> score_rows_;  // of the logits behind those to sample from
  std::vector<ScoreResult> score_results_;
  std::vector<LogitBias> score_alternatives_;  // room for those of all score_rows_

  std::vector<std::unique_ptr<Turn>> turns_;  // in order of arrival: waiting, running, parked
  TimePoint now_;                             // of this step
  uint64_t move_count_ = 0;
  int64_t active_session_count_ = 0;
  absl::Status health_;
  std::atomic<Duration::rep> turn_time_{0};
};

}  // namespace eddy
