// SPDX-License-Identifier: Apache-2.0
// What eddy-server shows while it loads a model: a line on a terminal that is kept up to date; else
// a few lines, and those only where it takes long.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <iosfwd>
#include <string>

namespace eddy {

class LoadProgressLine {
 public:
  using Clock = std::function<std::chrono::steady_clock::time_point()>;
  // Without a terminal: nothing in the first seconds, then a line for each quarter.
  static constexpr std::chrono::seconds kPatience{2};

  // The stream outlives it. One thread.
  LoadProgressLine(std::ostream& out, bool is_terminal, std::string model,
                   Clock now = std::chrono::steady_clock::now);
  // Wipes the line of a terminal.
  ~LoadProgressLine();
  LoadProgressLine(const LoadProgressLine&) = delete;
  LoadProgressLine& operator=(const LoadProgressLine&) = delete;

  void Show(int64_t done_bytes, int64_t all_bytes);

 private:
  void ShowOnTerminal(int64_t done_bytes, int64_t all_bytes);

  std::ostream& out_;
  const bool is_terminal_;
  const std::string model_;
  const Clock now_;
  const std::chrono::steady_clock::time_point start_;
  std::chrono::steady_clock::time_point shown_;
  size_t columns_ = 0;  // of the line on the terminal
  int64_t quarters_ = 0;
};

}  // namespace eddy
