// SPDX-License-Identifier: Apache-2.0
#include "server/sessions_service.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "kernels/status_macros.h"
#include "server/convert.h"
#include "server/wire_message.h"

namespace eddy {
namespace {

constexpr uint32_t kPageSizeDefault = 100;
constexpr uint32_t kPageSizeMax = 1000;

absl::Status Check(const ServiceEnv& env, const v1::CreateSessionRequest& request) {
  EDDY_RETURN_IF_ERROR(CheckModel(env.rules, request.model()));
  return request.name().empty() ? absl::OkStatus() : CheckSessionName("name", request.name());
}

absl::Status Check(const ServiceEnv&, const v1::GetSessionRequest& request) {
  return CheckSessionName("name", request.name());
}

absl::Status Check(const ServiceEnv&, const v1::DeleteSessionRequest& request) {
  return CheckSessionName("name", request.name());
}

absl::Status Check(const ServiceEnv&, const v1::ListSessionsRequest& request) {
  if (request.page_size() > kPageSizeMax) {
    return absl::InvalidArgumentError(absl::StrCat("page_size is ", request.page_size(),
                                                   ": it must lie in [0, ", kPageSizeMax, "]."));
  }
  if (request.page_token().empty()) return absl::OkStatus();
  return CheckSessionName("page_token", request.page_token());
}

template <typename Request>
absl::StatusOr<Request> ParseAndCheck(const ServiceEnv& env, const grpc::ByteBuffer& bytes) {
  if (env.draining) return DrainingError();
  EDDY_ASSIGN_OR_RETURN(Request request, ParseMessage<Request>(bytes));
  EDDY_RETURN_IF_ERROR(Check(env, request));
  return request;
}

v1::Session ToMessage(const ServiceEnv& env, const SessionInfo& info) {
  v1::Session session;
  ToProto(info, env.rules.model_name, &session);
  return session;
}

// Sessions of unnamed conversations sort last and are nobody else's business.
v1::ListSessionsResponse ToMessage(const ServiceEnv& env, const Engine::SessionPage& page) {
  v1::ListSessionsResponse list;
  for (const SessionInfo& info : page.sessions) {
    if (IsReservedSessionName(info.name)) return list;
    ToProto(info, env.rules.model_name, list.add_sessions());
  }
  if (!IsReservedSessionName(page.next_after)) list.set_next_page_token(page.next_after);
  return list;
}

// The call's end of one request: for the engine's callback to carry to the delivery thread, or to
// refuse at once. gRPC's objects live until Finish, which happens here and nowhere else.
struct Reply {
  ServiceEnv& env;
  grpc::CallbackServerContext* const context;
  grpc::ByteBuffer* const response;
  grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();

  void Finish(const absl::Status& status) const {
    reactor->Finish(EndCall(context, status, env.engine.RetryAfter()));
  }
  template <typename Value>
  void operator()(absl::StatusOr<Value> value) const {
    env.delivery.Post([reply = *this, value = std::move(value)] {
      if (value.ok()) SerializeMessage(ToMessage(reply.env, *value), reply.response);
      reply.Finish(value.status());
    });
  }
  void operator()(absl::Status status) const {
    env.delivery.Post([reply = *this, status = std::move(status)] {
      SerializeMessage(google::protobuf::Empty(), reply.response);
      reply.Finish(status);
    });
  }
};

}  // namespace

grpc::ServerUnaryReactor* SessionsService::Create(grpc::CallbackServerContext* context,
                                                  const grpc::ByteBuffer* bytes,
                                                  grpc::ByteBuffer* response) {
  const Reply reply{env_, context, response};
  const auto request = ParseAndCheck<v1::CreateSessionRequest>(env_, *bytes);
  if (!request.ok()) {
    reply.Finish(request.status());
  } else if (request->name().empty()) {
    env_.engine.CreateSession(absl::StrFormat("session-%016x", DrawRandom()), reply);
  } else {
    env_.engine.CreateSession(request->name(), reply);
  }
  return reply.reactor;
}

grpc::ServerUnaryReactor* SessionsService::Get(grpc::CallbackServerContext* context,
                                               const grpc::ByteBuffer* bytes,
                                               grpc::ByteBuffer* response) {
  const Reply reply{env_, context, response};
  const auto request = ParseAndCheck<v1::GetSessionRequest>(env_, *bytes);
  if (request.ok()) {
    env_.engine.GetSession(request->name(), reply);
  } else {
    reply.Finish(request.status());
  }
  return reply.reactor;
}

grpc::ServerUnaryReactor* SessionsService::List(grpc::CallbackServerContext* context,
                                                const grpc::ByteBuffer* bytes,
                                                grpc::ByteBuffer* response) {
  const Reply reply{env_, context, response};
  const auto request = ParseAndCheck<v1::ListSessionsRequest>(env_, *bytes);
  if (request.ok()) {
    const uint32_t limit = request->page_size() == 0 ? kPageSizeDefault : request->page_size();
    env_.engine.ListSessions(request->page_token(), static_cast<int>(limit), reply);
  } else {
    reply.Finish(request.status());
  }
  return reply.reactor;
}

grpc::ServerUnaryReactor* SessionsService::Delete(grpc::CallbackServerContext* context,
                                                  const grpc::ByteBuffer* bytes,
                                                  grpc::ByteBuffer* response) {
  const Reply reply{env_, context, response};
  const auto request = ParseAndCheck<v1::DeleteSessionRequest>(env_, *bytes);
  if (request.ok()) {
    env_.engine.DeleteSession(request->name(), reply);
  } else {
    reply.Finish(request.status());
  }
  return reply.reactor;
}

}  // namespace eddy
