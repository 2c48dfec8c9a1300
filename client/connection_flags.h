// SPDX-License-Identifier: Apache-2.0
// The flag that names the server.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "client/command.h"
#include "client/eddy_client.h"

namespace eddy {

// Adds --server to `app`; its value is context.server. Where the flag is not given it is the
// environment variable EDDY_SERVER of now, unchecked, or what it was.
void AddServerFlag(CLI::App& app, CommandContext& context);

// What is wrong with `server` as HOST:PORT or gRPC target, as a sentence; empty if nothing is.
std::string CheckServer(const std::string& server);

// Options of a client of context.server.
ClientOptions MakeClientOptions(const CommandContext& context);

}  // namespace eddy
