// SPDX-License-Identifier: Apache-2.0
// One line that tells how far a long piece of work is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <iosfwd>
#include <string>

namespace eddy {

// "[########------------]  40 %  quantising"; `all` of 0 counts as done.
std::string FormatProgressLine(int64_t done, int64_t all, const std::string& what);

// Keeps the line on a terminal up to date. The stream outlives it. One thread.
class ProgressLine {
 public:
  // On anything but a terminal nothing is written.
  ProgressLine(std::ostream& out, bool is_terminal) : out_(out), is_terminal_(is_terminal) {}
  // Wipes the line.
  ~ProgressLine() { Wipe(); }
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  // Writes over the line before, where it says something else.
  void Show(int64_t done, int64_t all, const std::string& what);
  void Wipe();

 private:
  std::ostream& out_;
  const bool is_terminal_;
  std::string shown_;
};

}  // namespace eddy
