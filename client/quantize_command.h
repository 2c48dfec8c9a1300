// SPDX-License-Identifier: Apache-2.0
// `eddy quantize`: runs the program eddy-quantize, which knows models; this one knows servers only.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "client/command.h"

namespace eddy {

void AddQuantizeCommand(CLI::App& app, CommandContext& context);

// The path of `program` in the folder of this process's own program; empty if that cannot be told.
std::string ProgramBeside(const std::string& program);

// Becomes the program at `path` with `arguments`; returns only if that fails, with the exit code,
// the reason on the standard error.
int BecomeProgram(const std::string& path, const std::vector<std::string>& arguments,
                  Console& console);

}  // namespace eddy
