// SPDX-License-Identifier: Apache-2.0
// `eddy generate`: one turn, its text on the standard output as it streams.
#pragma once

#include <CLI/CLI.hpp>

#include "client/command.h"

namespace eddy {

// Adds the subcommand; it runs during the parse. `context` must live as long as `app`.
void AddGenerateCommand(CLI::App& app, CommandContext& context);

}  // namespace eddy
