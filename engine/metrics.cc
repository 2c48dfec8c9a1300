// SPDX-License-Identifier: Apache-2.0
#include "engine/metrics.h"

#include <algorithm>

#include "kernels/check.h"

namespace eddy {
namespace {

// The edges of vLLM's histograms, so that dashboards made for it still read, with finer ones below:
// a recurrent model of a few million parameters decodes in well under a millisecond.
constexpr double kFirstTokenEdges[] = {.0005, .001, .002, .003, .004, .005, .006, .008, .01, .02,
                                       .04,   .06,  .08,  .1,   .25,  .5,   .75,  1,    2.5, 5,
                                       7.5,   10,   20,   40,   80,   160,  640,  2560};
constexpr double kInterTokenEdges[] = {.0005, .001, .002, .003, .004, .006, .008, .01, .025,
                                       .05,   .075, .1,   .15,  .2,   .3,   .4,   .5,  .75,
                                       1,     2.5,  5,    7.5,  10,   20,   40,   80};
constexpr double kRequestEdges[] = {.0005, .001, .002, .003, .004, .006, .008, .01, .025, .05, .1,
                                    .3,    .5,   .8,   1,    1.5,  2,    2.5,  5,   10,   15,  20,
                                    30,    40,   50,   60,   120,  240,  480,  960, 1920, 7680};
constexpr double kRowEdges[] = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024};
constexpr double kTokenEdges[] = {1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384};

}  // namespace

Histogram::Histogram(std::span<const double> bounds)
    : bounds_(bounds.begin(), bounds.end()), counts_(bounds.size() + 1) {
  EDDY_CHECK(std::is_sorted(bounds_.begin(), bounds_.end()));
}

void Histogram::Observe(double value) {
  const auto bucket = std::lower_bound(bounds_.begin(), bounds_.end(), value) - bounds_.begin();
  counts_[static_cast<size_t>(bucket)].fetch_add(1, std::memory_order_relaxed);
  // One writer: a load and a store are enough.
  sum_.store(sum_.load(std::memory_order_relaxed) + value, std::memory_order_relaxed);
}

EngineMetrics::EngineMetrics()
    : time_to_first_token(kFirstTokenEdges),
      inter_token_latency(kInterTokenEdges),
      request_queue_time(kRequestEdges),
      request_prefill_time(kRequestEdges),
      request_decode_time(kRequestEdges),
      e2e_request_latency(kRequestEdges),
      step_time(kInterTokenEdges),
      state_move_out(kInterTokenEdges),
      state_move_in(kInterTokenEdges),
      batch_rows(kRowEdges),
      iteration_tokens(kTokenEdges) {}

}  // namespace eddy
