// SPDX-License-Identifier: Apache-2.0
// `eddy` run in this process against a fake server.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>
#include <string>
#include <vector>

#include "client/command_line.h"
#include "client/console.h"
#include "tests/client/fake_server.h"

namespace eddy {

struct CommandResult {
  int exit_code = -1;
  std::string out;
  std::string err;
};

struct CommandInput {
  std::string in;
  // All three streams claim to be terminals.
  bool terminal = false;
  Interrupt* interrupt = nullptr;
};

inline CommandResult RunCommand(const std::vector<std::string>& arguments,
                                const CommandInput& input = {}) {
  std::vector<const char*> argv = {"eddy"};
  for (const std::string& argument : arguments) {
    argv.push_back(argument.c_str());
  }
  std::istringstream in(input.in);
  std::ostringstream out;
  std::ostringstream err;
  Console console{in, out, err, input.terminal, input.terminal, input.terminal, input.interrupt};
  CommandResult result;
  result.exit_code = RunCommandLine(static_cast<int>(argv.size()), argv.data(), console);
  result.out = out.str();
  result.err = err.str();
  return result;
}

class CommandTest : public testing::Test {
 protected:
  // Runs `eddy ARGUMENTS`, with --server behind the subcommand unless it is there.
  CommandResult Run(std::vector<std::string> arguments, const CommandInput& input = {}) {
    if (std::count(arguments.begin(), arguments.end(), "--server") == 0) {
      arguments.insert(arguments.begin() + 1, {"--server", server_.address()});
    }
    return RunCommand(arguments, input);
  }

  FakeServer server_;
};

// A loopback port where nobody listens.
inline std::string DeadAddress() {
  FakeServer server;
  return server.address();
}

}  // namespace eddy
