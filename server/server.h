// SPDX-License-Identifier: Apache-2.0
// Server: the engine on the network. gRPC services, health, reflection, keepalive, and the metrics
// page.
//
// Owned by main (or a test); the engine outlives it. Start, Drain and the destructor are called by
// one thread, and only they wait.
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "server/metrics_page.h"
#include "server/service_env.h"

namespace prometheus {
class Exposer;
}

namespace eddy {

class GenerationService;
class SessionsService;
class ModelsService;

struct ServerOptions {
  std::string listen = "127.0.0.1:50051";           // HOST:PORT; port 0: any free one
  std::string metrics_listen = "127.0.0.1:9464";    // the same; empty: no metrics page
  int64_t prompt_bytes_max = int64_t{4} << 20;      // of a prompt's text
  int64_t max_tokens_limit = int64_t{1} << 20;      // of a turn
  int32_t connection_call_count_max = 1024;         // calls at once on a connection
  int64_t rpc_memory_bytes_max = int64_t{1} << 30;  // of gRPC's buffers, all connections together
  // Of the engine's tokenizer, or why there is none; null: the model's folder says nothing.
  std::shared_ptr<const absl::StatusOr<ChatTemplate>> chat_template;
};

// Bytes of the largest message a server takes: the largest prompt in either form, and room for the
// rest. gRPC refuses a bigger one with RESOURCE_EXHAUSTED before it is in memory; the services
// refuse, with the field's name, what fits here and is still too large.
int64_t MessageBytesMax(const ServerOptions& options, const EngineOptions& engine);

class Server {
 public:
  // INVALID_ARGUMENT, or UNAVAILABLE for an address that cannot be had; the sentence names the
  // flag.
  static absl::StatusOr<std::unique_ptr<Server>> Start(Engine& engine,
                                                       const ServerOptions& options);
  // Cancels what still runs and waits for it.
  ~Server();

  // HOST:PORT with the port in use; the second is empty without a metrics page.
  const std::string& address() const { return address_; }
  const std::string& metrics_address() const { return metrics_address_; }
  // To this server without a socket.
  std::shared_ptr<grpc::Channel> InProcessChannel();

  // The ordered way out: health says NOT_SERVING, new calls get UNAVAILABLE, running turns finish
  // within `grace` or are cancelled (Engine::Shutdown), their last messages get a moment to leave,
  // then all is closed.
  void Drain(Duration grace);

 private:
  Server(Engine& engine, const ServerOptions& options);

  absl::Status StartMetrics(const std::string& metrics_listen);
  absl::Status StartGrpc(const ServerOptions& options);
  void SetServing(bool serving);

  ServiceEnv env_;
  const std::shared_ptr<MetricsPage> metrics_page_;
  const std::unique_ptr<GenerationService> generation_;
  const std::unique_ptr<SessionsService> sessions_;
  const std::unique_ptr<ModelsService> models_;
  std::unique_ptr<prometheus::Exposer> exposer_;
  std::unique_ptr<grpc::Server> grpc_;
  std::string address_;
  std::string metrics_address_;
};

}  // namespace eddy
