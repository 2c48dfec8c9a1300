// SPDX-License-Identifier: Apache-2.0
#include "client/connection_flags.h"

#include <charconv>
#include <cstdlib>

namespace eddy {

std::string CheckServer(const std::string& server) {
  // gRPC's own schemes; for them it reports what is wrong itself.
  if (server.rfind("unix:", 0) == 0 || server.rfind("unix-abstract:", 0) == 0 ||
      server.find("://") != std::string::npos) {
    return "";
  }
  const std::string problem =
      "server is \"" + server + "\", must be HOST:PORT with a port in [1, 65535]";
  const size_t colon = server.rfind(':');
  if (colon == std::string::npos || colon == 0) {
    return problem;
  }
  unsigned port = 0;
  const char* const begin = server.data() + colon + 1;
  const char* const end = server.data() + server.size();
  const auto [parsed_end, error] = std::from_chars(begin, end, port);
  return error == std::errc() && parsed_end == end && port >= 1 && port <= 65535 ? "" : problem;
}

void AddServerFlag(CLI::App& app, CommandContext& context) {
  // Not by CLI11's envname(): it sets the flags of all subcommands, also of those not run, which
  // share their target.
  if (const char* const server = std::getenv("EDDY_SERVER"); server != nullptr && *server != 0) {
    context.server = server;
  }
  app.add_option("--server", context.server,
                 "Where eddy-server listens; the environment variable EDDY_SERVER stands in for it")
      ->type_name("HOST:PORT")
      ->check([](const std::string& value) { return CheckServer(value); })
      ->capture_default_str();
}

ClientOptions MakeClientOptions(const CommandContext& context) {
  ClientOptions options;
  options.server = context.server;
  return options;
}

}  // namespace eddy
