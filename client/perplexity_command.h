// SPDX-License-Identifier: Apache-2.0
// `eddy perplexity`: how well a model predicts a file.
#pragma once

#include <CLI/CLI.hpp>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "client/command.h"

namespace eddy {

// The length of the first piece of `text` to be tokenized by itself: all of it if it has at most
// `bytes_max` (at least 4) bytes, else up to the last line end within them, else to the last whole
// character. `text` is UTF-8.
size_t PieceLength(std::string_view text, size_t bytes_max);

// Reads whole numbers with blanks, line ends or commas between. Gives a sentence if `text` is
// anything else, else nothing.
std::string ParseTokenIds(std::string_view text, std::vector<uint32_t>* token_ids);

// Adds the subcommand; it runs during the parse. `context` must live as long as `app`.
void AddPerplexityCommand(CLI::App& app, CommandContext& context);

}  // namespace eddy
