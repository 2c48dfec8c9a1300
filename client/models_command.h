// SPDX-License-Identifier: Apache-2.0
// `eddy models list|get|tokenize|detokenize`.
#pragma once

#include <CLI/CLI.hpp>

#include "client/command.h"

namespace eddy {

// Adds the subcommand; it runs during the parse. `context` must live as long as `app`.
void AddModelsCommand(CLI::App& app, CommandContext& context);

}  // namespace eddy
