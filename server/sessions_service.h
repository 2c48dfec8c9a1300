// SPDX-License-Identifier: Apache-2.0
// The Sessions service. The engine answers on its step thread; the delivery thread turns the answer
// into a reply. Owned by Server; its methods run on gRPC threads and never wait.
#pragma once

#include "eddy/v1/sessions.grpc.pb.h"
#include "server/service_env.h"

namespace eddy {

class SessionsService final
    : public v1::Sessions::WithRawCallbackMethod_Create<
          v1::Sessions::WithRawCallbackMethod_Get<v1::Sessions::WithRawCallbackMethod_List<
              v1::Sessions::WithRawCallbackMethod_Delete<v1::Sessions::Service>>>> {
 public:
  explicit SessionsService(ServiceEnv& env) : env_(env) {}

  grpc::ServerUnaryReactor* Create(grpc::CallbackServerContext* context,
                                   const grpc::ByteBuffer* bytes,
                                   grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* Get(grpc::CallbackServerContext* context, const grpc::ByteBuffer* bytes,
                                grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* List(grpc::CallbackServerContext* context,
                                 const grpc::ByteBuffer* bytes,
                                 grpc::ByteBuffer* response) override;
  grpc::ServerUnaryReactor* Delete(grpc::CallbackServerContext* context,
                                   const grpc::ByteBuffer* bytes,
                                   grpc::ByteBuffer* response) override;

 private:
  ServiceEnv& env_;
};

}  // namespace eddy
