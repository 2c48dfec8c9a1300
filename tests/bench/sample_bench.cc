// SPDX-License-Identifier: Apache-2.0
#include <random>
#include <string>
#include <utility>

#include "tests/bench/op_bench.h"

namespace eddy {
namespace {

void Sample(OpBench& bench, benchmark::State& state, const SampleRow& row, int64_t vocabulary,
            int64_t row_count, float deviation) {
  std::mt19937 generator(2);
  std::normal_distribution<float> distribution(0.0f, deviation);
  std::vector<float> logits(static_cast<size_t>(row_count * vocabulary));
  for (float& logit : logits) logit = distribution(generator);
  std::vector<SampleRow> rows(static_cast<size_t>(row_count), row);
  std::vector<SampleResult> results(rows.size());
  const OpWork work = {.bytes = 4.0 * static_cast<double>(logits.size())};
  bench.Measure(state, work, [&] {
    for (SampleRow& each : rows) ++each.position;
    bench.backend().Sample(View(logits, {row_count, vocabulary}), rows, results);
  });
}

}  // namespace

void RegisterSample(OpBench& bench) {
  SampleRow greedy;
  greedy.temperature = 0.0f;
  SampleRow top_k;
  top_k.top_k = 40;
  SampleRow top_p;
  top_p.top_p = 0.95f;
  SampleRow log_probs;
  log_probs.wants_log_prob = true;
  log_probs.alternative_count = 20;
  const std::pair<const char*, SampleRow> rows[] = {{"greedy", greedy},
                                                    {"plain", SampleRow()},
                                                    {"top_k_40", top_k},
                                                    {"top_p_0.95", top_p},
                                                    {"log_probs", log_probs}};
  for (const auto& [name, row] : rows) {
    for (const int64_t vocabulary : {65, 65536}) {
      for (const int64_t row_count : {1, 64}) {
        Register(std::string("Sample/") + name + "/vocabulary:" + std::to_string(vocabulary) +
                     "/rows:" + std::to_string(row_count),
                 [&bench, vocabulary, row_count, row = row](benchmark::State& state) {
                   Sample(bench, state, row, vocabulary, row_count, 3.0f);
                 });
      }
    }
  }
  Register(
      "Sample/top_p_0.95_flat/vocabulary:65536/rows:1",
      [&bench, top_p](benchmark::State& state) { Sample(bench, state, top_p, 65536, 1, 0.1f); });
}

}  // namespace eddy
