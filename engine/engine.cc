// SPDX-License-Identifier: Apache-2.0
#include "engine/engine.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/engine_core.h"
#include "engine/mutex.h"
#include "engine/request_check.h"
#include "engine/submit_queue.h"
#include "kernels/status_macros.h"

namespace eddy {
namespace {

// A scored token with its alternatives is as large as many generated ones.
int StreamCapacity(const TurnRequest& request, const EngineOptions& options) {
  if (!request.scores) return options.stream_capacity;
  constexpr int32_t kLogProbsMax = 1 << 16;
  return std::min(options.stream_capacity, kLogProbsMax / (1 + request.alternative_count));
}

}  // namespace

class Engine::Impl {
 public:
  // The step thread. The phases of one step: EngineCore::Step, at the top of engine_core.cc.
  void StepLoop() {
    std::vector<Arrival> arrivals;
    bool moved = false;
    while (!Drained()) {
      queue->Wait(core->waiting_count(), moved ? Duration::zero() : UntilNextEvent(), &arrivals);
      moved = core->Step(&arrivals);
      if (!core->health().ok()) {
        queue->RefuseTurns(core->health());
        healthy.store(false, std::memory_order_relaxed);
      }
    }
    queue->Close(absl::UnavailableError("The server has shut down."), &arrivals);
    core->CancelAll(&arrivals);
  }

  // True when Shutdown was called and nothing is left, or its time is over.
  bool Drained() const {
    const Duration::rep until = drain_until.load(std::memory_order_acquire);
    if (until == kNever) return false;
    if (core->turn_count() == 0 && queue->empty()) return true;
    return options.clock().time_since_epoch().count() >= until;
  }

  std::optional<Duration> UntilNextEvent() const {
    std::optional<TimePoint> next = core->NextEvent();
    const Duration::rep until = drain_until.load(std::memory_order_acquire);
    if (until != kNever) {
      const TimePoint drain{Duration(until)};
      next = next.has_value() ? std::min(*next, drain) : drain;
    }
    if (!next.has_value()) return std::nullopt;
    return std::max(*next - options.clock(), Duration::zero());
  }

  static constexpr Duration::rep kNever = std::numeric_limits<Duration::rep>::max();

  // Constant after Make.
  EngineOptions options;
  std::shared_ptr<const Tokenizer> tokenizer;
  EngineMetrics metrics;
  RequestLimits limits;
  TurnContext context;
  // Streams hold it, too: a reader may wake the step thread after the engine has gone.
  std::shared_ptr<SubmitQueue> queue;
  std::unique_ptr<EngineCore> core;  // step thread only, but for constant parts and what is said

