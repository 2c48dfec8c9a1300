// SPDX-License-Identifier: Apache-2.0
// `eddy image`: pictures, drawn as they come.
#pragma once

#include <CLI/CLI.hpp>

#include "client/command.h"

namespace eddy {

// `context` must live as long as `app`.
void AddImageCommand(CLI::App& app, CommandContext& context);

}  // namespace eddy
