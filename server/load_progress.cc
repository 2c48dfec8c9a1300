// SPDX-License-Identifier: Apache-2.0
#include "server/load_progress.h"

#include <algorithm>
#include <ostream>
#include <utility>

#include "absl/strings/str_format.h"
#include "server/start_report.h"

namespace eddy {
namespace {

constexpr std::chrono::milliseconds kInterval{100};
constexpr int64_t kBarColumns = 20;

}  // namespace

LoadProgressLine::LoadProgressLine(std::ostream& out, bool is_terminal, std::string model,
                                   Clock now)
    : out_(out),
      is_terminal_(is_terminal),
      model_(std::move(model)),
      now_(std::move(now)),
      start_(now_()),
      shown_(start_) {}

LoadProgressLine::~LoadProgressLine() {
  if (columns_ > 0) out_ << '\r' << std::string(columns_, ' ') << '\r' << std::flush;
}

void LoadProgressLine::Show(int64_t done_bytes, int64_t all_bytes) {
  if (all_bytes <= 0) return;
  done_bytes = std::clamp<int64_t>(done_bytes, 0, all_bytes);
  if (is_terminal_) {
    ShowOnTerminal(done_bytes, all_bytes);
    return;
  }
  const int64_t quarters = done_bytes / ((all_bytes + 3) / 4);
  if (quarters <= quarters_ || now_() - start_ < kPatience) return;
  quarters_ = quarters;
  out_ << absl::StrFormat("eddy-server: loading %s: %s of %s\n", model_, FormatBytes(done_bytes),
                          FormatBytes(all_bytes))
       << std::flush;
}

void LoadProgressLine::ShowOnTerminal(int64_t done_bytes, int64_t all_bytes) {
  const auto now = now_();
  if (now - shown_ < kInterval && done_bytes < all_bytes) return;
  shown_ = now;
  const double share = static_cast<double>(done_bytes) / static_cast<double>(all_bytes);
  const auto filled = static_cast<int64_t>(share * static_cast<double>(kBarColumns));
  std::string line = absl::StrFormat(
      "[%s%s] %3d %%  loading %s, %s of %s", std::string(static_cast<size_t>(filled), '#'),
      std::string(static_cast<size_t>(kBarColumns - filled), '-'), static_cast<int>(share * 100),
      model_, FormatBytes(done_bytes), FormatBytes(all_bytes));
  const size_t columns = line.size();
  if (columns < columns_) line.append(columns_ - columns, ' ');
  columns_ = columns;
  out_ << '\r' << line << std::flush;
}

}  // namespace eddy
