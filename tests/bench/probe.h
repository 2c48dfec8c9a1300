// SPDX-License-Identifier: Apache-2.0
// What this machine can do right now: the yardstick that every benchmark prints its share of. To be
// measured in the same run as what is compared with it: shared machines differ from hour to hour.
#pragma once

#include <cstdint>

namespace eddy {

struct ProbeResult {
  double read_gb_per_s = 0.0;    // reading memory that no cache holds
  double fma_gflop_per_s = 0.0;  // f32 multiply-adds in registers, two operations each
};

// Medians of several rounds with `thread_count` threads; takes about a second.
ProbeResult ProbeMachine(int thread_count);

// "32.1 GB/s read, 118 GFLOP/s f32" for a benchmark's heading.
const char* DescribeProbe(const ProbeResult& result, char (&text)[96]);

}  // namespace eddy
