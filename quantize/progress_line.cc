// SPDX-License-Identifier: Apache-2.0
#include "quantize/progress_line.h"

#include <algorithm>
#include <ostream>

#include "absl/strings/str_format.h"

namespace eddy {
namespace {

constexpr size_t kBarColumns = 20;

}  // namespace

std::string FormatProgressLine(int64_t done, int64_t all, const std::string& what) {
  const double share =
      all <= 0 ? 1.0 : std::clamp(static_cast<double>(done) / static_cast<double>(all), 0.0, 1.0);
  const auto filled = static_cast<size_t>(share * static_cast<double>(kBarColumns));
  return absl::StrFormat("[%s%s] %3d %%  %s", std::string(filled, '#'),
                         std::string(kBarColumns - filled, '-'), static_cast<int>(share * 100),
                         what);
}

void ProgressLine::Show(int64_t done, int64_t all, const std::string& what) {
  if (!is_terminal_) return;
  const std::string line = FormatProgressLine(done, all, what);
  if (line == shown_) return;
  const size_t stale = shown_.size() > line.size() ? shown_.size() - line.size() : 0;
  out_ << '\r' << line << std::string(stale, ' ') << std::flush;
  shown_ = line;
}

void ProgressLine::Wipe() {
  if (shown_.empty()) return;
  out_ << '\r' << std::string(shown_.size(), ' ') << '\r' << std::flush;
  shown_.clear();
}

}  // namespace eddy
