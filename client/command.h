// SPDX-License-Identifier: Apache-2.0
// What every subcommand of `eddy` is given.
#pragma once

#include <string>

#include "client/console.h"

namespace eddy {

// Lives as long as the parser; its fields are the targets of flags.
struct CommandContext {
  Console& console;
  // Flag --server.
  std::string server = "127.0.0.1:50051";
  // Set by the subcommand that ran.
  int exit_code = kExitOk;
};

}  // namespace eddy
