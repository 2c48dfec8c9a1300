// SPDX-License-Identifier: Apache-2.0
// The Generation service: checks, converts, submits, and hands the rest to a reactor. Owned by
// Server; its methods run on gRPC threads and never wait.
#pragma once

#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "eddy/v1/generation.grpc.pb.h"
#include "server/converse_reactor.h"
#include "server/service_env.h"

namespace eddy {

class GenerationService final
    : public v1::Generation::WithRawCallbackMethod_Generate<
          v1::Generation::WithRawCallbackMethod_Converse<
              v1::Generation::WithRawCallbackMethod_Score<v1::Generation::Service>>> {
 public:
  explicit GenerationService(ServiceEnv& env) : env_(env) {}

  grpc::ServerWriteReactor<grpc::ByteBuffer>* Generate(grpc::CallbackServerContext* context,
                                                       const grpc::ByteBuffer* bytes) override;
  grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* Converse(
      grpc::CallbackServerContext* context) override;
  grpc::ServerWriteReactor<grpc::ByteBuffer>* Score(grpc::CallbackServerContext* context,
                                                    const grpc::ByteBuffer* bytes) override;

  // Ends every conversation as soon as no turn of it runs, those that begin later too. Any thread.
  void DrainConversations();

 private:
  // The turn a call asks for, begun or refused; make_merger(request, turn) gives what makes its
  // messages.
  template <typename Request, typename MakeMerger>
  grpc::ServerWriteReactor<grpc::ByteBuffer>* StartTurn(grpc::CallbackServerContext* context,
                                                        const grpc::ByteBuffer& bytes,
                                                        const MakeMerger& make_merger);

  ServiceEnv& env_;

  absl::Mutex mutex_;
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  // Swept of ended ones when it would grow.
  std::vector<std::weak_ptr<ConverseReactor>> conversations_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace eddy
