// SPDX-License-Identifier: Apache-2.0
// Load on a server, and how it answers.
#pragma once

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "client/arrivals.h"
#include "client/samples.h"
#include "eddy/v1/generation.grpc.pb.h"

namespace eddy {

struct LoadOptions {
  // Closed loop: so many streams, each sends its next request when its last ends.
  int stream_count = 1;
  // > 0: open loop instead. Requests come as a Poisson process, whether or not earlier ones have
  // ended.
  double rate_per_s = 0;
  // Open loop: requests that come while so many run are not sent, and counted as such.
  int running_max = 4096;
  // A stream of the closed loop whose call was refused or failed waits so long before its next.
  int failure_pause_ms = 100;
  // Requests in all; 0: no limit.
  int64_t request_count = 0;
  // Seconds until the run ends and what still runs is cut; 0: no limit.
  double duration_s = 0;
  // Each call's deadline; 0: none.
  int deadline_ms = 0;
  // Of the arrivals.
  uint64_t seed = 1;
};

// Where a run stands.
struct LoadProgress {
  double elapsed_s = 0;
  int64_t running = 0;
  int64_t finished = 0;
  int64_t failed = 0;
  int64_t generated_tokens = 0;
};

// What a run gave. Times are milliseconds by the client's steady clock. A call begins when it is
// sent; in an open loop when it was due, so that a client or server that falls behind is seen and
// not forgiven.
struct LoadResult {
  // From the call's beginning to the first message with a token.
  Samples time_to_first_token_ms;
  // One sample for each token after those of the first message: a message with k tokens that comes
  // t after the message before it counts k intervals of t / k.
  Samples inter_token_ms;
  // Between messages with tokens, undivided: the pauses a reader sees.
  Samples message_gap_ms;
  // From the call's beginning to its end; calls that finished well.
  Samples end_to_end_ms;

  int64_t started = 0;
  // Calls that finished well, by finish reason in lower case.
  std::map<std::string, int64_t> finished_by_reason;
  // Refused and failed calls by code, and the first sentence of each.
  std::map<std::string, int64_t> failed_by_code;
  std::map<std::string, std::string> failure_by_code;
  // Calls that ran when the run ended.
  int64_t cut = 0;
  // Open loop: due but not sent, since running_max were running.
  int64_t not_sent = 0;
  // Of all calls, also of cut and failed ones.
  int64_t generated_tokens = 0;
  // Of calls that finished well.
  int64_t prompt_tokens = 0;
  double elapsed_s = 0;

  int64_t finished() const { return end_to_end_ms.count(); }
};

// Runs one load, once, over some channels in turn. The thread that calls Run starts calls and
// waits; gRPC's few callback threads receive them all, so that thousands of streams need no threads
// of their own.
class LoadGenerator {
 public:
  // Gives request number `index`, from 0. Called by several threads at once.
  using MakeRequest = std::function<v1::GenerateRequest(int64_t index)>;
  using OnProgress = std::function<void(const LoadProgress&)>;

  LoadGenerator(const LoadOptions& options, std::vector<std::shared_ptr<grpc::Channel>> channels,
                MakeRequest make_request);
  ~LoadGenerator();
  LoadGenerator(const LoadGenerator&) = delete;
  LoadGenerator& operator=(const LoadGenerator&) = delete;

  // Blocks until the run is over. Calls `on_progress` (may be null) about five times a second on
  // this thread.
  LoadResult Run(const OnProgress& on_progress);

  // Any thread: ends the run now, as its duration would.
  void Stop();

 private:
  using Clock = std::chrono::steady_clock;
  class Call;

  // Registers a call; the caller starts it after it has dropped mutex_.
  Call& AddCall();
  void OnTokens(int64_t count) { live_tokens_.fetch_add(count, std::memory_order_relaxed); }
  void OnCallDone(Call& call, const grpc::Status& status);
  void Merge(const Call& call, const grpc::Status& status);
  // Start what is due and give the time when the next is.
  Clock::time_point StartDueArrivals(Clock::time_point now);
  Clock::time_point StartPausedStreams(Clock::time_point now);
  bool MayStart() const;
  bool Over() const;
  LoadProgress Progress(Clock::time_point now);
  void DestroyEndedCalls();
  void CutRunningCalls();

  // Constant after construction.
  const LoadOptions options_;
  const MakeRequest make_request_;
  std::vector<std::unique_ptr<v1::Generation::Stub>> stubs_;

  // Run's thread only.
  Clock::time_point start_;
  PoissonArrivals arrivals_;
  Clock::time_point next_arrival_;

  std::atomic<int64_t> live_tokens_{0};
  std::mutex mutex_;
  std::condition_variable over_;
  // Guarded by mutex_.
  bool stopping_ = false;
  int64_t arrived_ = 0;
  int64_t failed_ = 0;
  std::deque<Clock::time_point> paused_until_;
  std::unordered_map<Call*, std::unique_ptr<Call>> running_;
  // Run's thread alone destroys calls. A call's context keeps its channel, and the last to drop a
  // channel waits for gRPC's callback threads: a callback would wait for itself.
  std::vector<std::unique_ptr<Call>> ended_;
  LoadResult result_;
};

}  // namespace eddy
