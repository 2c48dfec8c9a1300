// SPDX-License-Identifier: Apache-2.0
// ServiceEnv: what all services of one server share. Owned by Server, outlives every call.
#pragma once

#include <array>
#include <atomic>
#include <utility>

#include "absl/status/status.h"
#include "engine/engine.h"
#include "engine/metrics.h"
#include "server/convert.h"
#include "server/delivery.h"

namespace eddy {

struct ServiceEnv {
  ServiceEnv(Engine& served_engine, WireRules wire_rules)
      : engine(served_engine), rules(std::move(wire_rules)) {}

  Engine& engine;
  const WireRules rules;
  Delivery delivery;
  // Generation calls refused before they reached the engine, by absl::StatusCode; the engine counts
  // its own.
  std::array<Counter, 17> refused;
  void CountRefused(const absl::Status& status) {
    refused[static_cast<size_t>(status.code())].Add(1);
  }
  // Set when the server drains: calls that do not go through Engine::Submit ask here.
  std::atomic<bool> draining{false};
};

}  // namespace eddy
