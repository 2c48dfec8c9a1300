// SPDX-License-Identifier: Apache-2.0
#include "server/server.h"

#include <grpc/grpc.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/resource_quota.h>
#include <prometheus/exposer.h>

#include <algorithm>
#include <chrono>
#include <exception>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/status_macros.h"
#include "server/generation_service.h"
#include "server/models_service.h"
#include "server/sessions_service.h"

namespace eddy {
namespace {

// What a client that went away without a word costs: found out and freed within half a minute.
constexpr int kKeepaliveTimeMs = 30'000;
constexpr int kKeepaliveTimeoutMs = 10'000;
// Clients may ping this often; gRPC's own default would cut them off below five minutes.
constexpr int kClientPingIntervalMsMin = 10'000;
// Reflection is the one synchronous service.
constexpr int kSyncThreadsMax = 8;
// After the last turn, for the last messages to leave.
constexpr auto kFlushTime = std::chrono::seconds(2);

WireRules MakeRules(const Engine& engine, const ServerOptions& options) {
  WireRules rules;
  rules.model_name = engine.model_info().name;
  rules.vocabulary_size = engine.model_info().vocabulary_size;
  rules.tokenizer = engine.tokenizer();
  rules.chat_template = options.chat_template;
  rules.prompt_bytes_max = options.prompt_bytes_max;
  rules.prompt_token_count_max = engine.options().prompt_token_count_max;
  rules.score_token_count_max = engine.options().score_token_count_max;
  rules.max_tokens_limit = options.max_tokens_limit;
  return rules;
}

// HOST:PORT with another port.
std::string WithPort(const std::string& listen, int port) {
  return absl::StrCat(listen.substr(0, listen.rfind(':')), ":", port);
}

absl::Status CheckAddress(const char* flag, const std::string& listen) {
  const size_t colon = listen.rfind(':');
  const std::string port = colon == std::string::npos ? "" : listen.substr(colon + 1);
  const bool is_number = !port.empty() && port.size() <= 5 &&
                         port.find_first_not_of("0123456789") == std::string::npos;
  if (colon != std::string::npos && colon > 0 && is_number && std::stoi(port) <= 65535) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      flag, " is \"", listen, "\": it must be HOST:PORT with a port in [0, 65535], 0 for any."));
}

absl::Status CannotListen(const char* flag, const std::string& listen) {
  return absl::UnavailableError(absl::StrCat(
      "cannot listen on ", listen, " (", flag,
      "): the port is taken or the host is not this machine's; give another, or port 0 for any."));
}

}  // namespace

int64_t MessageBytesMax(const ServerOptions& options, const EngineOptions& engine) {
  // A token id takes five bytes at most; the slack is for stop sequences, biases and framing.
  // Doubled, so that what is a little too large is refused with a sentence that names the field.
  constexpr int64_t kSlackBytes = int64_t{1} << 20;
  const int64_t prompt_bytes =
      std::max(options.prompt_bytes_max, 5 * engine.prompt_token_count_max);
  return std::min<int64_t>(2 * prompt_bytes + kSlackBytes, std::numeric_limits<int32_t>::max());
}

Server::Server(Engine& engine, const ServerOptions& options)
    : env_(engine, MakeRules(engine, options)),
      metrics_page_(std::make_shared<MetricsPage>(engine, env_.refused)),
      generation_(std::make_unique<GenerationService>(env_)),
      sessions_(std::make_unique<SessionsService>(env_)),
      models_(std::make_unique<ModelsService>(env_)) {}

absl::StatusOr<std::unique_ptr<Server>> Server::Start(Engine& engine,
                                                      const ServerOptions& options) {
  EDDY_RETURN_IF_ERROR(CheckAddress("--listen", options.listen));
  std::unique_ptr<Server> server(new Server(engine, options));
  if (!options.metrics_listen.empty()) {
    EDDY_RETURN_IF_ERROR(CheckAddress("--metrics-listen", options.metrics_listen));
    EDDY_RETURN_IF_ERROR(server->StartMetrics(options.metrics_listen));
  }
  EDDY_RETURN_IF_ERROR(server->StartGrpc(options));
  return server;
}

Server::~Server() {
  if (grpc_ == nullptr) return;
  SetServing(false);
  grpc_->Shutdown(std::chrono::system_clock::now());
  grpc_->Wait();
}

absl::Status Server::StartMetrics(const std::string& metrics_listen) {
  try {
    exposer_ = std::make_unique<prometheus::Exposer>(metrics_listen);
  } catch (const std::exception&) {
    return CannotListen("--metrics-listen", metrics_listen);
  }
  exposer_->RegisterCollectable(metrics_page_);
  metrics_address_ = WithPort(metrics_listen, exposer_->GetListeningPorts().front());
  return absl::OkStatus();
}

absl::Status Server::StartGrpc(const ServerOptions& options) {
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort(options.listen, grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(generation_.get());
  builder.RegisterService(sessions_.get());
  builder.RegisterService(models_.get());
  builder.SetMaxReceiveMessageSize(
      static_cast<int>(MessageBytesMax(options, env_.engine.options())));
  // A taken port is an error, not a second server on it.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, options.connection_call_count_max);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveTimeMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                             kClientPingIntervalMsMin);
  grpc::ResourceQuota quota("eddy");
  quota.Resize(static_cast<size_t>(options.rpc_memory_bytes_max));
  quota.SetMaxThreads(kSyncThreadsMax);
  builder.SetResourceQuota(quota);
  builder.SetSyncServerOption(grpc::ServerBuilder::NUM_CQS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::MIN_POLLERS, 1);
  builder.SetSyncServerOption(grpc::ServerBuilder::MAX_POLLERS, 1);
  grpc_ = builder.BuildAndStart();
  if (grpc_ == nullptr) return CannotListen("--listen", options.listen);
  address_ = WithPort(options.listen, port);
  SetServing(true);
  return absl::OkStatus();
}

void Server::SetServing(bool serving) {
  grpc::HealthCheckServiceInterface* health = grpc_->GetHealthCheckService();
  for (const char* service : {v1::Generation::service_full_name(),
                              v1::Sessions::service_full_name(), v1::Models::service_full_name()}) {
    health->SetServingStatus(service, serving);
  }
  health->SetServingStatus(serving);
}

std::shared_ptr<grpc::Channel> Server::InProcessChannel() {
  return grpc_->InProcessChannel(grpc::ChannelArguments());
}

void Server::Drain(Duration grace) {
  env_.draining = true;
  SetServing(false);
  generation_->DrainConversations();
  env_.engine.Shutdown(grace);
  grpc_->Shutdown(std::chrono::system_clock::now() + kFlushTime);
}

}  // namespace eddy
