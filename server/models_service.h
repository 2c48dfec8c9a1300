// SPDX-License-Identifier: Apache-2.0
// The Models service: what is served, and its tokenizer. Owned by Server; its methods run on gRPC
// threads. Tokenize and Detokenize work there too: bounded by prompt_bytes_max and
// prompt_token_count_max.
#pragma once

#include "eddy/v1/models.grpc.pb.h"
#include "server/service_env.h"

namespace eddy {

class ModelsService final
    : public v1::Models::WithRawCallbackMethod_List<
          v1::Models::WithRawCallbackMethod_Get<v1::Models::WithRawCallbackMethod_Tokenize<
              v1::Models::WithRawCallbackMethod_Detokenize<v1::Models::Service>>>> {
 public:
  explicit ModelsService(ServiceEnv& env) : env_(env) {}

  grpc::ServerUnaryReactor* List(grpc::CallbackServerContext* context,
                                 const grpc::ByteBuffer* bytes,
                                 grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* Get(grpc::CallbackServerContext* context, const grpc::ByteBuffer* bytes,
                                grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* context,
                                     const grpc::ByteBuffer* bytes,
                                     grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* Detokenize(grpc::CallbackServerContext* context,
                                       const grpc::ByteBuffer* bytes,
                                       grpc::ByteBuffer* response) override;

 private:
  ServiceEnv& env_;
};

}  // namespace eddy
