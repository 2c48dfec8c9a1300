// SPDX-License-Identifier: Apache-2.0
#include "client/connection_flags.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <sstream>
#include <utility>
#include <vector>

namespace eddy {
namespace {

using testing::HasSubstr;

TEST(CheckServerTest, Good) {
  for (const char* server :
       {"localhost:1", "127.0.0.1:50051", "[::1]:65535", "eddy.example.org:443",
        "unix:/run/eddy.sock", "unix-abstract:eddy", "dns:///eddy:50051", "ipv4://1.2.3.4:5"}) {
    EXPECT_EQ(CheckServer(server), "") << server;
  }
}

TEST(CheckServerTest, Bad) {
  for (const char* server : {"", "localhost", ":50051", "host:", "host:0", "host:65536", "host:-1",
                             "host:12x", "host: 12", "host:99999999999999999999"}) {
    EXPECT_EQ(CheckServer(server), "server is \"" + std::string(server) +
                                       "\", must be HOST:PORT with a port in [1, 65535]");
  }
}

class ServerFlagTest : public testing::Test {
 protected:
  ServerFlagTest() { unsetenv("EDDY_SERVER"); }
  ~ServerFlagTest() override { unsetenv("EDDY_SERVER"); }

  // The server of a command line `arguments`, whose words CLI11 takes backwards.
  std::string Server(std::vector<std::string> arguments) {
    AddServerFlag(app_, context_);
    app_.parse(std::move(arguments));
    return MakeClientOptions(context_).server;
  }

  std::istringstream in_;
  std::ostringstream out_;
  Console console_{in_, out_, out_};
  CommandContext context_{console_};
  CLI::App app_;
};

TEST_F(ServerFlagTest, Default) { EXPECT_EQ(Server({}), "127.0.0.1:50051"); }

TEST_F(ServerFlagTest, EnvironmentStandsIn) {
  setenv("EDDY_SERVER", "there:7", 1);
  EXPECT_EQ(Server({}), "there:7");
}

TEST_F(ServerFlagTest, AnEmptyEnvironmentIsNone) {
  setenv("EDDY_SERVER", "", 1);
  EXPECT_EQ(Server({}), "127.0.0.1:50051");
}

TEST_F(ServerFlagTest, TheFlagWins) {
  setenv("EDDY_SERVER", "there:7", 1);
  EXPECT_EQ(Server({"here:8", "--server"}), "here:8");
}

TEST_F(ServerFlagTest, BadValuesAreRefused) {
  try {
    Server({"here", "--server"});
    FAIL();
  } catch (const CLI::ParseError& error) {
    EXPECT_THAT(error.what(), HasSubstr("server is \"here\", must be HOST:PORT"));
  }
}

}  // namespace
}  // namespace eddy
