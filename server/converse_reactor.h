// SPDX-License-Identifier: Apache-2.0
// ConverseReactor: one Converse call, many turns on one session.
//
// Owns itself from Start until gRPC's OnDone. Reads come one after another on gRPC threads; the
// write side works as in TurnReactor, with the stream of the running turn. An unnamed
// conversation uses a session with a reserved name, deleted in OnDone.
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "eddy/v1/generation.pb.h"
#include "engine/token_stream.h"
#include "server/chunk_merger.h"
#include "server/delivery.h"
#include "server/service_env.h"
#include "server/turnstile.h"

namespace eddy {

class ConverseReactor final : public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>,
                              public StreamReader,
                              public Deliverable,
                              public std::enable_shared_from_this<ConverseReactor> {
 public:
  // On a gRPC thread; env and context outlive the call.
  static std::shared_ptr<ConverseReactor> Start(ServiceEnv& env,
                                                grpc::CallbackServerContext* context);

  // The server drains: ends the call once no turn runs. Any thread.
  void Drain();

  void OnReady() override;            // step thread
  void Deliver() override;            // delivery thread
  void OnReadDone(bool ok) override;  // gRPC thread, as the rest
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  ConverseReactor(ServiceEnv& env, grpc::CallbackServerContext* context);

  // What a message asks; an error ends the call.
  absl::Status HandleBytes();
  absl::Status Handle(const v1::ConverseRequest& request);
  absl::Status Open(const v1::ConverseRequest::Open& open);
  absl::Status Append(const v1::ConverseRequest::Append& append);
  absl::Status Generate(const v1::ConverseRequest::Generate& generate);
  absl::StatusOr<TurnRequest> MakeTurn(const v1::ConverseRequest::Generate& generate);
  absl::Status RunTurn(TurnRequest turn);
  absl::Status CheckNoTurnRuns(const char* action);
  // Passes the status on; an error goes into the metrics, for the engine will not see the request.
  absl::Status Counted(absl::Status status);
  void CancelTurn();
  // Ends the call with `status` once the running turn, which is cancelled, has ended.
  void EndWith(absl::Status status);

  // Sends what there is, finishes, or leaves. The caller is inside the turnstile.
  void Pump();
  // True: a write or Finish was started, and nothing of *this may be touched any more.
  bool PumpOnce();
  bool FinishCall(const absl::Status& status);

  // Constant after construction.
  ServiceEnv& env_;
  grpc::CallbackServerContext* const context_;

  // For the one read at a time.
  grpc::ByteBuffer read_bytes_;  // gRPC's while a read is in flight
  bool is_open_ = false;
  std::string session_name_;
  bool create_session_ = false;
  PromptTokens appended_;  // what the next turn reads

  struct RunningTurn {
    uint32_t number;
    std::shared_ptr<TokenStream> stream;
    ChunkMerger merger;
  };
  absl::Mutex mutex_;
  // Set by the read side when none runs, emptied by the write side.
  std::shared_ptr<RunningTurn> turn_ ABSL_GUARDED_BY(mutex_);
  uint32_t turn_count_ ABSL_GUARDED_BY(mutex_) = 0;
  std::optional<absl::Status> end_ ABSL_GUARDED_BY(mutex_);  // to finish with when no turn runs
  bool is_finished_ ABSL_GUARDED_BY(mutex_) = false;

  Turnstile turnstile_;
  // For whoever is inside; never left again once Finish was called.
  TokenStream::Taken taken_;
  v1::ConverseResponse message_;
  grpc::ByteBuffer write_bytes_;  // gRPC's while a write is in flight

  std::shared_ptr<ConverseReactor> self_;  // dropped in OnDone
};

}  // namespace eddy
