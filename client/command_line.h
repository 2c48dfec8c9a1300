// SPDX-License-Identifier: Apache-2.0
// The command line `eddy` as a function.
#pragma once

#include "client/console.h"

namespace eddy {

// Parses argv (argv[0] is the program), runs the subcommand on the calling thread and gives the
// exit code of console.h. The environment variable EDDY_SERVER stands in for --server.
int RunCommandLine(int argc, const char* const* argv, Console& console);

}  // namespace eddy
