// SPDX-License-Identifier: Apache-2.0
// An Eddy server on a loopback port that answers as a test tells it to: no engine, no model.
#pragma once

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "eddy/v1/generation.grpc.pb.h"
#include "eddy/v1/models.grpc.pb.h"
#include "eddy/v1/sessions.grpc.pb.h"

namespace eddy {

// What one turn is answered with.
struct FakeReply {
  std::vector<v1::GenerateResponse> messages;
  // After the messages.
  grpc::Status status;
  // Before each message.
  int pause_ms = 0;
  // After the messages: wait for the client's cancel instead of ending.
  bool hang = false;
  // Sent as grpc-retry-pushback-ms unless empty.
  std::string retry_pushback_ms;
};

// One message with `token_count` tokens numbered from `position`.
inline v1::GenerateResponse Message(uint32_t position, const std::string& text,
                                    int token_count = 1) {
  v1::GenerateResponse message;
  message.set_position(position);
  message.set_text(text);
  for (int i = 0; i < token_count; ++i) {
    message.add_token_ids(position + static_cast<uint32_t>(i));
  }
  return message;
}

inline v1::GenerateResponse Last(v1::GenerateResponse message, v1::FinishReason reason,
                                 uint32_t prompt_tokens, uint32_t generated_tokens,
                                 uint32_t reused_tokens = 0) {
  message.set_finish_reason(reason);
  message.mutable_usage()->set_prompt_tokens(prompt_tokens);
  message.mutable_usage()->set_generated_tokens(generated_tokens);
  message.mutable_usage()->set_reused_tokens(reused_tokens);
  return message;
}

// `pieces`, one token and one message each; the prompt had `prompt_tokens`.
inline FakeReply TextReply(const std::vector<std::string>& pieces, uint32_t prompt_tokens = 3) {
  FakeReply reply;
  for (size_t i = 0; i < pieces.size(); ++i) {
    reply.messages.push_back(Message(prompt_tokens + static_cast<uint32_t>(i), pieces[i]));
  }
  reply.messages.back() = Last(reply.messages.back(), v1::FINISH_REASON_LENGTH, prompt_tokens,
                               static_cast<uint32_t>(pieces.size()));
  return reply;
}

inline FakeReply Refusal(grpc::StatusCode code, const std::string& sentence) {
  FakeReply reply;
  reply.status = grpc::Status(code, sentence);
  return reply;
}

// True as soon as `condition` is, false after ten seconds.
inline bool Eventually(const std::function<bool()>& condition) {
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > give_up) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

// What the calls saw. Any thread.
struct FakeLog {
  std::mutex mutex;
  // Turns as requests; a turn of Converse has its session, its appended texts and its conditions.
  std::vector<v1::GenerateRequest> turns;
  std::vector<v1::ScoreRequest> scores;
  std::vector<v1::ConverseRequest::Open> opens;
  std::vector<v1::CreateSessionRequest> creates;
  std::vector<v1::ListSessionsRequest> lists;
  std::atomic<int> cancelled_count{0};
  std::atomic<int> hanging_count{0};

  std::vector<v1::ScoreRequest> Scores() {
    std::lock_guard lock(mutex);
    return scores;
  }
  std::vector<v1::GenerateRequest> Turns() {
    std::lock_guard lock(mutex);
    return turns;
  }
  v1::GenerateRequest OnlyTurn() {
    std::lock_guard lock(mutex);
    return turns.size() == 1 ? turns[0] : v1::GenerateRequest();
  }
};

// How Score calls are answered: three tokens a message, token i + 1 with FakeLogProb of token i and
// itself, and 0, 1, 2, ... as its alternatives.
struct FakeScoring {
  grpc::Status status;  // after the messages
  // The last message has it; UNSPECIFIED: no last message.
  v1::FinishReason finish_reason = v1::FINISH_REASON_SCORED;
  int token_count_max = 1 << 20;  // that are told of
  bool hang = false;  // after the messages: wait for the client's cancel instead of ending
};

inline float FakeLogProb(uint32_t before, uint32_t token) {
  return -0.125f * static_cast<float>((before * 3 + token) % 50);
}

using FakeAnswer = std::function<FakeReply(const v1::GenerateRequest&)>;

class FakeGeneration final : public v1::Generation::Service {
 public:
  explicit FakeGeneration(FakeLog& log) : log_(log) {}

