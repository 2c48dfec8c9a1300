// SPDX-License-Identifier: Apache-2.0
#include "client/connection_flags.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <sstream>

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
  ServerFlagTest() {
    unsetenv("EDDY_SERVER");
    AddServerFlag(app_, context_);
  }
  ~ServerFlagTest() override { unsetenv("EDDY_SERVER"); }

  std::istringstream in_;
  std::ostringstream out_;
  Console console_{in_, out_, out_};
  CommandContext context_{console_};
  CLI::App app_;
};

TEST_F(ServerFlagTest, Default) {
  app_.parse(std::vector<std::string>{});
  EXPECT_EQ(MakeClientOptions(context_).server, "127.0.0.1:50051");
}

TEST_F(ServerFlagTest, EnvironmentStandsIn) {
  setenv("EDDY_SERVER", "there:7", 1);
  app_.parse(std::vector<std::string>{});
  EXPECT_EQ(MakeClientOptions(context_).server, "there:7");
}

TEST_F(ServerFlagTest, TheFlagWins) {
  setenv("EDDY_SERVER", "there:7", 1);
  app_.parse(std::vector<std::string>{"here:8", "--server"});  // CLI11 takes them backwards.
  EXPECT_EQ(MakeClientOptions(context_).server, "here:8");
}

TEST_F(ServerFlagTest, BadValuesAreRefused) {
  try {
    app_.parse(std::vector<std::string>{"here", "--server"});
    FAIL();
  } catch (const CLI::ParseError& error) {
    EXPECT_THAT(error.what(), HasSubstr("server is \"here\", must be HOST:PORT"));
  }
}

}  // namespace
}  // namespace eddy
