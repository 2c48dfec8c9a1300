// SPDX-License-Identifier: Apache-2.0
// TurnReactor: the write side of one Generate or Score call, from its TokenStream to the wire.
//
// Owns itself from Start until gRPC's OnDone; the stream knows it by weak_ptr. One write is in
// flight at most; what the step thread makes meanwhile becomes one message, so that a call buffers
// one message and what its TokenStream holds. A reader too slow for that parks its turn.
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>

#include "engine/token_stream.h"
#include "server/chunk_merger.h"
#include "server/delivery.h"
#include "server/score_merger.h"
#include "server/service_env.h"
#include "server/turnstile.h"

namespace eddy {

// Merger makes chunks to messages: ChunkMerger or ScoreMerger.
template <typename Merger>
class TurnReactor final : public grpc::ServerWriteReactor<grpc::ByteBuffer>,
                          public StreamReader,
                          public Deliverable,
                          public std::enable_shared_from_this<TurnReactor<Merger>> {
 public:
  // For the service to return. On a gRPC thread; env and context outlive the call.
  static TurnReactor* Start(ServiceEnv& env, grpc::CallbackServerContext* context,
                            std::shared_ptr<TokenStream> stream, const Merger& merger);

  void OnReady() override;             // step thread
  void Deliver() override;             // delivery thread
  void OnWriteDone(bool ok) override;  // gRPC thread, as the rest
  void OnCancel() override;
  void OnDone() override;

 private:
  TurnReactor(ServiceEnv& env, grpc::CallbackServerContext* context,
              std::shared_ptr<TokenStream> stream, const Merger& merger);

  // Sends what there is, or leaves. The caller is inside the turnstile.
  void Pump();
  void Send();

  // Constant after construction.
  ServiceEnv& env_;
  grpc::CallbackServerContext* const context_;
  const std::shared_ptr<TokenStream> stream_;

  Turnstile turnstile_;
  // For whoever is inside; never left again once Finish was called.
  Merger merger_;
  TokenStream::Taken taken_;
  typename Merger::Message message_;
  grpc::ByteBuffer bytes_;  // gRPC's while a write is in flight

  std::shared_ptr<TurnReactor> self_;  // dropped in OnDone
};

extern template class TurnReactor<ChunkMerger>;
extern template class TurnReactor<ScoreMerger>;

}  // namespace eddy
