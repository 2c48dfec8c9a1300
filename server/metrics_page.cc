// SPDX-License-Identifier: Apache-2.0
#include "server/metrics_page.h"

#include <limits>
#include <string>
#include <utility>

#include "absl/status/status.h"

namespace eddy {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

constexpr std::array<const char*, 7> kFinishReasons = {
    "none", "end_of_text", "stop_sequence", "length", "cancelled", "deadline", "scored"};

// Gathers families; every metric carries the model's name.
class Page {
 public:
  explicit Page(std::string model_name) : model_name_(std::move(model_name)) {}

  struct Labels {
    std::vector<ClientMetric::Label> list;
  };

  void Begin(const char* name, MetricType type, const char* help) {
    families_.push_back({std::string("eddy_") + name, help, type, {}});
  }
  void Counter(double value, Labels labels = {}) { Add(std::move(labels)).counter.value = value; }
  void Gauge(double value, Labels labels = {}) { Add(std::move(labels)).gauge.value = value; }
  void Histogram(const eddy::Histogram& histogram, Labels labels = {}) {
    ClientMetric::Histogram& out = Add(std::move(labels)).histogram;
    uint64_t count = 0;
    for (size_t i = 0; i <= histogram.bounds().size(); ++i) {
      count += static_cast<uint64_t>(histogram.bucket_count(i));
      const double bound = i < histogram.bounds().size() ? histogram.bounds()[i]
                                                         : std::numeric_limits<double>::infinity();
      out.bucket.push_back({count, bound});
    }
    out.sample_count = count;
    out.sample_sum = histogram.sum();
  }

  // Families of one metric without further labels.
  void OneCounter(const char* name, const eddy::Counter& counter, const char* help) {
    Begin(name, MetricType::Counter, help);
    Counter(static_cast<double>(counter.value()));
  }
  void OneGauge(const char* name, int64_t value, const char* help) {
    Begin(name, MetricType::Gauge, help);
    Gauge(static_cast<double>(value));
  }
  void OneHistogram(const char* name, const eddy::Histogram& histogram, const char* help) {
    Begin(name, MetricType::Histogram, help);
    Histogram(histogram);
  }

  std::vector<MetricFamily> Take() { return std::move(families_); }

 private:
  ClientMetric& Add(Labels labels) {
    ClientMetric& metric = families_.back().metric.emplace_back();
    metric.label = std::move(labels.list);
    metric.label.push_back({"model_name", model_name_});
    return metric;
  }

