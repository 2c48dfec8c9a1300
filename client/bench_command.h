// SPDX-License-Identifier: Apache-2.0
// `eddy bench`: how a server does under load.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <unordered_set>
#include <vector>

#include "client/command.h"
#include "eddy/v1/models.pb.h"

namespace eddy {

// Adds the subcommand; it runs during the parse. `context` must live as long as `app`.
void AddBenchCommand(CLI::App& app, CommandContext& context);

// `token_count` token ids drawn evenly from the model's vocabulary, without its end of text ids: a
// function of (seed, index) alone, the same on every machine.
std::vector<uint32_t> DrawPrompt(const v1::Model& model, uint32_t token_count, uint64_t seed,
                                 int64_t index);

}  // namespace eddy
