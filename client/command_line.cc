// SPDX-License-Identifier: Apache-2.0
#include "client/command_line.h"

#include <CLI/CLI.hpp>
#include <ostream>

#include "client/bench_command.h"
#include "client/chat_command.h"
#include "client/command.h"
#include "client/connection_flags.h"
#include "client/generate_command.h"
#include "client/image_command.h"
#include "client/models_command.h"
#include "client/perplexity_command.h"
#include "client/quantize_command.h"
#include "client/score_command.h"
#include "client/sessions_command.h"

namespace eddy {
namespace {

constexpr char kExamples[] = R"(Examples:
  eddy generate --prompt 'ROMEO:' --max-tokens 200 --temperature 0.8 --seed 1
  eddy chat --session anna --create
  eddy image --grid 8x2 --png digits.png
  eddy models
  eddy score --text 'To be, or not to be' --top 3
  eddy perplexity play.txt
  eddy bench --streams 16 --requests 200
  eddy quantize models/shakespeare shakespeare-int8 --weights int8

Each command explains itself: eddy generate --help. The server is --server HOST:PORT or the
environment variable EDDY_SERVER, 127.0.0.1:50051 by default.)";

}  // namespace

int RunCommandLine(int argc, const char* const* argv, Console& console) {
  CommandContext context{console};
  CLI::App app("Streams tokens from an Eddy server.", "eddy");
  app.set_version_flag("--version", "eddy " EDDY_VERSION);
  app.require_subcommand(1);
  app.footer(kExamples);
  AddGenerateCommand(app, context);
  AddChatCommand(app, context);
  AddImageCommand(app, context);
  AddSessionsCommand(app, context);
  AddModelsCommand(app, context);
  AddScoreCommand(app, context);
  AddPerplexityCommand(app, context);
  AddBenchCommand(app, context);
  AddQuantizeCommand(app, context);
  // Behind all flags, before the subcommand: what --server gives is checked already.
  app.parse_complete_callback([&context] {
    if (const std::string problem = CheckServer(context.server); !problem.empty()) {
      throw CLI::ValidationError("EDDY_SERVER", problem);
    }
  });
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) {
      app.exit(error, console.out, console.err);
      console.out << std::flush;
      return kExitOk;
    }
    console.err << "eddy: " << error.what() << "\nRun eddy --help, or eddy COMMAND --help."
                << std::endl;
    return kExitUsage;
  }
  return context.exit_code;
}

}  // namespace eddy