  const std::string model_name_;
  std::vector<MetricFamily> families_;
};

void AddLatencies(const EngineMetrics& metrics, Page* page) {
  page->OneHistogram("time_to_first_token_seconds", metrics.time_to_first_token,
                     "From a turn's arrival to its first token.");
  page->OneHistogram("inter_token_latency_seconds", metrics.inter_token_latency,
                     "Between two tokens of a turn.");
  page->OneHistogram("request_queue_time_seconds", metrics.request_queue_time,
                     "From a turn's arrival to its first step.");
  page->OneHistogram("request_prefill_time_seconds", metrics.request_prefill_time,
                     "From a turn's first step to its first token.");
  page->OneHistogram("request_decode_time_seconds", metrics.request_decode_time,
                     "From a turn's first token to its last.");
  page->OneHistogram("e2e_request_latency_seconds", metrics.e2e_request_latency,
                     "From a turn's arrival to its end.");
  page->OneHistogram("step_time_seconds", metrics.step_time, "Of one step of the whole batch.");
  page->OneHistogram("batch_rows", metrics.batch_rows, "Sessions moved by one step.");
  page->OneHistogram("iteration_tokens_total", metrics.iteration_tokens,
                     "Tokens read by one step, prompts and generated ones.");
}

void AddRequests(const EngineMetrics& metrics, const std::array<Counter, 17>& refused, Page* page) {
  page->OneGauge("num_requests_running", metrics.requests_running.value(),
                 "Turns that have a slot.");
  page->OneGauge("num_requests_waiting", metrics.requests_waiting.value(),
                 "Turns that wait for a slot or for their session.");
  page->OneCounter("prompt_tokens_total", metrics.prompt_tokens, "Prompt tokens read by steps.");
  page->OneCounter("generation_tokens_total", metrics.generation_tokens, "Tokens generated.");
  page->OneCounter("scored_tokens_total", metrics.scored_tokens,
                   "Tokens whose log-probabilities were told by Score calls.");
  page->OneCounter(
      "prefix_reuse_tokens_total", metrics.prefix_reuse_tokens,
      "Tokens before a turn's first that were not read again, for their state was there.");
  page->Begin("request_success_total", MetricType::Counter, "Turns that ended well, by reason.");
  for (size_t i = 1; i < kFinishReasons.size(); ++i) {
    page->Counter(static_cast<double>(metrics.finished[i].value()),
                  {{{"finished_reason", kFinishReasons[i]}}});
  }
  page->Begin("request_failure_total", MetricType::Counter,
              "Turns refused or failed, by status code.");
  for (size_t i = 1; i < refused.size(); ++i) {
    page->Counter(static_cast<double>(metrics.failed[i].value() + refused[i].value()),
                  {{{"code", absl::StatusCodeToString(static_cast<absl::StatusCode>(i))}}});
  }
  page->Begin("stream_parked_total", MetricType::Counter,
              "Turns parked because their client did not read.");
  page->Counter(static_cast<double>(metrics.stream_parked.value()), {{{"reason", "slow_reader"}}});
}

void AddState(const Engine& engine, Page* page) {
  const EngineMetrics& metrics = engine.metrics();
  page->Begin(
      "state_pool_slots", MetricType::Gauge,
      "Slots of the state pool: used by running turns, idle with sessions between turns, free.");
  const auto slots = [&](const char* state, const Gauge& gauge) {
    page->Gauge(static_cast<double>(gauge.value()), {{{"tier", "pool"}, {"state", state}}});
  };
  slots("used", metrics.slots_used);
  slots("idle", metrics.slots_idle);
  slots("free", metrics.slots_free);
  page->Begin("state_pool_usage_ratio", MetricType::Gauge,
              "Share of the slots that running turns use, 0 to 1.");
  page->Gauge(static_cast<double>(metrics.slots_used.value()) / engine.options().slot_count);
  page->Begin("state_bytes", MetricType::Gauge, "Memory that session states take, by tier.");
  page->Gauge(static_cast<double>(engine.state_bytes() * engine.options().slot_count),
              {{{"tier", "pool"}}});
  page->Gauge(static_cast<double>(metrics.host_state_bytes.value()), {{{"tier", "host"}}});
  page->Begin("sessions", MetricType::Gauge,
              "Sessions: active with a turn, resident in the pool, evicted to host memory.");
  page->Gauge(static_cast<double>(metrics.sessions_active.value()), {{{"state", "active"}}});
  page->Gauge(static_cast<double>(metrics.sessions_resident.value()), {{{"state", "resident"}}});
  page->Gauge(static_cast<double>(metrics.sessions_evicted.value()), {{{"state", "evicted"}}});
  page->Begin("state_move_seconds", MetricType::Histogram, "Of moving one state between tiers.");
  page->Histogram(metrics.state_move_out, {{{"from", "pool"}, {"to", "host"}}});
  page->Histogram(metrics.state_move_in, {{{"from", "host"}, {"to", "pool"}}});
}

void AddInfo(const Engine& engine, Page* page) {
  const ModelInfo& model = engine.model_info();
  const BackendInfo& backend = engine.backend_info();
  page->Begin("build_info", MetricType::Gauge, "1; the labels say what runs.");
  page->Gauge(1, {{{"version", EDDY_VERSION},
                   {"backend", backend.name},
                   {"target", backend.target},
                   {"numeric_path", backend.numeric_path}}});
  page->Begin("model_info", MetricType::Gauge, "1; the labels say what is served.");
  page->Gauge(1, {{{"family", model.family},
                   {"dtype", DTypeName(model.weight_dtype)},
                   {"parameter_count", std::to_string(model.parameter_count)},
                   {"state_bytes", std::to_string(engine.state_bytes())}}});
}

}  // namespace

std::vector<MetricFamily> MetricsPage::Collect() const {
  Page page(engine_.model_info().name);
  AddRequests(engine_.metrics(), refused_, &page);
  AddLatencies(engine_.metrics(), &page);
  AddState(engine_, &page);
  AddInfo(engine_, &page);
  return page.Take();
}

}  // namespace eddy
