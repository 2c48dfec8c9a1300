// SPDX-License-Identifier: Apache-2.0
// `eddy score`: how probable each token of a text is.
#pragma once

#include <CLI/CLI.hpp>

#include "client/command.h"

namespace eddy {

// Adds the subcommand; it runs during the parse. `context` must live as long as `app`.
void AddScoreCommand(CLI::App& app, CommandContext& context);

}  // namespace eddy
