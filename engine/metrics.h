// SPDX-License-Identifier: Apache-2.0
// What the engine counts. One writer (the step thread) for all but the counters said; any thread
// reads. No locks: plain atomics with relaxed order. The server turns them into a Prometheus page.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

namespace eddy {

class Counter {
 public:
  void Add(int64_t amount) { value_.fetch_add(amount, std::memory_order_relaxed); }
  int64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<int64_t> value_{0};
};

class Gauge {
 public:
  void Set(int64_t value) { value_.store(value, std::memory_order_relaxed); }
  int64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<int64_t> value_{0};
};

// Cumulative histogram with fixed upper bounds (the last bucket is +Inf). Observe: the step thread
// only.
class Histogram {
 public:
  explicit Histogram(std::span<const double> bounds);
  void Observe(double value);

  std::span<const double> bounds() const { return bounds_; }
  // Of bucket i alone, not cumulative; i == bounds().size() is +Inf.
  int64_t bucket_count(size_t i) const { return counts_[i].load(std::memory_order_relaxed); }
  double sum() const { return sum_.load(std::memory_order_relaxed); }

 private:
  const std::vector<double> bounds_;
  std::vector<std::atomic<int64_t>> counts_;
  std::atomic<double> sum_{0};
};

struct EngineMetrics {
  EngineMetrics();

  // Seconds.
  Histogram time_to_first_token;
  Histogram inter_token_latency;
  Histogram request_queue_time;
  Histogram request_prefill_time;
  Histogram request_decode_time;
  Histogram e2e_request_latency;
  Histogram step_time;
  Histogram state_move_out;  // pool to host
  Histogram state_move_in;   // host to pool
  // Counts per step.
  Histogram batch_rows;
  Histogram iteration_tokens;

  Counter prompt_tokens;      // read by steps
  Counter generation_tokens;  // generated
  Counter scored_tokens;      // whose log-probabilities were told, without being generated
  Counter prefix_reuse_tokens;
  std::array<Counter, 7> finished;  // by FinishReason
  std::array<Counter, 17> failed;   // turns by absl::StatusCode; refused ones too, from any thread
  Counter stream_parked;            // turns that were parked for a slow reader
  Gauge requests_running;
  Gauge requests_waiting;
  Gauge slots_used;  // by running turns
  Gauge slots_idle;  // by sessions between turns
  Gauge slots_free;
  Gauge sessions_active;
  Gauge sessions_resident;
  Gauge sessions_evicted;
  Gauge host_state_bytes;
};

}  // namespace eddy
