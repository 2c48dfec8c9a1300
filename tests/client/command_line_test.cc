// SPDX-License-Identifier: Apache-2.0
#include "client/command_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/client/command_fixture.h"

namespace eddy {
namespace {

using testing::HasSubstr;
using testing::MatchesRegex;
using testing::StartsWith;

TEST(CommandLineTest, HelpNamesEveryCommand) {
  for (const char* flag : {"--help", "-h"}) {
    const CommandResult result = RunCommand({flag});
    EXPECT_EQ(result.exit_code, 0);
    EXPECT_EQ(result.err, "");
    for (const char* command : {"generate", "chat", "sessions", "models", "score", "perplexity",
                                "bench", "quantize", "Examples:"}) {
      EXPECT_THAT(result.out, HasSubstr(command));
    }
  }
}

TEST(CommandLineTest, EveryCommandExplainsItself) {
  for (const char* command :
       {"generate", "chat", "sessions", "models", "score", "perplexity", "bench"}) {
    const CommandResult result = RunCommand({command, "--help"});
    EXPECT_EQ(result.exit_code, 0);
    EXPECT_EQ(result.err, "");
    EXPECT_THAT(result.out, HasSubstr("Examples:"));
    EXPECT_THAT(result.out, HasSubstr("--server HOST:PORT"));
  }
}

TEST(CommandLineTest, Version) {
  const CommandResult result = RunCommand({"--version"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.out, MatchesRegex("eddy [0-9]+\\.[0-9]+\\.[0-9]+\n"));
  EXPECT_EQ(result.err, "");
}

TEST(CommandLineTest, WrongCommandLinesAreToldOnTheStandardError) {
  const std::vector<std::vector<std::string>> cases = {
      {},
      {"fly"},
      {"--no-such-flag"},
      {"generate", "--no-such-flag"},
      {"generate", "--prompt", "x", "stray"},
      {"generate", "--server", "nowhere", "--prompt", "x"},
      {"models", "chat"},
      {"generate", "chat"},
  };
  for (const auto& arguments : cases) {
    const CommandResult result = RunCommand(arguments);
    EXPECT_EQ(result.exit_code, 2) << testing::PrintToString(arguments);
    EXPECT_EQ(result.out, "");
    EXPECT_THAT(result.err, StartsWith("eddy: "));
    EXPECT_THAT(result.err, HasSubstr("Run eddy --help"));
  }
}

TEST(CommandLineTest, TheFlagBeatsTheEnvironment) {
  FakeServer server;
  const std::vector<std::vector<std::string>> commands = {
      {"models"},   {"models", "get"},
      {"sessions"}, {"generate", "--prompt", "x"},
      {"chat"},     {"bench", "--requests", "1"},
  };
  for (std::vector<std::string> command : commands) {
    setenv("EDDY_SERVER", server.address().c_str(), 1);
    EXPECT_EQ(RunCommand(command).exit_code, 0) << testing::PrintToString(command);
    setenv("EDDY_SERVER", "127.0.0.1:1", 1);
    EXPECT_EQ(RunCommand(command).exit_code, 1) << testing::PrintToString(command);
    setenv("EDDY_SERVER", "nowhere", 1);
    const CommandResult result = RunCommand(command);
    EXPECT_EQ(result.exit_code, 2) << testing::PrintToString(command);
    EXPECT_THAT(result.err, StartsWith("eddy: EDDY_SERVER: server is \"nowhere\", must be"));
    command.insert(command.end(), {"--server", server.address()});
    EXPECT_EQ(RunCommand(command).exit_code, 0) << testing::PrintToString(command);
  }
  EXPECT_EQ(RunCommand({"generate", "--help"}).exit_code, 0);
  unsetenv("EDDY_SERVER");
}

}  // namespace
}  // namespace eddy
