// SPDX-License-Identifier: Apache-2.0
// eddy-bare-server: a Generation service with nothing behind it, the yardstick of what gRPC itself
// can do. Every call gets max_tokens messages of one token each, as fast as gRPC takes them, from
// bytes that are made once. `eddy bench` drives it like an eddy-server.
//
// usage: eddy-bare-server   (listens on a free port of 127.0.0.1 and prints it; ends with its
// stdin)
#include <grpcpp/grpcpp.h>

#include <cstdio>
#include <memory>
#include <string>

#include "eddy/v1/generation.grpc.pb.h"
#include "eddy/v1/models.grpc.pb.h"

namespace eddy {
namespace {

using RawGeneration = v1::Generation::WithRawCallbackMethod_Generate<v1::Generation::Service>;

grpc::ByteBuffer BytesOf(const google::protobuf::MessageLite& message) {
  const grpc::Slice slice(message.SerializeAsString());
  return grpc::ByteBuffer(&slice, 1);
}

class BareCall final : public grpc::ServerWriteReactor<grpc::ByteBuffer> {
 public:
  BareCall(const grpc::ByteBuffer& token, const grpc::ByteBuffer& last, uint32_t token_count)
      : token_(token), last_(last), left_(token_count) {
    Next();
  }

  void OnWriteDone(bool ok) override {
    if (!ok) return Finish(grpc::Status::CANCELLED);
    Next();
  }
  void OnDone() override { delete this; }

 private:
  void Next() {
    if (--left_ > 0) return StartWrite(&token_);
    StartWriteAndFinish(&last_, grpc::WriteOptions(), grpc::Status::OK);
  }

  grpc::ByteBuffer token_;
  grpc::ByteBuffer last_;
  uint32_t left_;
};

class BareGeneration final : public RawGeneration {
 public:
  BareGeneration() {
    v1::GenerateResponse message;
    message.set_position(1000);
    message.add_token_ids(101);
    message.set_text("e");
    token_ = BytesOf(message);
    message.set_finish_reason(v1::FINISH_REASON_LENGTH);
    last_ = BytesOf(message);
  }

  grpc::ServerWriteReactor<grpc::ByteBuffer>* Generate(grpc::CallbackServerContext* /*context*/,
                                                       const grpc::ByteBuffer* bytes) override {
    grpc::ByteBuffer copy = *bytes;  // of the reference; parsing clears it
    v1::GenerateRequest request;
    if (!grpc::SerializationTraits<v1::GenerateRequest>::Deserialize(&copy, &request).ok()) {
      request.Clear();
    }
    const uint32_t wanted = request.stop().max_tokens();
    return new BareCall(token_, last_, wanted == 0 ? 1 : wanted);
  }

 private:
  grpc::ByteBuffer token_;
  grpc::ByteBuffer last_;
};

// `eddy bench` asks for the vocabulary.
class BareModels final : public v1::Models::Service {
 public:
  grpc::Status Get(grpc::ServerContext* /*context*/, const v1::GetModelRequest* /*request*/,
                   v1::Model* model) override {
    model->set_name("bare");
    model->set_vocabulary_size(256);
    return grpc::Status::OK;
  }
};

int Serve() {
  BareGeneration service;
  BareModels models;
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&service);
  builder.RegisterService(&models);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr || port == 0) {
    std::fprintf(stderr, "eddy-bare-server: cannot listen on 127.0.0.1\n");
    return 1;
  }
  std::printf("127.0.0.1:%d\n", port);
  std::fflush(stdout);
  while (std::getchar() != EOF) {
  }
  server->Shutdown(std::chrono::system_clock::now());
  return 0;
}

}  // namespace
}  // namespace eddy

int main() { return eddy::Serve(); }
