// SPDX-License-Identifier: Apache-2.0
#include "server/models_service.h"

#include <string>
#include <vector>

#include "kernels/status_macros.h"
#include "server/convert.h"

namespace eddy {
namespace {

grpc::ServerUnaryReactor* Reply(grpc::CallbackServerContext* context, const absl::Status& status) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(ToGrpc(status));
  return reactor;
}

void Describe(const Engine& engine, v1::Model* model) {
  ToProto(engine.model_info(), engine.backend_info(), engine.state_bytes(),
          engine.tokenizer() != nullptr, model);
}

absl::Status TokenizeText(const WireRules& rules, const v1::TokenizeRequest& request,
                          v1::TokenizeResponse* response) {
  EDDY_RETURN_IF_ERROR(CheckModel(rules, request.model()));
  EDDY_ASSIGN_OR_RETURN(const std::vector<int32_t> tokens, Tokenize(rules, "text", request.text()));
  response->mutable_token_ids()->Assign(tokens.begin(), tokens.end());
  return absl::OkStatus();
}

absl::Status DetokenizeIds(const WireRules& rules, const v1::DetokenizeRequest& request,
                           v1::DetokenizeResponse* response) {
  EDDY_RETURN_IF_ERROR(CheckModel(rules, request.model()));
  EDDY_ASSIGN_OR_RETURN(*response->mutable_text(),
                        Detokenize(rules, "token_ids", request.token_ids()));
  return absl::OkStatus();
}

}  // namespace

grpc::ServerUnaryReactor* ModelsService::List(grpc::CallbackServerContext* context,
                                              const v1::ListModelsRequest*,
                                              v1::ListModelsResponse* response) {
  Describe(env_.engine, response->add_models());
  return Reply(context, absl::OkStatus());
}

grpc::ServerUnaryReactor* ModelsService::Get(grpc::CallbackServerContext* context,
                                             const v1::GetModelRequest* request,
                                             v1::Model* response) {
  absl::Status status = CheckModel(env_.rules, request->name());
  if (status.ok()) Describe(env_.engine, response);
  return Reply(context, status);
}

grpc::ServerUnaryReactor* ModelsService::Tokenize(grpc::CallbackServerContext* context,
                                                  const v1::TokenizeRequest* request,
                                                  v1::TokenizeResponse* response) {
  return Reply(context, TokenizeText(env_.rules, *request, response));
}

grpc::ServerUnaryReactor* ModelsService::Detokenize(grpc::CallbackServerContext* context,
                                                    const v1::DetokenizeRequest* request,
                                                    v1::DetokenizeResponse* response) {
  return Reply(context, DetokenizeIds(env_.rules, *request, response));
}

}  // namespace eddy
