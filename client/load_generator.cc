// SPDX-License-Identifier: Apache-2.0
#include "client/load_generator.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "client/failure.h"
#include "client/turn_clock.h"

namespace eddy {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds kProgressEvery{200};
// How late a paused stream may start again.
constexpr milliseconds kWakeEvery{20};

double ElapsedMs(steady_clock::time_point begin, steady_clock::time_point end) {
  return std::chrono::duration<double, std::milli>(end - begin).count();
}

steady_clock::time_point After(steady_clock::time_point start, double seconds) {
  return start +
         std::chrono::duration_cast<steady_clock::duration>(std::chrono::duration<double>(seconds));
}

}  // namespace

// One call: sends its request and reads to the end, on gRPC's callback threads, one at a time. Its
// samples are its own until it is done, so that messages take no lock.
class LoadGenerator::Call : public grpc::ClientReadReactor<v1::GenerateResponse> {
 public:
  struct Record {
    Clock::time_point begin;
    Samples time_to_first_token_ms;
    Samples inter_token_ms;
    Samples message_gap_ms;
    v1::FinishReason finish_reason = v1::FINISH_REASON_UNSPECIFIED;
    int64_t prompt_tokens = 0;
  };

  Call(LoadGenerator& generator, int64_t index) : index_(index), generator_(generator) {}

  // `due`: when it should have begun; nothing: when it is sent.
  void Start(std::optional<Clock::time_point> due) {
    request_ = generator_.make_request_(index_);
    if (generator_.options_.deadline_ms > 0) {
      context_.set_deadline(std::chrono::system_clock::now() +
                            milliseconds(generator_.options_.deadline_ms));
    }
    const size_t stub = static_cast<size_t>(index_) % generator_.stubs_.size();
    generator_.stubs_[stub]->async()->Generate(&context_, &request_, this);
    StartRead(&message_);
    record_.begin = due.value_or(Clock::now());
    StartCall();
  }

  void Cancel() { context_.TryCancel(); }

  void OnReadDone(bool ok) override {
    if (!ok) {
      return;
    }
    if (message_.token_ids_size() > 0) {
      OnTokenMessage(Clock::now(), message_.token_ids_size());
    }
    if (message_.has_finish_reason()) {
      record_.finish_reason = message_.finish_reason();
      record_.prompt_tokens = message_.usage().prompt_tokens();
    }
    StartRead(&message_);
  }

  void OnDone(const grpc::Status& status) override { generator_.OnCallDone(*this, status); }

  // After OnDone.
  const Record& record() const { return record_; }

 private:
  void OnTokenMessage(Clock::time_point now, int64_t count) {
    if (last_message_) {
      const double gap_ms = ElapsedMs(*last_message_, now);
      record_.message_gap_ms.Add(gap_ms);
      record_.inter_token_ms.Add(gap_ms / static_cast<double>(count), count);
    } else {
      record_.time_to_first_token_ms.Add(ElapsedMs(record_.begin, now));
    }
    last_message_ = now;
    generator_.OnTokens(count);
  }

  const int64_t index_;
  LoadGenerator& generator_;
  Record record_;
  grpc::ClientContext context_;
  v1::GenerateRequest request_;
  v1::GenerateResponse message_;
  std::optional<Clock::time_point> last_message_;
};

LoadGenerator::LoadGenerator(const LoadOptions& options,
                             std::vector<std::shared_ptr<grpc::Channel>> channels,
                             MakeRequest make_request)
    : options_(options),
      make_request_(std::move(make_request)),
      arrivals_(options.rate_per_s, options.seed) {
  for (const std::shared_ptr<grpc::Channel>& channel : channels) {
    stubs_.push_back(v1::Generation::NewStub(channel));
  }
}

LoadGenerator::~LoadGenerator() = default;

LoadResult LoadGenerator::Run(const OnProgress& on_progress) {
  const bool open_loop = options_.rate_per_s > 0;
  start_ = Clock::now();
  next_arrival_ = open_loop ? After(start_, arrivals_.NextSeconds()) : Clock::time_point::max();
  const Clock::time_point end =
      options_.duration_s > 0 ? After(start_, options_.duration_s) : Clock::time_point::max();
  Clock::time_point next_progress = start_;
  std::unique_lock lock(mutex_);
  if (!open_loop) {
    paused_until_.assign(static_cast<size_t>(options_.stream_count), start_);
  }
  while (!Over()) {
    const Clock::time_point now = Clock::now();
    if (now >= end) {
      stopping_ = true;
      break;
    }
    lock.unlock();
    const Clock::time_point next = open_loop ? StartDueArrivals(now) : StartPausedStreams(now);
    DestroyEndedCalls();
    if (on_progress && now >= next_progress) {
      on_progress(Progress(now));
      next_progress = now + kProgressEvery;
    }
    lock.lock();
    over_.wait_until(lock, std::min({next, end, now + kWakeEvery}), [this] { return Over(); });
  }
  stopping_ = true;
  result_.elapsed_s = ElapsedMs(start_, Clock::now()) / 1000;
  result_.generated_tokens = live_tokens_.load();
  lock.unlock();
  CutRunningCalls();
  lock.lock();
  over_.wait(lock, [this] { return running_.empty(); });
  lock.unlock();
  DestroyEndedCalls();
  return std::move(result_);
}

