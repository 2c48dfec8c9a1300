// SPDX-License-Identifier: Apache-2.0
#include "server/turn_reactor.h"

#include <utility>

#include "server/convert.h"
#include "server/wire_message.h"

namespace eddy {

template <typename Merger>
TurnReactor<Merger>* TurnReactor<Merger>::Start(ServiceEnv& env,
                                                grpc::CallbackServerContext* context,
                                                std::shared_ptr<TokenStream> stream,
                                                const Merger& merger) {
  std::shared_ptr<TurnReactor> reactor(new TurnReactor(env, context, std::move(stream), merger));
  reactor->self_ = reactor;
  reactor->stream_->SetReader(reactor);
  // Alive still: gRPC cannot be done with a reactor that it has not been given yet.
  return reactor.get();
}

template <typename Merger>
TurnReactor<Merger>::TurnReactor(ServiceEnv& env, grpc::CallbackServerContext* context,
                                 std::shared_ptr<TokenStream> stream, const Merger& merger)
    : env_(env), context_(context), stream_(std::move(stream)), merger_(merger) {}

template <typename Merger>
void TurnReactor<Merger>::OnReady() {
  env_.delivery.Post(this->shared_from_this());
}

template <typename Merger>
void TurnReactor<Merger>::Deliver() {
  if (turnstile_.Enter()) Pump();
}

template <typename Merger>
void TurnReactor<Merger>::Pump() {
  do {
    stream_->Take(&taken_);
    if (!taken_.chunks.empty() || taken_.end) return Send();
  } while (!turnstile_.Leave());
}

// Nothing of *this may be touched after a Start... or Finish: its completion may run, and end the
// call, before it returns.
template <typename Merger>
void TurnReactor<Merger>::Send() {
  if (!taken_.chunks.empty()) {
    merger_.Merge(taken_.chunks, &message_);
    SerializeMessage(message_, &bytes_);
  }
  if (!taken_.end) return StartWrite(&bytes_);
  const grpc::Status status = EndCall(context_, *taken_.end, env_.engine.RetryAfter());
  if (taken_.chunks.empty()) return Finish(status);
  StartWriteAndFinish(&bytes_, grpc::WriteOptions(), status);
}

template <typename Merger>
void TurnReactor<Merger>::OnWriteDone(bool ok) {
  if (ok) return Pump();
  // The call is dead: nobody can be told how the turn ends.
  stream_->Cancel();
  Finish(grpc::Status(grpc::StatusCode::CANCELLED, "the call was cancelled."));
}

template <typename Merger>
void TurnReactor<Merger>::OnCancel() {
  stream_->Cancel();
}

template <typename Merger>
void TurnReactor<Merger>::OnDone() {
  self_.reset();
}

template class TurnReactor<ChunkMerger>;
template class TurnReactor<ScoreMerger>;

}  // namespace eddy