  // Before the first call.
  void set_answer(FakeAnswer answer) { answer_ = std::move(answer); }

  grpc::Status Generate(grpc::ServerContext* context, const v1::GenerateRequest* request,
                        grpc::ServerWriter<v1::GenerateResponse>* writer) override {
    const FakeReply reply = Answer(*request);
    if (!reply.retry_pushback_ms.empty()) {
      context->AddTrailingMetadata("grpc-retry-pushback-ms", reply.retry_pushback_ms);
    }
    for (const v1::GenerateResponse& message : reply.messages) {
      std::this_thread::sleep_for(std::chrono::milliseconds(reply.pause_ms));
      if (context->IsCancelled() || !writer->Write(message)) {
        break;
      }
    }
    if (reply.hang) {
      ++log_.hanging_count;
      while (!context->IsCancelled()) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
    }
    if (context->IsCancelled()) {
      ++log_.cancelled_count;
      return grpc::Status::CANCELLED;
    }
    return reply.status;
  }

  // Before the first call.
  void set_scoring(const FakeScoring& scoring) { scoring_ = scoring; }

  grpc::Status Score(grpc::ServerContext* context, const v1::ScoreRequest* request,
                     grpc::ServerWriter<v1::ScoreResponse>* writer) override {
    {
      std::lock_guard lock(log_.mutex);
      log_.scores.push_back(*request);
    }
    std::vector<uint32_t> ids(request->prompt().token_ids().ids().begin(),
                              request->prompt().token_ids().ids().end());
    for (const char c : request->prompt().text()) ids.push_back(static_cast<uint8_t>(c));
    const size_t all = std::min(ids.size(), static_cast<size_t>(scoring_.token_count_max));
    v1::ScoreResponse message;
    for (size_t i = 0; i < all; ++i) {
      AddScored(*request, ids, i, message.add_tokens());
      if (message.tokens_size() < 3) continue;
      writer->Write(message);
      message.Clear();
      message.set_position(static_cast<uint32_t>(i + 1));
    }
    while (scoring_.hang && !context->IsCancelled()) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    if (context->IsCancelled()) return grpc::Status::CANCELLED;
    if (scoring_.finish_reason != v1::FINISH_REASON_UNSPECIFIED) {
      message.set_finish_reason(scoring_.finish_reason);
      writer->Write(message);
    }
    return scoring_.status;
  }

  using ConverseStream = grpc::ServerReaderWriter<v1::ConverseResponse, v1::ConverseRequest>;

  grpc::Status Converse(grpc::ServerContext* context, ConverseStream* stream) override {
    v1::GenerateRequest turn;
    uint32_t turn_count = 0;
    v1::ConverseRequest request;
    while (stream->Read(&request)) {
      if (request.has_open()) {
        std::lock_guard lock(log_.mutex);
        log_.opens.push_back(request.open());
        turn.set_session(request.open().session());
      } else if (request.has_append()) {
        const v1::Prompt& prompt = request.append().prompt();
        if (prompt.has_messages()) {
          turn.mutable_prompt()->mutable_messages()->MergeFrom(prompt.messages());
        } else {
          turn.mutable_prompt()->mutable_text()->append(prompt.text());
        }
      } else if (request.has_generate()) {
        *turn.mutable_sampling() = request.generate().sampling();
        *turn.mutable_stop() = request.generate().stop();
        const grpc::Status status = RunTurn(turn, ++turn_count, *stream);
        if (!status.ok()) return status;
        turn.clear_prompt();
      }
    }
    if (context->IsCancelled()) ++log_.cancelled_count;
    return grpc::Status::OK;
  }

