// SPDX-License-Identifier: Apache-2.0
// GenerateReactor: the write side of one Generate call, from its TokenStream to the wire.
//
// Owns itself from Start until gRPC's OnDone; the stream knows it by weak_ptr. One write is in
// flight at most; what the step thread makes meanwhile becomes one message, so that a call buffers
// one message and what its TokenStream holds. A reader too slow for that parks its turn.
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>

#include "eddy/v1/generation.pb.h"
#include "engine/token_stream.h"
#include "server/chunk_merger.h"
#include "server/delivery.h"
#include "server/service_env.h"
#include "server/turnstile.h"

namespace eddy {

class GenerateReactor final : public grpc::ServerWriteReactor<grpc::ByteBuffer>,
                              public StreamReader,
                              public Deliverable,
                              public std::enable_shared_from_this<GenerateReactor> {
 public:
  // For the service to return. On a gRPC thread; env and context outlive the call.
  static GenerateReactor* Start(ServiceEnv& env, grpc::CallbackServerContext* context,
                                std::shared_ptr<TokenStream> stream, uint64_t seed);

  void OnReady() override;             // step thread
  void Deliver() override;             // delivery thread
  void OnWriteDone(bool ok) override;  // gRPC thread, as the rest
  void OnCancel() override;
  void OnDone() override;

 private:
  GenerateReactor(ServiceEnv& env, grpc::CallbackServerContext* context,
                  std::shared_ptr<TokenStream> stream, uint64_t seed);

  // Sends what there is, or leaves. The caller is inside the turnstile.
  void Pump();
  void Send();

  // Constant after construction.
  ServiceEnv& env_;
  grpc::CallbackServerContext* const context_;
  const std::shared_ptr<TokenStream> stream_;

  Turnstile turnstile_;
  // For whoever is inside; never left again once Finish was called.
  ChunkMerger merger_;
  TokenStream::Taken taken_;
  v1::GenerateResponse message_;
  grpc::ByteBuffer bytes_;  // gRPC's while a write is in flight

  std::shared_ptr<GenerateReactor> self_;  // dropped in OnDone
};

}  // namespace eddy
