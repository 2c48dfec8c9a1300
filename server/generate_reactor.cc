// SPDX-License-Identifier: Apache-2.0
#include "server/generate_reactor.h"

#include <utility>

#include "server/convert.h"
#include "server/wire_message.h"

namespace eddy {

GenerateReactor* GenerateReactor::Start(ServiceEnv& env, grpc::CallbackServerContext* context,
                                        std::shared_ptr<TokenStream> stream, uint64_t seed) {
  std::shared_ptr<GenerateReactor> reactor(
      new GenerateReactor(env, context, std::move(stream), seed));
  reactor->self_ = reactor;
  reactor->stream_->SetReader(reactor);
  // Alive still: gRPC cannot be done with a reactor that it has not been given yet.
  return reactor.get();
}

GenerateReactor::GenerateReactor(ServiceEnv& env, grpc::CallbackServerContext* context,
                                 std::shared_ptr<TokenStream> stream, uint64_t seed)
    : env_(env), context_(context), stream_(std::move(stream)), merger_(seed) {}

void GenerateReactor::OnReady() { env_.delivery.Post(shared_from_this()); }

void GenerateReactor::Deliver() {
  if (turnstile_.Enter()) Pump();
}

void GenerateReactor::Pump() {
  do {
    stream_->Take(&taken_);
    if (!taken_.chunks.empty() || taken_.end) return Send();
  } while (!turnstile_.Leave());
}

// Nothing of *this may be touched after a Start... or Finish: its completion may run, and end the
// call, before it returns.
void GenerateReactor::Send() {
  if (!taken_.chunks.empty()) {
    merger_.Merge(taken_.chunks, &message_);
    SerializeMessage(message_, &bytes_);
  }
  if (!taken_.end) return StartWrite(&bytes_);
  const grpc::Status status = EndCall(context_, *taken_.end, env_.engine.RetryAfter());
  if (taken_.chunks.empty()) return Finish(status);
  StartWriteAndFinish(&bytes_, grpc::WriteOptions(), status);
}

void GenerateReactor::OnWriteDone(bool ok) {
  if (ok) return Pump();
  // The call is dead: nobody can be told how the turn ends.
  stream_->Cancel();
  Finish(grpc::Status(grpc::StatusCode::CANCELLED, "the call was cancelled."));
}

void GenerateReactor::OnCancel() { stream_->Cancel(); }

void GenerateReactor::OnDone() { self_.reset(); }

}  // namespace eddy
