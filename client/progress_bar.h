// SPDX-License-Identifier: Apache-2.0
// One line that tells how far a long piece of work is.
#pragma once

#include <cstddef>
#include <iosfwd>
#include <string>

#include "client/load_generator.h"

namespace eddy {

// How the end of a run is known: by requests, or by time if `request_count` is 0.
struct ProgressGoal {
  int64_t request_count = 0;
  double duration_s = 0;
};

// "[####------]  40 %": of a share in [0, 1], clamped.
std::string FormatBar(double share);

// "[####------]  40 %  12.3 s  26/64 requests  8 running  812.4 tokens/s  2 failed": a request that
// ended in any way is done. Shown against whichever goal is nearer. The share never exceeds 100 %.
std::string FormatProgress(const LoadProgress& progress, const ProgressGoal& goal);

// Keeps the line on a terminal up to date. The stream outlives it. One thread.
class ProgressBar {
 public:
  explicit ProgressBar(std::ostream& out) : out_(out) {}
  // Wipes the line.
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  // Writes over the line before.
  void Show(const std::string& line);

 private:
  std::ostream& out_;
  size_t shown_columns_ = 0;
};

}  // namespace eddy
