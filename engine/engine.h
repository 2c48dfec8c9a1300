// SPDX-License-Identifier: Apache-2.0
// Engine: turns in, token streams out. Owns the step thread and everything that thread moves:
// backend, model, state pool, scheduler, sessions.
//
// Thread rule: every public method may be called from any thread and never blocks on a step, but
// for Shutdown.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/engine_options.h"
#include "engine/metrics.h"
#include "engine/model.h"
#include "engine/request.h"
#include "engine/token_stream.h"
#include "engine/tokenizer/tokenizer.h"
#include "kernels/backend.h"

namespace eddy {

class Engine {
 public:
  // tokenizer may be null: turns then have no text. Fails with the sentence of what does not fit.
  static absl::StatusOr<std::unique_ptr<Engine>> Make(std::unique_ptr<Backend> backend,
                                                      std::unique_ptr<Model> model,
                                                      std::shared_ptr<const Tokenizer> tokenizer,
                                                      EngineOptions options);
  ~Engine();

  // Checks the request against limits and vocabulary (INVALID_ARGUMENT: field, value, limit) and
  // queues it. RESOURCE_EXHAUSTED when the queue is full (see RetryAfter), UNAVAILABLE when
  // draining. What is known only later ends the stream: NOT_FOUND (session), INVALID_ARGUMENT (an
  // empty prompt and nothing to go on from), FAILED_PRECONDITION (its queue of turns is full, or
  // its logits were not finite once: delete it), RESOURCE_EXHAUSTED (no room for another session or
  // its state; a reader that does not read), INTERNAL. Turns of one session run one after another,
  // in the order of Submit.
  absl::StatusOr<std::shared_ptr<TokenStream>> Submit(TurnRequest request);

  // Session calls are answered on the step thread, or at once on the caller's with
  // RESOURCE_EXHAUSTED (too many calls under way) or UNAVAILABLE (shut down). `done` must not
  // block. Create: INVALID_ARGUMENT (name), ALREADY_EXISTS, RESOURCE_EXHAUSTED (session_count_max).
  // Get and Delete: NOT_FOUND.
  void CreateSession(std::string name, std::function<void(absl::StatusOr<SessionInfo>)> done);
  void GetSession(std::string name, std::function<void(absl::StatusOr<SessionInfo>)> done);
  // Cancels the session's turns first.
  void DeleteSession(std::string name, std::function<void(absl::Status)> done);
  struct SessionPage {
    std::vector<SessionInfo> sessions;  // by name
    std::string next_after;             // empty: the last page
  };
  // Up to `limit` sessions whose name is greater than `after`.
  void ListSessions(std::string after, int limit,
                    std::function<void(absl::StatusOr<SessionPage>)> done);

  // How long a refused caller does well to wait, from the last steps' pace.
  Duration RetryAfter() const;

  const ModelInfo& model_info() const;
  const BackendInfo& backend_info() const;
  int64_t state_bytes() const;  // of one session
  const EngineOptions& options() const;
  const Tokenizer* tokenizer() const;
  const EngineMetrics& metrics() const;
  // False once a step has failed for good (device lost): the process should end.
  bool healthy() const;

  // Stops admitting, lets running and queued turns finish until `grace` has passed, then cancels
  // the rest (finish reason cancelled) and ends the step thread. Blocks. Idempotent.
  void Shutdown(Duration grace);

 private:
  class Impl;
  explicit Engine(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

}  // namespace eddy