 private:
  static void AddScored(const v1::ScoreRequest& request, const std::vector<uint32_t>& ids, size_t i,
                        v1::TokenLogProb* token) {
    const auto fill = [&](uint32_t id, v1::LogProb* log_prob) {
      log_prob->set_token_id(id);
      if (request.token_bytes()) log_prob->set_bytes(std::string(1, static_cast<char>(id)));
      if (i > 0) log_prob->set_log_prob(FakeLogProb(ids[i - 1], id));
    };
    fill(ids[i], token->mutable_token());
    for (uint32_t id = 0; i > 0 && id < request.top_log_probs(); ++id) {
      fill(id, token->add_top());
    }
  }

  FakeReply Answer(const v1::GenerateRequest& request) {
    std::lock_guard lock(log_.mutex);
    log_.turns.push_back(request);
    return answer_(request);
  }

  grpc::Status RunTurn(const v1::GenerateRequest& turn, uint32_t number, ConverseStream& stream) {
    const FakeReply reply = Answer(turn);
    v1::ConverseResponse response;
    response.set_turn(number);
    for (const v1::GenerateResponse& message : reply.messages) {
      std::this_thread::sleep_for(std::chrono::milliseconds(reply.pause_ms));
      *response.mutable_output() = message;
      if (!stream.Write(response)) return grpc::Status::CANCELLED;
    }
    if (!reply.hang) return reply.status;
    ++log_.hanging_count;
    v1::ConverseRequest request;
    while (stream.Read(&request)) {
      if (request.has_cancel()) {
        ++log_.cancelled_count;
        *response.mutable_output() = Last(Message(9, "", 0), v1::FINISH_REASON_CANCELLED, 3, 1);
        stream.Write(response);
        return grpc::Status::OK;
      }
    }
    ++log_.cancelled_count;
    return grpc::Status::CANCELLED;
  }

  FakeLog& log_;
  FakeScoring scoring_;
  FakeAnswer answer_ = [](const v1::GenerateRequest&) {
    return TextReply({"one ", "two ", "three"});
  };
};

// Sessions in a map, two to a page unless asked otherwise.
class FakeSessions final : public v1::Sessions::Service {
 public:
  explicit FakeSessions(FakeLog& log) : log_(log) {}

