// SPDX-License-Identifier: Apache-2.0
#include "server/generation_service.h"

#include <chrono>
#include <type_traits>
#include <utility>

#include "server/convert.h"
#include "server/turn_reactor.h"
#include "server/wire_message.h"

namespace eddy {
namespace {

// A call that ends before it has begun.
class RefusedCall final : public grpc::ServerWriteReactor<grpc::ByteBuffer> {
 public:
  explicit RefusedCall(const grpc::Status& status) { Finish(status); }
  void OnDone() override { delete this; }
};

}  // namespace

template <typename Request, typename MakeMerger>
grpc::ServerWriteReactor<grpc::ByteBuffer>* GenerationService::StartTurn(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer& bytes,
    const MakeMerger& make_merger) {
  absl::StatusOr<Request> request = ParseMessage<Request>(bytes);
  absl::StatusOr<TurnRequest> turn =
      request.ok() ? ToTurnRequest(env_.rules, *request) : request.status();
  if (!turn.ok()) {
    env_.CountRefused(turn.status());
    return new RefusedCall(ToGrpc(turn.status()));
  }
  turn->deadline = ToDeadline(context->deadline(), std::chrono::system_clock::now(),
                              std::chrono::steady_clock::now());
  const auto merger = make_merger(*request, *turn);
  absl::StatusOr<std::shared_ptr<TokenStream>> stream = env_.engine.Submit(*std::move(turn));
  if (!stream.ok()) {
    return new RefusedCall(EndCall(context, stream.status(), env_.engine.RetryAfter()));
  }
  return TurnReactor<std::remove_const_t<decltype(merger)>>::Start(env_, context,
                                                                   *std::move(stream), merger);
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* GenerationService::Generate(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* bytes) {
  return StartTurn<v1::GenerateRequest>(context, *bytes,
                                        [](const v1::GenerateRequest&, const TurnRequest& turn) {
                                          return ChunkMerger(turn.sampling.seed);
                                        });
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* GenerationService::Score(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* bytes) {
  return StartTurn<v1::ScoreRequest>(
      context, *bytes, [this](const v1::ScoreRequest& request, const TurnRequest&) {
        return ScoreMerger(request.token_bytes() ? env_.rules.tokenizer : nullptr);
      });
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
