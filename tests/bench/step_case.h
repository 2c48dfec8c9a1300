// SPDX-License-Identifier: Apache-2.0
// One case of the step benchmark: so many rows that decode, or one prompt that is read, and what it
// costs next to what the machine could do at that time.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/model.h"
#include "tests/bench/metered_backend.h"
#include "tests/bench/probe.h"

namespace eddy {

struct StepCase {
  enum class Kind { kDecode, kPrefill };
  Kind kind = Kind::kDecode;
  int size = 1;  // streams, or tokens of the prompt
};

struct StepBenchOptions {
  double seconds = 2.0;  // measured, a case; steps are between 50 us and seconds long
  int step_count_max = 1'000'000;
  int chunk_token_count = 512;  // of a prompt in one step
  bool classes = false;         // measure time per op class, in steps of their own
};

struct StepResult {
  StepCase step_case;
  int pass_count = 0;               // measured
  double pass_seconds = 0.0;        // median; a pass is one decode step or all steps of one prompt
  double token_count = 0.0;         // of one pass
  StepCost cost;                    // of one pass; its times are means, 0 unless asked for
  double timed_pass_seconds = 0.0;  // mean of the passes that gave those
  ProbeResult probe;                // measured in turns with the passes
};

// What a case needs beside weights, in bytes.
int64_t CaseBytes(const StepCase& step_case, const StepBenchOptions& options, Model& model);

// Decoding feeds each row the token that was sampled, as the server does by default (temperature 1,
// no cut); so does the step that ends a prompt. A warm-up comes first and is not counted.
// RESOURCE_EXHAUSTED when memory cannot be had, INTERNAL when logits were not finite.
absl::StatusOr<StepResult> RunCase(const StepCase& step_case, const StepBenchOptions& options,
                                   MeteredBackend& backend, Model& model, Probe& probe);

}  // namespace eddy
