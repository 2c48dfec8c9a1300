// SPDX-License-Identifier: Apache-2.0
#include "client/progress_bar.h"

#include <algorithm>
#include <cstdio>
#include <ostream>

#include "client/table.h"

namespace eddy {
namespace {

constexpr size_t kBarColumns = 20;

}  // namespace

std::string FormatBar(double share) {
  share = std::clamp(share, 0.0, 1.0);
  const size_t filled = static_cast<size_t>(share * static_cast<double>(kBarColumns));
  char percent[8];
  std::snprintf(percent, sizeof(percent), "%3d", static_cast<int>(share * 100));
  std::string bar = "[";
  bar.append(filled, '#').append(kBarColumns - filled, '-').append("] ").append(percent);
  return bar.append(" %");
}

std::string FormatProgress(const LoadProgress& progress, const ProgressGoal& goal) {
  const int64_t ended = progress.finished + progress.failed;
  double share = 0;
  if (goal.request_count > 0) {
    share = static_cast<double>(ended) / static_cast<double>(goal.request_count);
  }
  if (goal.duration_s > 0) {
    share = std::max(share, progress.elapsed_s / goal.duration_s);
  }
  std::string line = FormatBar(share).append("  ");
  line.append(FormatNumber(progress.elapsed_s, 1)).append(" s  ").append(std::to_string(ended));
  if (goal.request_count > 0) {
    line.append("/").append(std::to_string(goal.request_count));
  }
  line.append(" requests  ").append(std::to_string(progress.running)).append(" running");
  if (progress.elapsed_s > 0) {
    const double rate = static_cast<double>(progress.generated_tokens) / progress.elapsed_s;
    line.append("  ").append(FormatNumber(rate, 1)).append(" tokens/s");
  }
  if (progress.failed > 0) {
    line.append("  ").append(std::to_string(progress.failed)).append(" failed");
  }
  return line;
}

void ProgressBar::Show(const std::string& line) {
  const size_t stale = shown_columns_ > line.size() ? shown_columns_ - line.size() : 0;
  out_ << '\r' << line << std::string(stale, ' ') << std::flush;
  shown_columns_ = line.size();
}

ProgressBar::~ProgressBar() {
  if (shown_columns_ > 0) {
    out_ << '\r' << std::string(shown_columns_, ' ') << '\r' << std::flush;
  }
}

}  // namespace eddy
