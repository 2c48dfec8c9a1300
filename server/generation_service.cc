// SPDX-License-Identifier: Apache-2.0
#include "server/generation_service.h"

#include <chrono>
#include <utility>

#include "kernels/status_macros.h"
#include "server/convert.h"
#include "server/generate_reactor.h"
#include "server/wire_message.h"

namespace eddy {
namespace {

// A call that ends before it has begun.
class RefusedCall final : public grpc::ServerWriteReactor<grpc::ByteBuffer> {
 public:
  explicit RefusedCall(const grpc::Status& status) { Finish(status); }
  void OnDone() override { delete this; }
};

absl::StatusOr<TurnRequest> ReadRequest(const WireRules& rules, const grpc::ByteBuffer& bytes) {
  EDDY_ASSIGN_OR_RETURN(const v1::GenerateRequest request,
                        ParseMessage<v1::GenerateRequest>(bytes));
  return ToTurnRequest(rules, request);
}

}  // namespace

grpc::ServerWriteReactor<grpc::ByteBuffer>* GenerationService::Generate(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* bytes) {
  absl::StatusOr<TurnRequest> turn = ReadRequest(env_.rules, *bytes);
  if (!turn.ok()) {
    env_.CountRefused(turn.status());
    return new RefusedCall(ToGrpc(turn.status()));
  }
  turn->deadline = ToDeadline(context->deadline(), std::chrono::system_clock::now(),
                              std::chrono::steady_clock::now());
  const uint64_t seed = turn->sampling.seed;
  absl::StatusOr<std::shared_ptr<TokenStream>> stream = env_.engine.Submit(*std::move(turn));
  if (!stream.ok()) {
    return new RefusedCall(EndCall(context, stream.status(), env_.engine.RetryAfter()));
  }
  return GenerateReactor::Start(env_, context, *std::move(stream), seed);
}

grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* GenerationService::Converse(
    grpc::CallbackServerContext* context) {
  std::shared_ptr<ConverseReactor> reactor = ConverseReactor::Start(env_, context);
  bool draining = false;
  {
    absl::MutexLock lock(&mutex_);
    draining = draining_;
    if (conversations_.size() == conversations_.capacity()) {
      std::erase_if(conversations_, [](const auto& weak) { return weak.expired(); });
    }
    conversations_.push_back(reactor);
  }
  if (draining) reactor->Drain();
  return reactor.get();
}

void GenerationService::DrainConversations() {
  std::vector<std::weak_ptr<ConverseReactor>> conversations;
  {
    absl::MutexLock lock(&mutex_);
    draining_ = true;
    conversations.swap(conversations_);
  }
  for (const std::weak_ptr<ConverseReactor>& weak : conversations) {
    if (std::shared_ptr<ConverseReactor> reactor = weak.lock()) reactor->Drain();
  }
}

}  // namespace eddy
