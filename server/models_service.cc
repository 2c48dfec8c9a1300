// SPDX-License-Identifier: Apache-2.0
#include "server/models_service.h"

#include <string>
#include <vector>

#include "kernels/status_macros.h"
#include "server/convert.h"
#include "server/wire_message.h"

namespace eddy {
namespace {

absl::StatusOr<v1::ListModelsResponse> Answer(const ServiceEnv& env, const v1::ListModelsRequest&) {
  v1::ListModelsResponse response;
  ToProto(env.engine.model_info(), env.engine.backend_info(), env.engine.state_bytes(),
          env.rules, response.add_models());
  return response;
}

absl::StatusOr<v1::Model> Answer(const ServiceEnv& env, const v1::GetModelRequest& request) {
  EDDY_RETURN_IF_ERROR(CheckModel(env.rules, request.name()));
  EDDY_ASSIGN_OR_RETURN(const v1::ListModelsResponse all, Answer(env, v1::ListModelsRequest()));
  return all.models(0);
}

absl::StatusOr<v1::TokenizeResponse> Answer(const ServiceEnv& env,
                                            const v1::TokenizeRequest& request) {
  EDDY_RETURN_IF_ERROR(CheckModel(env.rules, request.model()));
  EDDY_ASSIGN_OR_RETURN(const std::vector<int32_t> tokens,
                        Tokenize(env.rules, "text", request.text()));
  v1::TokenizeResponse response;
  response.mutable_token_ids()->Assign(tokens.begin(), tokens.end());
  return response;
}

absl::StatusOr<v1::DetokenizeResponse> Answer(const ServiceEnv& env,
                                              const v1::DetokenizeRequest& request) {
  EDDY_RETURN_IF_ERROR(CheckModel(env.rules, request.model()));
  v1::DetokenizeResponse response;
  EDDY_ASSIGN_OR_RETURN(*response.mutable_text(),
                        Detokenize(env.rules, "token_ids", request.token_ids()));
  return response;
}

template <typename Request>
absl::Status Handle(const ServiceEnv& env, const grpc::ByteBuffer& bytes,
                    grpc::ByteBuffer* response) {
  EDDY_ASSIGN_OR_RETURN(const Request request, ParseMessage<Request>(bytes));
  EDDY_ASSIGN_OR_RETURN(const auto answer, Answer(env, request));
  SerializeMessage(answer, response);
  return absl::OkStatus();
}

template <typename Request>
grpc::ServerUnaryReactor* Reply(const ServiceEnv& env, grpc::CallbackServerContext* context,
                                const grpc::ByteBuffer& bytes, grpc::ByteBuffer* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(ToGrpc(Handle<Request>(env, bytes, response)));
  return reactor;
}

}  // namespace

grpc::ServerUnaryReactor* ModelsService::List(grpc::CallbackServerContext* context,
                                              const grpc::ByteBuffer* bytes,
                                              grpc::ByteBuffer* response) {
  return Reply<v1::ListModelsRequest>(env_, context, *bytes, response);
}

grpc::ServerUnaryReactor* ModelsService::Get(grpc::CallbackServerContext* context,
                                             const grpc::ByteBuffer* bytes,
                                             grpc::ByteBuffer* response) {
  return Reply<v1::GetModelRequest>(env_, context, *bytes, response);
}

grpc::ServerUnaryReactor* ModelsService::Tokenize(grpc::CallbackServerContext* context,
                                                  const grpc::ByteBuffer* bytes,
                                                  grpc::ByteBuffer* response) {
  return Reply<v1::TokenizeRequest>(env_, context, *bytes, response);
}

grpc::ServerUnaryReactor* ModelsService::Detokenize(grpc::CallbackServerContext* context,
                                                    const grpc::ByteBuffer* bytes,
                                                    grpc::ByteBuffer* response) {
  return Reply<v1::DetokenizeRequest>(env_, context, *bytes, response);
}

}  // namespace eddy
