// SPDX-License-Identifier: Apache-2.0
#include "client/sessions_command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "tests/client/command_fixture.h"

namespace eddy {
namespace {

using testing::HasSubstr;

class SessionsCommandTest : public CommandTest {};

TEST_F(SessionsCommandTest, CreatePrintsTheSession) {
  const CommandResult result = Run({"sessions", "create", "anna", "--model", "fake"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.err, "");
  EXPECT_EQ(result.out,
            "NAME  MODEL  TOKENS  TURNS  STATE     STATE_BYTES  CREATED               LAST_USED\n"
            "anna  fake        0      0  resident         4096  2001-09-09T01:46:40Z  "
            "2001-09-09T01:47:40Z\n");
  ASSERT_EQ(server_.log().creates.size(), 1u);
  EXPECT_EQ(server_.log().creates[0].name(), "anna");
  EXPECT_EQ(server_.log().creates[0].model(), "fake");
}

TEST_F(SessionsCommandTest, CreateWithoutANameLetsTheServerChoose) {
  EXPECT_THAT(Run({"sessions", "create"}).out, HasSubstr("made-up"));
}

TEST_F(SessionsCommandTest, CreateAgainFails) {
  Run({"sessions", "create", "anna"});
  const CommandResult result = Run({"sessions", "create", "anna"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(result.out, "");
  EXPECT_EQ(result.err, "eddy: ALREADY_EXISTS: session \"anna\" exists\n");
}

TEST_F(SessionsCommandTest, GetAsJson) {
  Run({"sessions", "create", "anna"});
  const CommandResult result = Run({"sessions", "get", "anna", "--json"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(nlohmann::json::parse(result.out), nlohmann::json::parse(R"({
      "name": "anna", "model": "fake", "position": 0, "turn_count": 0,
      "state": "STATE_RESIDENT", "state_bytes": "4096",
      "create_time": "2001-09-09T01:46:40Z", "last_used_time": "2001-09-09T01:47:40Z"})"));
}

TEST_F(SessionsCommandTest, ListIsTheDefaultAndShowsAllPages) {
  for (const char* name : {"c", "a", "b"}) {
    Run({"sessions", "create", name});
  }
  const std::string table = Run({"sessions"}).out;
  EXPECT_EQ(std::count(table.begin(), table.end(), '\n'), 4);
  EXPECT_EQ(Run({"sessions", "list"}).out, table);
  EXPECT_EQ(Run({"sessions", "list", "--page-size", "1"}).out, table);
  EXPECT_EQ(server_.log().lists.back().page_size(), 1u);
  const std::string lines = Run({"sessions", "--json"}).out;
  EXPECT_EQ(std::count(lines.begin(), lines.end(), '\n'), 3);
  EXPECT_EQ(Run({"sessions", "list", "--json"}).out, lines);
}

TEST_F(SessionsCommandTest, NoSessions) {
  EXPECT_EQ(Run({"sessions"}).out,
            "NAME  MODEL  TOKENS  TURNS  STATE  STATE_BYTES  CREATED  LAST_USED\n");
  EXPECT_EQ(Run({"sessions", "--json"}).out, "");
}

TEST_F(SessionsCommandTest, DeleteSaysNothing) {
  Run({"sessions", "create", "anna"});
  const CommandResult result = Run({"sessions", "delete", "anna"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.out + result.err, "");
  for (const char* command : {"delete", "get"}) {
    const CommandResult again = Run({"sessions", command, "anna"});
    EXPECT_EQ(again.exit_code, 1);
    EXPECT_EQ(again.err, "eddy: NOT_FOUND: session \"anna\" does not exist\n");
  }
}

TEST_F(SessionsCommandTest, UsageErrors) {
  EXPECT_EQ(Run({"sessions", "get"}).exit_code, 2);
  EXPECT_EQ(Run({"sessions", "delete"}).exit_code, 2);
  EXPECT_EQ(Run({"sessions", "get", "a", "b"}).exit_code, 2);
  EXPECT_EQ(Run({"sessions", "rename", "a"}).exit_code, 2);
  EXPECT_EQ(Run({"sessions", "get", "\xFF"}).exit_code, 2);
  EXPECT_EQ(Run({"sessions", "list", "--page-size", "-1"}).exit_code, 2);
}

TEST_F(SessionsCommandTest, ServerMayFollowTheVerb) {
  Run({"sessions", "create", "anna"});
  const std::string address = server_.address();
  EXPECT_EQ(RunCommand({"sessions", "get", "anna", "--server", address}).exit_code, 0);
  EXPECT_EQ(RunCommand({"sessions", "--server", address, "get", "anna"}).exit_code, 0);
}

}  // namespace
}  // namespace eddy
