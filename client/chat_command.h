// SPDX-License-Identifier: Apache-2.0
// `eddy chat`: a conversation line by line, all on one call and one session.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "client/command.h"

namespace eddy {

// Adds the subcommand; it runs during the parse. `context` must live as long as `app`.
void AddChatCommand(CLI::App& app, CommandContext& context);

// What a typed line means.
struct ChatLine {
  enum class Kind { kText, kExit, kHelp, kUnknownCommand };
  Kind kind = Kind::kText;
  // For kText what the model reads, with its line end; for kUnknownCommand the command.
  std::string text;
};

// "/exit" and "/quit" end, "/help" helps, another word after "/" is unknown; "//x" is the text
// "/x".
ChatLine ParseChatLine(const std::string& line);

}  // namespace eddy
