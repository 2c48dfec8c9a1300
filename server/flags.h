// SPDX-License-Identifier: Apache-2.0
// The command line of eddy-server.
#pragma once

#include <iosfwd>
#include <optional>
#include <string>

#include "engine/engine.h"
#include "engine/model.h"
#include "server/server.h"

namespace eddy {

struct Flags {
  std::string model_folder;
  LoadOptions load;
  BackendOptions backend;
  EngineOptions engine;
  ServerOptions server;
  Duration grace = std::chrono::seconds(30);  // for running turns when the server is told to stop
};

// Fills *flags. An exit code when the program should end here: 0 after --help (on `out`), 2 after a
// wrong flag (a sentence on `err`).
std::optional<int> ParseFlags(int argc, const char* const* argv, Flags* flags, std::ostream& out,
                              std::ostream& err);

}  // namespace eddy
