// SPDX-License-Identifier: Apache-2.0
// MetricsPage: what the engine and the services count, as Prometheus families with the prefix eddy_
// and the names and units of vLLM's and SGLang's pages where they have one.
//
// Owned by Server. Collect runs on the exposer's threads and reads atomics only.
#pragma once

#include <prometheus/collectable.h>
#include <prometheus/metric_family.h>

#include <array>
#include <vector>

#include "engine/engine.h"
#include "engine/metrics.h"

namespace eddy {

class MetricsPage final : public prometheus::Collectable {
 public:
  // Both outlive the page. `refused`: calls that never reached the engine, by absl::StatusCode.
  MetricsPage(const Engine& engine, const std::array<Counter, 17>& refused)
      : engine_(engine), refused_(refused) {}

  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  const Engine& engine_;
  const std::array<Counter, 17>& refused_;
};

}  // namespace eddy
