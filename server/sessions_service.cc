// SPDX-License-Identifier: Apache-2.0
#include "server/sessions_service.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "kernels/status_macros.h"
#include "server/convert.h"

namespace eddy {
namespace {

constexpr uint32_t kPageSizeDefault = 100;
constexpr uint32_t kPageSizeMax = 1000;

absl::Status CheckCreate(const ServiceEnv& env, const v1::CreateSessionRequest& request) {
  if (env.draining) return DrainingError();
  EDDY_RETURN_IF_ERROR(CheckModel(env.rules, request.model()));
  return request.name().empty() ? absl::OkStatus() : CheckSessionName("name", request.name());
}

absl::Status CheckNamed(const ServiceEnv& env, const std::string& name) {
  if (env.draining) return DrainingError();
  return CheckSessionName("name", name);
}

absl::Status CheckList(const ServiceEnv& env, const v1::ListSessionsRequest& request) {
  if (env.draining) return DrainingError();
  if (request.page_size() > kPageSizeMax) {
    return absl::InvalidArgumentError(absl::StrCat("page_size is ", request.page_size(),
                                                   ": it must lie in [0, ", kPageSizeMax, "]."));
  }
  if (request.page_token().empty()) return absl::OkStatus();
  return CheckSessionName("page_token", request.page_token());
}

grpc::ServerUnaryReactor* Refuse(ServiceEnv& env, grpc::CallbackServerContext* context,
                                 const absl::Status& status) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(EndCall(context, status, env.engine.RetryAfter()));
  return reactor;
}

// Hands a session, or why there is none, from the step thread to the call. The call's objects live
// until its reactor is finished, which happens here and nowhere else.
auto ReplyWithSession(ServiceEnv& env, grpc::CallbackServerContext* context,
                      grpc::ServerUnaryReactor* reactor, v1::Session* response) {
  return [&env, context, reactor, response](absl::StatusOr<SessionInfo> info) {
    env.delivery.Post([&env, context, reactor, response, info = std::move(info)] {
      if (info.ok()) ToProto(*info, env.rules.model_name, response);
      reactor->Finish(EndCall(context, info.status(), env.engine.RetryAfter()));
    });
  };
}

// Sessions of unnamed conversations sort last and are nobody else's business.
void ToProto(const Engine::SessionPage& page, const std::string& model_name,
             v1::ListSessionsResponse* response) {
  for (const SessionInfo& info : page.sessions) {
    if (IsReservedSessionName(info.name)) return;
    ToProto(info, model_name, response->add_sessions());
  }
  if (!IsReservedSessionName(page.next_after)) response->set_next_page_token(page.next_after);
}

}  // namespace

grpc::ServerUnaryReactor* SessionsService::Create(grpc::CallbackServerContext* context,
                                                  const v1::CreateSessionRequest* request,
                                                  v1::Session* response) {
  if (absl::Status status = CheckCreate(env_, *request); !status.ok()) {
    return Refuse(env_, context, status);
  }
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  env_.engine.CreateSession(
      request->name().empty() ? absl::StrFormat("session-%016x", DrawRandom()) : request->name(),
      ReplyWithSession(env_, context, reactor, response));
  return reactor;
}

grpc::ServerUnaryReactor* SessionsService::Get(grpc::CallbackServerContext* context,
                                               const v1::GetSessionRequest* request,
                                               v1::Session* response) {
  if (absl::Status status = CheckNamed(env_, request->name()); !status.ok()) {
    return Refuse(env_, context, status);
  }
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  env_.engine.GetSession(request->name(), ReplyWithSession(env_, context, reactor, response));
  return reactor;
}

grpc::ServerUnaryReactor* SessionsService::List(grpc::CallbackServerContext* context,
                                                const v1::ListSessionsRequest* request,
                                                v1::ListSessionsResponse* response) {
  if (absl::Status status = CheckList(env_, *request); !status.ok()) {
    return Refuse(env_, context, status);
  }
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const uint32_t limit = request->page_size() == 0 ? kPageSizeDefault : request->page_size();
  env_.engine.ListSessions(
      request->page_token(), static_cast<int>(limit),
      [&env = env_, context, reactor, response](absl::StatusOr<Engine::SessionPage> page) {
        env.delivery.Post([&env, context, reactor, response, page = std::move(page)] {
          if (page.ok()) ToProto(*page, env.rules.model_name, response);
          reactor->Finish(EndCall(context, page.status(), env.engine.RetryAfter()));
        });
      });
  return reactor;
}

grpc::ServerUnaryReactor* SessionsService::Delete(grpc::CallbackServerContext* context,
                                                  const v1::DeleteSessionRequest* request,
                                                  google::protobuf::Empty*) {
  if (absl::Status status = CheckNamed(env_, request->name()); !status.ok()) {
    return Refuse(env_, context, status);
  }
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  env_.engine.DeleteSession(request->name(), [&env = env_, context, reactor](absl::Status status) {
    env.delivery.Post([&env, context, reactor, status = std::move(status)] {
      reactor->Finish(EndCall(context, status, env.engine.RetryAfter()));
    });
  });
  return reactor;
}

}  // namespace eddy
