// SPDX-License-Identifier: Apache-2.0
// The C++ client of an Eddy server.
//
//   eddy::Client client(eddy::ClientOptions{.server = "127.0.0.1:50051"});
//   eddy::v1::GenerateRequest request;
//   request.mutable_prompt()->set_text("To be, or");
//   request.mutable_stop()->set_max_tokens(64);
//   grpc::ClientContext context;
//   eddy::v1::GenerateResponse last;
//   grpc::Status status = client.Generate(
//       context, request,
//       [](const eddy::v1::GenerateResponse& message) {
//         std::cout << message.text() << std::flush;
//         return true;
//       },
//       &last);
//   if (!status.ok()) {
//     std::cerr << status.error_message() << "\n";
//   } else {
//     std::cerr << last.usage().generated_tokens() << " tokens\n";
//   }
#pragma once

#include <grpcpp/grpcpp.h>

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "eddy/v1/generation.grpc.pb.h"
#include "eddy/v1/models.grpc.pb.h"
#include "eddy/v1/sessions.grpc.pb.h"

namespace eddy {

struct ClientOptions {
  // HOST:PORT, or any gRPC target ("unix:/run/eddy.sock", "dns:///eddy:50051").
  std::string server = "127.0.0.1:50051";
  // Milliseconds without traffic, while a call runs, until the connection is probed.
  int keepalive_time_ms = 60'000;
  // Milliseconds the probe may take until the connection is given up and its calls end UNAVAILABLE.
  int keepalive_timeout_ms = 20'000;
  // Bytes of the largest message accepted.
  int message_bytes_max = 256 << 20;
  // True: a TCP connection of its own, not shared with other channels of this process.
  bool own_connection = false;
};

// Opens a channel lazily: nothing is sent before the first call. Never goes through an HTTP proxy.
// The connection is not encrypted.
std::shared_ptr<grpc::Channel> MakeChannel(const ClientOptions& options);

// Gets each streamed message in order, on the thread that made the call. False cancels the call.
using OnMessage = std::function<bool(const v1::GenerateResponse& message)>;

using OnScores = std::function<bool(const v1::ScoreResponse& message)>;

// A conversation on one call: many turns of one session. The caller owns it. One thread at a time
// may call it, except for CancelTurn. Leaving it without Finish cancels the call. After the first
// error every method fails and Finish tells why.
class Conversation {
 public:
  ~Conversation();
  Conversation(const Conversation&) = delete;
  Conversation& operator=(const Conversation&) = delete;

  // Adds to what the next turn reads. False: the call has ended, see Finish.
  bool Append(const v1::Prompt& prompt);

  // Runs a turn to its end and gives each of its messages to `on_message`; false from it cancels
  // the turn, and the rest of it still arrives. `last` (may be null) gets the message with
  // finish_reason and usage. Errors: those of Generation.Generate; the call is over then.
  grpc::Status Generate(const v1::ConverseRequest::Generate& generate, const OnMessage& on_message,
                        v1::GenerateResponse* last);

  // Any thread, any time: ends the running turn with FINISH_REASON_CANCELLED, does nothing when
  // none runs.
  void CancelTurn();

  // Says goodbye and waits for the server's status: OK, or why the call ended.
  grpc::Status Finish();

 private:
  friend class Client;
  Conversation(v1::Generation::Stub& stub, const v1::ConverseRequest::Open& open);

  bool Write(const v1::ConverseRequest& request);

  grpc::ClientContext context_;
  std::mutex write_mutex_;
  // The stream takes one writer and one reader at a time; writers take write_mutex_.
  std::unique_ptr<grpc::ClientReaderWriter<v1::ConverseRequest, v1::ConverseResponse>> stream_;
  bool writes_done_ = false;  // Guarded by write_mutex_.
  bool finished_ = false;
  grpc::Status status_;
};

// All services of one server. The caller owns it; it may be shared by threads. Calls block their
// thread. Every method returns the server's status unchanged; its message is a sentence for a
// person. A server that cannot be reached gives UNAVAILABLE.
class Client {
 public:
  explicit Client(const ClientOptions& options);
  // For a channel with credentials, a pool or an in-process server.
  explicit Client(std::shared_ptr<grpc::Channel> channel);

  // Runs one turn and gives each message to `on_message`. `context` is used for this call alone:
  // set the deadline there; its TryCancel() may be called from any thread and ends the call with
  // CANCELLED, as false from `on_message` does. `last` (may be null) gets the message with
  // finish_reason and usage.
  grpc::Status Generate(grpc::ClientContext& context, const v1::GenerateRequest& request,
                        const OnMessage& on_message, v1::GenerateResponse* last);

  // The same for a text that is scored; without `last` saying FINISH_REASON_SCORED it is not whole.
  grpc::Status Score(grpc::ClientContext& context, const v1::ScoreRequest& request,
                     const OnScores& on_message, v1::ScoreResponse* last);

  // Starts a conversation; an error shows at its first turn. The conversation must not outlive this
  // client.
  std::unique_ptr<Conversation> Converse(const v1::ConverseRequest::Open& open);

  grpc::Status CreateSession(const v1::CreateSessionRequest& request, v1::Session* session);
  grpc::Status GetSession(const std::string& name, v1::Session* session);
  // All sessions by name; asks page after page of `page_size` (0: the server's default).
  grpc::Status ListSessions(uint32_t page_size, std::vector<v1::Session>* sessions);
  grpc::Status DeleteSession(const std::string& name);

  grpc::Status ListModels(std::vector<v1::Model>* models);
  // An empty name: the only model served.
  grpc::Status GetModel(const std::string& name, v1::Model* model);
  grpc::Status Tokenize(const std::string& model, const std::string& text,
                        std::vector<uint32_t>* token_ids);
  grpc::Status Detokenize(const std::string& model, const std::vector<uint32_t>& token_ids,
                          std::string* text);

 private:
  // Constant after construction.
  std::unique_ptr<v1::Generation::Stub> generation_;
  std::unique_ptr<v1::Sessions::Stub> sessions_;
  std::unique_ptr<v1::Models::Stub> models_;
};

}  // namespace eddy