  grpc::Status Create(grpc::ServerContext*, const v1::CreateSessionRequest* request,
                      v1::Session* session) override {
    std::lock_guard lock(log_.mutex);
    log_.creates.push_back(*request);
    const std::string name = request->name().empty() ? "made-up" : request->name();
    if (sessions_.count(name) > 0) {
      return {grpc::StatusCode::ALREADY_EXISTS, "session \"" + name + "\" exists"};
    }
    session->set_name(name);
    session->set_model("fake");
    session->set_state(v1::Session::STATE_RESIDENT);
    session->set_state_bytes(4096);
    session->mutable_create_time()->set_seconds(1'000'000'000);
    session->mutable_last_used_time()->set_seconds(1'000'000'060);
    sessions_[name] = *session;
    return grpc::Status::OK;
  }

  grpc::Status Get(grpc::ServerContext*, const v1::GetSessionRequest* request,
                   v1::Session* session) override {
    std::lock_guard lock(log_.mutex);
    const auto found = sessions_.find(request->name());
    if (found == sessions_.end()) return NotFound(request->name());
    *session = found->second;
    return grpc::Status::OK;
  }

  grpc::Status List(grpc::ServerContext*, const v1::ListSessionsRequest* request,
                    v1::ListSessionsResponse* response) override {
    std::lock_guard lock(log_.mutex);
    log_.lists.push_back(*request);
    const int page_size = request->page_size() == 0 ? 2 : static_cast<int>(request->page_size());
    for (auto at = sessions_.upper_bound(request->page_token()); at != sessions_.end(); ++at) {
      if (response->sessions_size() == page_size) {
        response->set_next_page_token(response->sessions(page_size - 1).name());
        break;
      }
      *response->add_sessions() = at->second;
    }
    return grpc::Status::OK;
  }

  grpc::Status Delete(grpc::ServerContext*, const v1::DeleteSessionRequest* request,
                      google::protobuf::Empty*) override {
    std::lock_guard lock(log_.mutex);
    return sessions_.erase(request->name()) > 0 ? grpc::Status::OK : NotFound(request->name());
  }

 private:
  static grpc::Status NotFound(const std::string& name) {
    return {grpc::StatusCode::NOT_FOUND, "session \"" + name + "\" does not exist"};
  }

  FakeLog& log_;
  std::map<std::string, v1::Session> sessions_;
};

// One model, "fake", whose tokens are bytes.
class FakeModels final : public v1::Models::Service {
 public:
  std::atomic<bool> has_tokenizer{true};
  std::atomic<const char*> chat_template{""};
  v1::ImageFormat image;  // none while its width is 0; set before the first call

  static v1::Model FakeModel() {
    v1::Model model;
    model.set_name("fake");
    model.set_family("linear_transformer");
    model.set_parameter_count(12'345);
    model.set_vocabulary_size(256);
    model.set_state_bytes_per_session(4096);
    model.set_dtype("f32");
    model.set_numeric_path("cpu-v1");
    model.set_backend("cpu");
    model.set_target("avx2");
    model.set_has_tokenizer(true);
    model.add_end_of_text_ids(0);
    return model;
  }

  grpc::Status List(grpc::ServerContext*, const v1::ListModelsRequest*,
                    v1::ListModelsResponse* response) override {
    *response->add_models() = FakeModel();
    return grpc::Status::OK;
  }

  grpc::Status Get(grpc::ServerContext*, const v1::GetModelRequest* request,
                   v1::Model* model) override {
    *model = FakeModel();
    model->set_has_tokenizer(has_tokenizer);
    model->set_chat_template(chat_template);
    if (image.width() > 0) *model->mutable_image() = image;
    return CheckName(request->name());
  }

  grpc::Status Tokenize(grpc::ServerContext*, const v1::TokenizeRequest* request,
                        v1::TokenizeResponse* response) override {
    for (const char c : request->text()) {
      response->add_token_ids(static_cast<uint8_t>(c));
    }
    return CheckName(request->model());
  }

  grpc::Status Detokenize(grpc::ServerContext*, const v1::DetokenizeRequest* request,
                          v1::DetokenizeResponse* response) override {
    for (const uint32_t id : request->token_ids()) {
      if (id > 255) {
        return {grpc::StatusCode::INVALID_ARGUMENT,
                "token_ids holds " + std::to_string(id) + ", must be in [0, 256)"};
      }
      response->mutable_text()->push_back(static_cast<char>(id));
    }
    return CheckName(request->model());
  }

 private:
  static grpc::Status CheckName(const std::string& name) {
    if (name.empty() || name == "fake") return grpc::Status::OK;
    return {grpc::StatusCode::NOT_FOUND, "model \"" + name + "\" is not served"};
  }
};

// Serves from its constructor to its destructor.
class FakeServer {
 public:
  FakeServer() : generation_(log_), sessions_(log_) {
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(&generation_);
    builder.RegisterService(&sessions_);
    builder.RegisterService(&models_);
    server_ = builder.BuildAndStart();
    address_ = "127.0.0.1:" + std::to_string(port);
  }
  ~FakeServer() { server_->Shutdown(std::chrono::system_clock::now()); }

  const std::string& address() const { return address_; }
  FakeLog& log() { return log_; }
  // How every turn from now on is answered. Before the first call.
  void set_answer(FakeAnswer answer) { generation_.set_answer(std::move(answer)); }
  void set_scoring(const FakeScoring& scoring) { generation_.set_scoring(scoring); }
  // Makes the model one of images. Before the first call.
  void set_image(const v1::ImageFormat& image) { models_.image = image; }
  void set_has_tokenizer(bool has_tokenizer) { models_.has_tokenizer = has_tokenizer; }
  void set_chat_template(const char* name) { models_.chat_template = name; }
  void set_reply(const FakeReply& reply) {
    set_answer([reply](const v1::GenerateRequest&) { return reply; });
  }

 private:
  FakeLog log_;
  FakeGeneration generation_;
  FakeSessions sessions_;
  FakeModels models_;
  std::string address_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace eddy
