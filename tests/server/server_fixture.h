// SPDX-License-Identifier: Apache-2.0
// What server tests share: a server in process over a fake engine whose steps can be held, reached
// without a socket or over loopback.
#pragma once

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "eddy/v1/generation.grpc.pb.h"
#include "eddy/v1/models.grpc.pb.h"
#include "eddy/v1/sessions.grpc.pb.h"
#include "server/server.h"
#include "tests/support/engine_fixture.h"

namespace eddy {

// Holds the step thread before its steps. Any thread.
class StepGate {
 public:
  void Close() { Set(false); }
  void Open() { Set(true); }
  // Steps that may go while the gate is closed.
  void LetThrough(int step_count) {
    std::lock_guard lock(mutex_);
    permits_ += step_count;
    changed_.notify_all();
  }
  void Pass() {
    std::unique_lock lock(mutex_);
    ++arrived_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return is_open_ || permits_ > 0; });
    if (!is_open_) --permits_;
  }
  // Until step number `count` has come to the gate.
  void WaitForStep(int count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return arrived_ >= count; });
  }

 private:
  void Set(bool is_open) {
    std::lock_guard lock(mutex_);
    is_open_ = is_open;
    changed_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  bool is_open_ = true;
  int permits_ = 0;
  int arrived_ = 0;
};

// True as soon as `condition` is, false after ten seconds.
inline bool Eventually(const std::function<bool()>& condition) {
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > give_up) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

// Without a metrics page: closing one takes two seconds.
inline ServerOptions QuietServer() {
  ServerOptions options;
  options.metrics_listen = "";
  return options;
}

enum class Transport { kInProcess, kLoopback };

// Engine, server and stubs of one test.
class ServedEngine {
 public:
  explicit ServedEngine(
      Transport transport = Transport::kInProcess,
      const EngineOptions& engine_options = SmallEngine(), FakeModelOptions model_options = {},
      ServerOptions server_options = QuietServer(),
      std::shared_ptr<const Tokenizer> tokenizer = std::make_shared<FakeTokenizer>()) {
    if (!model_options.before_step) model_options.before_step = [this] { gate.Pass(); };
    engine = MakeFakeEngine(engine_options, model_options, std::move(tokenizer), &backend);
    server_options.listen = "127.0.0.1:0";
    if (!server_options.metrics_listen.empty()) server_options.metrics_listen = "127.0.0.1:0";
    absl::StatusOr<std::unique_ptr<Server>> started = Server::Start(*engine, server_options);
    EXPECT_TRUE(started.ok()) << started.status();
    server = *std::move(started);
    channel = transport == Transport::kInProcess ? server->InProcessChannel() : NewConnection();
    generation = v1::Generation::NewStub(channel);
    sessions = v1::Sessions::NewStub(channel);
    models = v1::Models::NewStub(channel);
  }
  ~ServedEngine() { gate.Open(); }

  std::shared_ptr<grpc::Channel> NewConnection() const {
    grpc::ChannelArguments arguments;
    // Else channels to one address share a connection.
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetMaxReceiveMessageSize(-1);
    return grpc::CreateCustomChannel(server->address(), grpc::InsecureChannelCredentials(),
                                     arguments);
  }

  StepGate gate;
  FakeBackend* backend = nullptr;
  std::unique_ptr<Engine> engine;
  std::unique_ptr<Server> server;
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<v1::Generation::Stub> generation;
  std::unique_ptr<v1::Sessions::Stub> sessions;
  std::unique_ptr<v1::Models::Stub> models;
};

// All that one turn gave, and how its call ended.
struct CallResult {
  std::vector<v1::GenerateResponse> messages;
  std::vector<int32_t> tokens;
  std::string text;
  v1::FinishReason finish_reason = v1::FINISH_REASON_UNSPECIFIED;
  v1::Usage usage;
  grpc::Status status;
  std::multimap<std::string, std::string> trailers;
};

// Appends a message and holds what is true of every one.
inline void AddMessage(const v1::GenerateResponse& message, CallResult* result) {
  EXPECT_EQ(result->finish_reason, v1::FINISH_REASON_UNSPECIFIED) << "a message after the last one";
  EXPECT_EQ(message.has_seed(), result->messages.empty());
  if (!result->messages.empty()) {
    const v1::GenerateResponse& before = result->messages.back();
    EXPECT_EQ(message.position(),
              before.position() + static_cast<uint32_t>(before.token_ids_size()));
  }
  result->messages.push_back(message);
  result->tokens.insert(result->tokens.end(), message.token_ids().begin(),
                        message.token_ids().end());
  result->text += message.text();
  if (!message.has_finish_reason()) return;
  result->finish_reason = message.finish_reason();
  EXPECT_TRUE(message.has_usage());
  result->usage = message.usage();
  EXPECT_EQ(result->usage.generated_tokens() >= result->tokens.size(), true);
}

inline CallResult ReadRest(grpc::ClientReader<v1::GenerateResponse>* reader,
                           const grpc::ClientContext& context, CallResult result = {}) {
  v1::GenerateResponse message;
  while (reader->Read(&message)) AddMessage(message, &result);
  result.status = reader->Finish();
  for (const auto& [key, value] : context.GetServerTrailingMetadata()) {
    result.trailers.emplace(std::string(key.data(), key.size()),
                            std::string(value.data(), value.size()));
  }
  return result;
}

inline CallResult Generate(v1::Generation::Stub& stub, const v1::GenerateRequest& request) {
  grpc::ClientContext context;
  std::unique_ptr<grpc::ClientReader<v1::GenerateResponse>> reader =
      stub.Generate(&context, request);
  return ReadRest(reader.get(), context);
}

inline v1::GenerateRequest GenerateOf(const std::vector<int32_t>& prompt, uint32_t max_tokens,
                                      const std::string& session = "") {
  v1::GenerateRequest request;
  for (int32_t token : prompt) {
    request.mutable_prompt()->mutable_token_ids()->add_ids(static_cast<uint32_t>(token));
  }
  request.mutable_sampling()->set_temperature(0);
  request.mutable_stop()->set_max_tokens(max_tokens);
  request.set_session(session);
  request.set_create_session(!session.empty());
  return request;
}

// A unary call by name and bytes, for services without a stub here.
struct RawReply {
  grpc::Status status;
  std::string bytes;
};
inline RawReply CallRaw(const std::shared_ptr<grpc::Channel>& channel, const std::string& method,
                        const std::string& request) {
  grpc::GenericStub stub(channel);
  grpc::ClientContext context;
  grpc::CompletionQueue queue;
  const grpc::Slice slice(request);
  const grpc::ByteBuffer out(&slice, 1);
  auto call = stub.PrepareCall(&context, method, &queue);
  void* tag = nullptr;
  bool ok = false;
  const auto await = [&] { return queue.Next(&tag, &ok) && ok; };
  call->StartCall(nullptr);
  await();
  call->WriteLast(out, grpc::WriteOptions(), nullptr);
  await();
  RawReply reply;
  grpc::ByteBuffer in;
  call->Read(&in, nullptr);
  if (await()) {
    grpc::Slice whole;
    EXPECT_TRUE(in.DumpToSingleSlice(&whole).ok());
    reply.bytes.assign(reinterpret_cast<const char*>(whole.begin()), whole.size());
  }
  call->Finish(&reply.status, nullptr);
  await();
  return reply;
}

}  // namespace eddy
