// SPDX-License-Identifier: Apache-2.0
// The program `eddy` as its user meets it: processes, file descriptors, signals, exit codes.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "client/console.h"
#include "tests/client/fake_server.h"

extern char** environ;

namespace eddy {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// A running `eddy` whose standard streams are files of the test's folder.
class Program {
 public:
  Program(const std::vector<std::string>& arguments, const std::string& in,
          const std::string& out_path)
      : out_path_(out_path) {
    std::ofstream(in_path_, std::ios::binary) << in;
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, in_path_.c_str(), O_RDONLY, 0);
    constexpr int kWrite = O_WRONLY | O_CREAT | O_TRUNC;
    posix_spawn_file_actions_addopen(&actions, 1, out_path_.c_str(), kWrite, 0600);
    posix_spawn_file_actions_addopen(&actions, 2, err_path_.c_str(), kWrite, 0600);
    std::vector<std::string> words = {EDDY_PROGRAM};
    words.insert(words.end(), arguments.begin(), arguments.end());
    std::vector<char*> argv;
    for (std::string& word : words) {
      argv.push_back(word.data());
    }
    argv.push_back(nullptr);
    EXPECT_EQ(posix_spawn(&pid_, EDDY_PROGRAM, &actions, nullptr, argv.data(), environ), 0);
    posix_spawn_file_actions_destroy(&actions);
  }

  void Signal(int number) const { kill(pid_, number); }

  // Its exit code; 1000 and the signal if that ended it.
  int Wait() {
    int status = 0;
    EXPECT_EQ(waitpid(pid_, &status, 0), pid_);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
  }

  std::string out() const { return ReadFile(out_path_); }
  std::string err() const { return ReadFile(err_path_); }

  static std::string Path(const std::string& name) {
    return testing::TempDir() + "/eddy_program_test_" + std::to_string(getpid()) + "_" + name;
  }

 private:
  const std::string in_path_ = Path("in");
  const std::string out_path_;
  const std::string err_path_ = Path("err");
  pid_t pid_ = -1;
};

class ProgramTest : public testing::Test {
 protected:
  ~ProgramTest() override {
    for (const char* name : {"in", "out", "err"}) {
      std::filesystem::remove(Program::Path(name));
    }
  }

  // With --server behind the subcommand.
  Program Start(std::vector<std::string> arguments, const std::string& in = "",
                const std::string& out_path = Program::Path("out")) {
    arguments.insert(arguments.begin() + 1, {"--server", server_.address()});
    return Program(arguments, in, out_path);
  }

  FakeServer server_;
};

TEST_F(ProgramTest, GenerateStreamsToTheStandardOutput) {
  Program program = Start({"generate", "--prompt", "x"});
  EXPECT_EQ(program.Wait(), kExitOk);
  EXPECT_EQ(program.out(), "one two three");
  EXPECT_EQ(program.err(), "");
}

TEST_F(ProgramTest, TextIsThereBeforeTheTurnEnds) {
  FakeReply reply;
  reply.messages = {Message(0, "early")};
  reply.hang = true;
  server_.set_reply(reply);
  Program program = Start({"generate", "--prompt", "x"});
  EXPECT_TRUE(Eventually([&program] { return program.out() == "early"; }));
  program.Signal(SIGINT);
  EXPECT_EQ(program.Wait(), kExitInterrupted);
  EXPECT_EQ(program.out(), "early");
  EXPECT_EQ(program.err(), "eddy: CANCELLED: interrupted by Ctrl-C\n");
  EXPECT_TRUE(Eventually([this] { return server_.log().cancelled_count == 1; }));
}

TEST_F(ProgramTest, ARefusalIsToldOnTheStandardError) {
  server_.set_reply(Refusal(grpc::StatusCode::NOT_FOUND, "session \"x\" does not exist"));
  Program program = Start({"generate", "--session", "x"});
  EXPECT_EQ(program.Wait(), kExitFailed);
  EXPECT_EQ(program.out(), "");
  EXPECT_EQ(program.err(), "eddy: NOT_FOUND: session \"x\" does not exist\n");
}

TEST_F(ProgramTest, WrongFlags) {
  Program program = Start({"generate", "--prompt", "x", "--temperature", "warm"});
  EXPECT_EQ(program.Wait(), kExitUsage);
  EXPECT_EQ(program.out(), "");
  EXPECT_THAT(program.err(), StartsWith("eddy: "));
  EXPECT_TRUE(server_.log().Turns().empty());
}

TEST_F(ProgramTest, NobodyAnswering) {
  Program program({"models", "--server", "127.0.0.1:1"}, "", Program::Path("out"));
  EXPECT_EQ(program.Wait(), kExitFailed);
  EXPECT_EQ(program.out(), "");
  EXPECT_THAT(program.err(), HasSubstr("no server answers at 127.0.0.1:1: is eddy-server running"));
}

TEST_F(ProgramTest, AFullDiskFails) {
  Program program = Start({"generate", "--prompt", "x"}, "", "/dev/full");
  EXPECT_EQ(program.Wait(), kExitFailed);
  EXPECT_EQ(program.err(), "eddy: cannot write to the standard output\n");
}

TEST_F(ProgramTest, ChatReadsTheStandardInputToItsEnd) {
  server_.set_answer(
      [](const v1::GenerateRequest& turn) { return TextReply({turn.prompt().text()}); });
  Program program = Start({"chat"}, "hello\nlast line without its end");
  EXPECT_EQ(program.Wait(), kExitOk);
  EXPECT_EQ(program.out(), "hello\nlast line without its end\n");
  EXPECT_EQ(program.err(), "");
}

TEST_F(ProgramTest, BenchEndsCleanlyOverAndOver) {
  for (int round = 0; round < 5; ++round) {
    Program program = Start({"bench", "--streams", "8", "--requests", "40", "--json"});
    EXPECT_EQ(program.Wait(), kExitOk) << program.err();
    EXPECT_THAT(program.out(), HasSubstr("\"requests_finished\":40,"));
    EXPECT_EQ(program.err(), "");
  }
}

TEST_F(ProgramTest, ADirectoryIsNoPromptFile) {
  Program program = Start({"generate", "--prompt-file", testing::TempDir()});
  EXPECT_EQ(program.Wait(), kExitUsage);
  EXPECT_THAT(program.err(), HasSubstr("Is a directory"));
}

}  // namespace
}  // namespace eddy