void LoadGenerator::Stop() {
  const std::lock_guard lock(mutex_);
  stopping_ = true;
  over_.notify_all();
}

LoadGenerator::Call& LoadGenerator::AddCall() {
  auto call = std::make_unique<Call>(*this, arrived_++);
  Call& added = *call;
  running_[&added] = std::move(call);
  ++result_.started;
  return added;
}

LoadGenerator::Clock::time_point LoadGenerator::StartDueArrivals(Clock::time_point now) {
  while (next_arrival_ <= now) {
    Call* call = nullptr;
    {
      const std::lock_guard lock(mutex_);
      if (!MayStart()) {
        return Clock::time_point::max();
      }
      if (static_cast<int>(running_.size()) < options_.running_max) {
        call = &AddCall();
      } else {
        ++arrived_;
        ++result_.not_sent;
      }
    }
    if (call != nullptr) {
      call->Start(next_arrival_);
    }
    next_arrival_ = After(start_, arrivals_.NextSeconds());
  }
  return next_arrival_;
}

LoadGenerator::Clock::time_point LoadGenerator::StartPausedStreams(Clock::time_point now) {
  while (true) {
    Call* call = nullptr;
    {
      const std::lock_guard lock(mutex_);
      if (!MayStart() || paused_until_.empty()) {
        return Clock::time_point::max();
      }
      if (paused_until_.front() > now) {
        return paused_until_.front();
      }
      paused_until_.pop_front();
      call = &AddCall();
    }
    call->Start(std::nullopt);
  }
}

void LoadGenerator::OnCallDone(Call& call, const grpc::Status& status) {
  // Once the lock is dropped `call` may be gone, and, where no other runs, this generator with it:
  // from there on only `next` is touched, which runs until it has been started.
  Call* next = nullptr;
  {
    const std::lock_guard lock(mutex_);
    Merge(call, status);
    ended_.push_back(std::move(running_.extract(&call).mapped()));
    if (options_.rate_per_s <= 0 && MayStart()) {
      if (status.ok()) {
        next = &AddCall();
      } else {
        paused_until_.push_back(Clock::now() + milliseconds(options_.failure_pause_ms));
      }
    }
    if (stopping_ || Over()) {
      over_.notify_all();
    }
  }
  if (next != nullptr) {
    next->Start(std::nullopt);
  }
}

void LoadGenerator::Merge(const Call& call, const grpc::Status& status) {
  const Call::Record& record = call.record();
  result_.time_to_first_token_ms.Append(record.time_to_first_token_ms);
  result_.inter_token_ms.Append(record.inter_token_ms);
  result_.message_gap_ms.Append(record.message_gap_ms);
  if (status.ok()) {
    result_.end_to_end_ms.Add(ElapsedMs(record.begin, Clock::now()));
    result_.prompt_tokens += record.prompt_tokens;
    ++result_.finished_by_reason[FinishReasonWord(record.finish_reason)];
  } else if (stopping_ && status.error_code() == grpc::StatusCode::CANCELLED) {
    ++result_.cut;
  } else {
    const std::string code = StatusCodeName(status.error_code());
    ++result_.failed_by_code[code];
    result_.failure_by_code.try_emplace(code, status.error_message());
    ++failed_;
  }
}

bool LoadGenerator::MayStart() const {
  return !stopping_ && (options_.request_count == 0 || arrived_ < options_.request_count);
}

bool LoadGenerator::Over() const { return stopping_ || (!MayStart() && running_.empty()); }

LoadProgress LoadGenerator::Progress(Clock::time_point now) {
  const std::lock_guard lock(mutex_);
  LoadProgress progress;
  progress.elapsed_s = ElapsedMs(start_, now) / 1000;
  progress.running = static_cast<int64_t>(running_.size());
  progress.finished = result_.finished();
  progress.failed = failed_;
  progress.generated_tokens = live_tokens_.load();
  return progress;
}

void LoadGenerator::DestroyEndedCalls() {
  std::vector<std::unique_ptr<Call>> calls;
  const std::lock_guard lock(mutex_);
  calls.swap(ended_);
}

void LoadGenerator::CutRunningCalls() {
  std::vector<Call*> calls;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [call, unused] : running_) {
      calls.push_back(call);
    }
  }
  // Without the lock: what ends here may call OnCallDone on this very thread. A call that has ended
  // meanwhile is there still: this thread destroys it.
  for (Call* const call : calls) {
    call->Cancel();
  }
}

}  // namespace eddy
