// SPDX-License-Identifier: Apache-2.0
#include "client/quantize_command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <sstream>
#include <string>

namespace eddy {
namespace {

TEST(QuantizeCommandTest, LooksBesideThisProgram) {
  const std::string self = std::filesystem::read_symlink("/proc/self/exe").filename();
  const std::string path = ProgramBeside(self);
  EXPECT_TRUE(std::filesystem::equivalent(path, "/proc/self/exe")) << path;
  EXPECT_EQ(std::filesystem::path(ProgramBeside("x")).parent_path(),
            std::filesystem::path(path).parent_path());
}

TEST(QuantizeCommandTest, AMissingProgramIsTold) {
  std::istringstream in;
  std::ostringstream out, err;
  Console console{in, out, err};
  const std::string path = testing::TempDir() + "/no-such-program";
  EXPECT_EQ(BecomeProgram(path, {"a", "--help"}, console), kExitFailed);
  EXPECT_EQ(out.str(), "");
  EXPECT_THAT(err.str(), testing::StartsWith("eddy: cannot run " + path +
                                             ": No such file or directory; build it"));
}

}  // namespace
}  // namespace eddy
