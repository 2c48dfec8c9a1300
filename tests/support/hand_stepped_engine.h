// SPDX-License-Identifier: Apache-2.0
// HandSteppedEngine: queue and core of an engine without the thread, stepped by the test, with a
// clock of its own.
#pragma once

#include <chrono>
#include <memory>
#include <utility>
#include <vector>

#include "engine/engine_core.h"
#include "engine/request_check.h"
#include "engine/submit_queue.h"
#include "kernels/check.h"
#include "tests/support/engine_fixture.h"

namespace eddy {

class HandSteppedEngine {
 public:
  explicit HandSteppedEngine(EngineOptions options, const FakeModelOptions& model_options = {},
                             FakeBackend::Stream stream = FakeBackend::Stream::kLazy)
      : tokenizer(model_options.vocabulary_size),
        queue(std::make_shared<SubmitQueue>(options.submit_queue_capacity)) {
    options.clock = [this] { return now; };
    auto fake = std::make_unique<FakeBackend>(stream);
    backend = fake.get();
    auto model = std::make_unique<FakeModel>(model_options, fake.get());
    auto made = EngineCore::Make(std::move(fake), std::move(model), options, metrics);
    EDDY_CHECK(made.ok()) << made.status().ToString();
    core = *std::move(made);
    context = {.model = &core->model().info(), .tokenizer = &tokenizer, .metrics = &metrics};
  }

  // As Engine::Submit, without the checks.
  absl::StatusOr<std::shared_ptr<TokenStream>> Submit(TurnRequest request) {
    auto stream = std::make_shared<TokenStream>(core->options().stream_capacity,
                                                [queue = queue] { queue->Wake(); });
    absl::Status status =
        queue->PushTurn(std::make_unique<Turn>(context, std::move(request), stream, now));
    if (!status.ok()) return status;
    return stream;
  }
  // Takes what has arrived and does one step; then a millisecond has passed.
  bool Step() {
    queue->Wait(core->waiting_count(), Duration::zero(), &arrivals);
    const bool moved = core->Step(&arrivals);
    now += std::chrono::milliseconds(1);
    return moved;
  }
  void StepUntilIdle() {
    while (Step()) {
    }
  }
  StreamResult Finish(absl::StatusOr<std::shared_ptr<TokenStream>> stream) {
    EDDY_CHECK(stream.ok()) << stream.status().ToString();
    StepUntilIdle();
    return ReadAll(**stream);
  }
  StreamResult Generate(TurnRequest request) { return Finish(Submit(std::move(request))); }

  TimePoint now{std::chrono::hours(1)};
  EngineMetrics metrics;
  FakeTokenizer tokenizer;
  std::shared_ptr<SubmitQueue> queue;
  FakeBackend* backend = nullptr;
  std::unique_ptr<EngineCore> core;
  TurnContext context;
  std::vector<Arrival> arrivals;
};

}  // namespace eddy
