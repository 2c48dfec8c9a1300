// SPDX-License-Identifier: Apache-2.0
// The command line of eddy-quantize.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <optional>
#include <string>

#include "kernels/backend.h"

namespace eddy {

struct QuantizeFlags {
  std::string model_folder;
  std::string out_folder;
  DType dtype = DType::kI8;  // or kI4
  std::string text;          // a file; empty: the model's own held-out text, if it has one
  bool no_text = false;
  int64_t text_begin = 0;
  int64_t text_bytes_max = 128 << 10;
  int thread_count = 0;
};

// Fills *flags. An exit code when the program should end here: 0 after --help (on `out`), 2 after a
// wrong flag (a sentence on `err`).
std::optional<int> ParseQuantizeFlags(int argc, const char* const* argv, QuantizeFlags* flags,
                                      std::ostream& out, std::ostream& err);

}  // namespace eddy
