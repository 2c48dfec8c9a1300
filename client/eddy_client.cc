// SPDX-License-Identifier: Apache-2.0
#include "client/eddy_client.h"

#include <utility>

namespace eddy {
namespace {

// The messages of one turn, until `on_message` says false, which cancels the call.
template <typename Message>
grpc::Status ReadAll(grpc::ClientReader<Message>& reader, grpc::ClientContext& context,
                     const std::function<bool(const Message&)>& on_message, Message* last) {
  Message message;
  bool wanted = true;
  while (reader.Read(&message)) {
    if (wanted && !on_message(message)) {
      wanted = false;
      context.TryCancel();
    }
    if (last != nullptr && message.has_finish_reason()) {
      *last = message;
    }
  }
  return reader.Finish();
}

}  // namespace

std::shared_ptr<grpc::Channel> MakeChannel(const ClientOptions& options) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, options.keepalive_time_ms);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, options.keepalive_timeout_ms);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetMaxReceiveMessageSize(options.message_bytes_max);
  arguments.SetMaxSendMessageSize(-1);
  if (options.own_connection) {
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  }
  return grpc::CreateCustomChannel(options.server, grpc::InsecureChannelCredentials(), arguments);
}

Client::Client(const ClientOptions& options) : Client(MakeChannel(options)) {}

Client::Client(std::shared_ptr<grpc::Channel> channel)
    : generation_(v1::Generation::NewStub(channel)),
      sessions_(v1::Sessions::NewStub(channel)),
      models_(v1::Models::NewStub(channel)) {}

grpc::Status Client::Generate(grpc::ClientContext& context, const v1::GenerateRequest& request,
                              const OnMessage& on_message, v1::GenerateResponse* last) {
  return ReadAll(*generation_->Generate(&context, request), context, on_message, last);
}

grpc::Status Client::Score(grpc::ClientContext& context, const v1::ScoreRequest& request,
                           const OnScores& on_message, v1::ScoreResponse* last) {
  return ReadAll(*generation_->Score(&context, request), context, on_message, last);
}

std::unique_ptr<Conversation> Client::Converse(const v1::ConverseRequest::Open& open) {
  return std::unique_ptr<Conversation>(new Conversation(*generation_, open));
}

Conversation::Conversation(v1::Generation::Stub& stub, const v1::ConverseRequest::Open& open)
    : stream_(stub.Converse(&context_)) {
  v1::ConverseRequest request;
  *request.mutable_open() = open;
  Write(request);
}

Conversation::~Conversation() {
  if (!finished_) {
    context_.TryCancel();
    Finish();
  }
}

bool Conversation::Write(const v1::ConverseRequest& request) {
  const std::lock_guard lock(write_mutex_);
  return !writes_done_ && stream_->Write(request);
}

bool Conversation::Append(const v1::Prompt& prompt) {
  v1::ConverseRequest request;
  *request.mutable_append()->mutable_prompt() = prompt;
  return Write(request);
}

grpc::Status Conversation::Generate(const v1::ConverseRequest::Generate& generate,
                                    const OnMessage& on_message, v1::GenerateResponse* last) {
  v1::ConverseRequest request;
  *request.mutable_generate() = generate;
  // A failed write is no answer yet: the reason is the status, behind what can still be read.
  Write(request);
  v1::ConverseResponse response;
  bool wanted = true;
  while (stream_->Read(&response)) {
    const v1::GenerateResponse& message = response.output();
    if (wanted && !on_message(message)) {
      wanted = false;
      CancelTurn();
    }
    if (message.has_finish_reason()) {
      if (last != nullptr) {
        *last = message;
      }
      return grpc::Status::OK;
    }
  }
  const grpc::Status status = Finish();
  return status.ok() ? grpc::Status(grpc::StatusCode::UNAVAILABLE,
                                    "the server closed the conversation before the turn's end")
                     : status;
}

void Conversation::CancelTurn() {
  v1::ConverseRequest request;
  request.mutable_cancel();
  Write(request);
}

grpc::Status Conversation::Finish() {
  if (finished_) {
    return status_;
  }
  {
    const std::lock_guard lock(write_mutex_);
    writes_done_ = true;
    stream_->WritesDone();
  }
  v1::ConverseResponse unread;
  while (stream_->Read(&unread)) {
  }
  finished_ = true;
  status_ = stream_->Finish();
  return status_;
}

grpc::Status Client::CreateSession(const v1::CreateSessionRequest& request, v1::Session* session) {
  grpc::ClientContext context;
  return sessions_->Create(&context, request, session);
}

grpc::Status Client::GetSession(const std::string& name, v1::Session* session) {
  grpc::ClientContext context;
  v1::GetSessionRequest request;
  request.set_name(name);
  return sessions_->Get(&context, request, session);
}

grpc::Status Client::ListSessions(uint32_t page_size, std::vector<v1::Session>* sessions) {
  sessions->clear();
  v1::ListSessionsRequest request;
  request.set_page_size(page_size);
  while (true) {
    grpc::ClientContext context;
    v1::ListSessionsResponse response;
    if (grpc::Status status = sessions_->List(&context, request, &response); !status.ok()) {
      return status;
    }
    sessions->insert(sessions->end(), response.sessions().begin(), response.sessions().end());
    if (response.next_page_token().empty()) {
      return grpc::Status::OK;
    }
    request.set_page_token(response.next_page_token());
  }
}

grpc::Status Client::DeleteSession(const std::string& name) {
  grpc::ClientContext context;
  v1::DeleteSessionRequest request;
  request.set_name(name);
  google::protobuf::Empty empty;
  return sessions_->Delete(&context, request, &empty);
}

grpc::Status Client::ListModels(std::vector<v1::Model>* models) {
  grpc::ClientContext context;
  v1::ListModelsResponse response;
  const grpc::Status status = models_->List(&context, v1::ListModelsRequest(), &response);
  models->assign(response.models().begin(), response.models().end());
  return status;
}

grpc::Status Client::GetModel(const std::string& name, v1::Model* model) {
  grpc::ClientContext context;
  v1::GetModelRequest request;
  request.set_name(name);
  return models_->Get(&context, request, model);
}

grpc::Status Client::Tokenize(const std::string& model, const std::string& text,
                              std::vector<uint32_t>* token_ids) {
  grpc::ClientContext context;
  v1::TokenizeRequest request;
  request.set_model(model);
  request.set_text(text);
  v1::TokenizeResponse response;
  const grpc::Status status = models_->Tokenize(&context, request, &response);
  token_ids->assign(response.token_ids().begin(), response.token_ids().end());
  return status;
}

grpc::Status Client::Detokenize(const std::string& model, const std::vector<uint32_t>& token_ids,
                                std::string* text) {
  grpc::ClientContext context;
  v1::DetokenizeRequest request;
  request.set_model(model);
  request.mutable_token_ids()->Assign(token_ids.begin(), token_ids.end());
  v1::DetokenizeResponse response;
  const grpc::Status status = models_->Detokenize(&context, request, &response);
  *text = response.text();
  return status;
}

}  // namespace eddy
