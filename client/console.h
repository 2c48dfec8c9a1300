// SPDX-License-Identifier: Apache-2.0
// Where a command of `eddy` reads, writes and hears of Ctrl-C.
#pragma once

#include <iosfwd>

namespace eddy {

class Interrupt;

// Views of main's streams (or a test's); one command uses it, on one thread.
struct Console {
  std::istream& in;
  std::ostream& out;
  std::ostream& err;
  bool in_is_terminal = false;
  bool out_is_terminal = false;
  bool err_is_terminal = false;
  // May be null: Ctrl-C does what the process does by itself.
  Interrupt* interrupt = nullptr;
};

// Exit codes of `eddy`.
inline constexpr int kExitOk = 0;
// The server refused or failed the call, or the output could not be written.
inline constexpr int kExitFailed = 1;
// The command line was wrong; nothing was sent.
inline constexpr int kExitUsage = 2;
// Ctrl-C.
inline constexpr int kExitInterrupted = 130;

}  // namespace eddy
