// SPDX-License-Identifier: Apache-2.0
// The result of a load run, for people and for programs.
#pragma once

#include <string>

#include "client/load_generator.h"

namespace eddy {

// What describes the run beside its result.
struct BenchSetting {
  LoadOptions load;
  int connection_count = 1;
  int64_t max_tokens = 0;
};

// A table of the four durations, and lines of requests, failures and tokens.
std::string FormatBenchTable(const BenchSetting& setting, const LoadResult& result);

// The same as one JSON object on one line, without the line end. Durations are objects {count,
// mean, p50, p90, p99, max} in milliseconds.
std::string FormatBenchJson(const BenchSetting& setting, const LoadResult& result);

}  // namespace eddy