  std::atomic<Duration::rep> drain_until{kNever};  // of the clock; kNever: not draining
  std::atomic<bool> healthy{true};
  Mutex join_mutex;
  std::thread step_thread ABSL_GUARDED_BY(join_mutex);
};

absl::StatusOr<std::unique_ptr<Engine>> Engine::Make(std::unique_ptr<Backend> backend,
                                                     std::unique_ptr<Model> model,
                                                     std::shared_ptr<const Tokenizer> tokenizer,
                                                     EngineOptions options) {
  EDDY_RETURN_IF_ERROR(CheckEngineOptions(options));
  if (tokenizer != nullptr && tokenizer->vocabulary_size() > model->info().vocabulary_size) {
    return absl::FailedPreconditionError(
        absl::StrCat("The tokenizer has ", tokenizer->vocabulary_size(), " tokens, model ",
                     model->info().name, " only ", model->info().vocabulary_size, "."));
  }
  auto impl = std::make_unique<Impl>();
  EDDY_ASSIGN_OR_RETURN(
      impl->core, EngineCore::Make(std::move(backend), std::move(model), options, impl->metrics));
  impl->options = impl->core->options();
  impl->tokenizer = std::move(tokenizer);
  const ModelInfo& info = impl->core->model().info();
  impl->limits = {.vocabulary_size = info.vocabulary_size,
                  .position_max = info.position_max,
                  .prompt_token_count_max = options.prompt_token_count_max,
                  .score_token_count_max = options.score_token_count_max,
                  .has_tokenizer = impl->tokenizer != nullptr,
                  .is_mixture = info.mixture_size > 0,
                  .end_of_text_ids = info.end_of_text_ids};
  impl->context = {.model = &info, .tokenizer = impl->tokenizer.get(), .metrics = &impl->metrics};
  impl->queue = std::make_shared<SubmitQueue>(options.submit_queue_capacity);
  std::unique_ptr<Engine> engine(new Engine(std::move(impl)));
  Impl* started = engine->impl_.get();
  MutexLock lock(&started->join_mutex);
  started->step_thread = std::thread([started] { started->StepLoop(); });
  return engine;
}

Engine::Engine(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Engine::~Engine() { Shutdown(Duration::zero()); }

absl::StatusOr<std::shared_ptr<TokenStream>> Engine::Submit(TurnRequest request) {
  absl::Status status = CheckTurnRequest(request, impl_->limits);
  if (status.ok()) {
    auto stream = std::make_shared<TokenStream>(StreamCapacity(request, impl_->options),
                                                [queue = impl_->queue] { queue->Wake(); });
    status = impl_->queue->PushTurn(
        std::make_unique<Turn>(impl_->context, std::move(request), stream, impl_->options.clock()));
    if (status.ok()) return stream;
  }
  impl_->metrics.failed[static_cast<size_t>(status.code())].Add(1);
  return status;
}

void Engine::CreateSession(std::string name,
                           std::function<void(absl::StatusOr<SessionInfo>)> done) {
  if (absl::Status status = CheckSessionName(name); !status.ok()) return done(std::move(status));
  const absl::Status pushed = impl_->queue->PushCommand(
      [name = std::move(name), done](EngineCore& core) { done(core.CreateSession(name)); });
  if (!pushed.ok()) done(pushed);
}

void Engine::GetSession(std::string name, std::function<void(absl::StatusOr<SessionInfo>)> done) {
  const absl::Status pushed = impl_->queue->PushCommand(
      [name = std::move(name), done](EngineCore& core) { done(core.GetSession(name)); });
  if (!pushed.ok()) done(pushed);
}

void Engine::DeleteSession(std::string name, std::function<void(absl::Status)> done) {
  const absl::Status pushed = impl_->queue->PushCommand(
      [name = std::move(name), done](EngineCore& core) { done(core.DeleteSession(name)); });
  if (!pushed.ok()) done(pushed);
}

void Engine::ListSessions(std::string after, int limit,
                          std::function<void(absl::StatusOr<SessionPage>)> done) {
  limit = std::max(limit, 1);
  const absl::Status pushed =
      impl_->queue->PushCommand([after = std::move(after), limit, done](EngineCore& core) {
        // One more than asked for tells whether there is a next page.
        SessionPage page{.sessions = core.ListSessions(after, limit + 1), .next_after = {}};
        if (static_cast<int>(page.sessions.size()) > limit) {
          page.sessions.pop_back();
          page.next_after = page.sessions.back().name;
        }
        done(std::move(page));
      });
  if (!pushed.ok()) done(pushed);
}

Duration Engine::RetryAfter() const {
  constexpr Duration kLeast = std::chrono::milliseconds(10);
  constexpr Duration kMost = std::chrono::seconds(30);
  const Duration turn_time = impl_->core->AverageTurnTime();
  if (turn_time == Duration::zero()) return std::chrono::seconds(1);
  // A place in the queue comes free when a running turn ends; wait for a few of them.
  const int64_t running = std::max<int64_t>(impl_->metrics.requests_running.value(), 1);
  return std::clamp(turn_time * 4 / running, kLeast, kMost);
}

const ModelInfo& Engine::model_info() const { return impl_->core->model().info(); }
const BackendInfo& Engine::backend_info() const { return impl_->core->backend().info(); }
int64_t Engine::state_bytes() const { return impl_->core->model().state_layout().bytes(); }
const EngineOptions& Engine::options() const { return impl_->options; }
const Tokenizer* Engine::tokenizer() const { return impl_->tokenizer.get(); }
const EngineMetrics& Engine::metrics() const { return impl_->metrics; }
bool Engine::healthy() const { return impl_->healthy.load(std::memory_order_relaxed); }

void Engine::Shutdown(Duration grace) {
  const Duration::rep now = impl_->options.clock().time_since_epoch().count();
  const Duration::rep left = std::max(grace, Duration::zero()).count();
  const Duration::rep until = left >= Impl::kNever - 1 - now ? Impl::kNever - 1 : now + left;
  // A later call may only shorten the time.
  Duration::rep earlier = impl_->drain_until.load(std::memory_order_relaxed);
  while (until < earlier &&
         !impl_->drain_until.compare_exchange_weak(earlier, until, std::memory_order_acq_rel)) {
  }
  impl_->queue->RefuseTurns(absl::UnavailableError("The server is draining; ask another one."));
  MutexLock lock(&impl_->join_mutex);
  if (impl_->step_thread.joinable()) impl_->step_thread.join();
}

}  // namespace eddy
