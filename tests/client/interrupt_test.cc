// SPDX-License-Identifier: Apache-2.0
#include "client/interrupt.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <csignal>
#include <optional>
#include <thread>

#include "client/console.h"
#include "tests/client/command_fixture.h"

namespace eddy {
namespace {

using testing::AnyOf;
using testing::ExitedWithCode;
using testing::HasSubstr;

TEST(InterruptTest, TheFirstSignalCallsTheHandlerOnAnotherThread) {
  Interrupt interrupt;
  std::atomic<int> calls{0};
  std::atomic<bool> other_thread{false};
  const std::thread::id self = std::this_thread::get_id();
  const Interrupt::Scope scope(&interrupt, [&] {
    other_thread = std::this_thread::get_id() != self;
    ++calls;
  });
  EXPECT_FALSE(scope.interrupted());
  std::raise(SIGINT);
  EXPECT_TRUE(scope.interrupted());
  EXPECT_TRUE(Eventually([&calls] { return calls == 1; }));
  EXPECT_TRUE(other_thread);
}

TEST(InterruptTest, EachScopeStartsAnew) {
  Interrupt interrupt;
  for (int round = 0; round < 50; ++round) {
    std::atomic<int> calls{0};
    std::optional<Interrupt::Scope> scope(std::in_place, &interrupt, [&calls] { ++calls; });
    EXPECT_FALSE(scope->interrupted());
    std::raise(SIGINT);
    // Every second scope ends before its handler may have run: no later one is called for it.
    if (round % 2 == 0) {
      ASSERT_TRUE(Eventually([&calls] { return calls == 1; }));
    }
    scope.reset();
    ASSERT_LE(calls, 1);
  }
  std::atomic<int> calls{0};
  const Interrupt::Scope quiet(&interrupt, [&calls] { ++calls; });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_EQ(calls, 0);
  EXPECT_FALSE(quiet.interrupted());
}

TEST(InterruptTest, TheEndOfAScopeWaitsForItsHandler) {
  Interrupt interrupt;
  std::atomic<bool> entered{false};
  std::atomic<bool> left{false};
  {
    const Interrupt::Scope scope(&interrupt, [&] {
      entered = true;
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      left = true;
    });
    std::raise(SIGINT);
    ASSERT_TRUE(Eventually([&entered] { return entered.load(); }));
  }
  EXPECT_TRUE(left);
}

TEST(InterruptTest, ANullInterruptDoesNothing) {
  const Interrupt::Scope scope(nullptr, [] { FAIL(); });
  EXPECT_FALSE(scope.interrupted());
}

TEST(InterruptTest, TheSignalsOwnerIsRestored) {
  { const Interrupt interrupt; }
  struct sigaction action = {};
  sigaction(SIGINT, nullptr, &action);
  EXPECT_EQ(action.sa_handler, SIG_DFL);
}

TEST(InterruptTest, AnIgnoredSignalStaysIgnored) {
  std::signal(SIGINT, SIG_IGN);
  {
    Interrupt interrupt;
    const Interrupt::Scope scope(&interrupt, [] { FAIL(); });
    std::raise(SIGINT);
    EXPECT_FALSE(scope.interrupted());
  }
  struct sigaction action = {};
  sigaction(SIGINT, nullptr, &action);
  EXPECT_EQ(action.sa_handler, SIG_IGN);
  std::signal(SIGINT, SIG_DFL);
}

TEST(InterruptDeathTest, WithoutAScopeTheProcessEnds) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        const Interrupt interrupt;
        std::raise(SIGINT);
      },
      ExitedWithCode(kExitInterrupted), "");
}

TEST(InterruptDeathTest, TheSecondSignalInsists) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        Interrupt interrupt;
        const Interrupt::Scope scope(&interrupt, [] {});
        std::raise(SIGINT);
        std::raise(SIGINT);
      },
      ExitedWithCode(kExitInterrupted), "");
}

class InterruptedCommandTest : public CommandTest {
 protected:
  InterruptedCommandTest() {
    FakeReply reply;
    reply.messages = {Message(0, "so far")};
    reply.hang = true;
    server_.set_reply(reply);
  }

  // Runs the command and raises SIGINT as soon as `running` calls hang.
  CommandResult RunInterrupted(const std::vector<std::string>& arguments, int running,
                               const std::string& in = "") {
    Interrupt interrupt;
    std::thread finger([this, running] {
      EXPECT_TRUE(Eventually([&] { return server_.log().hanging_count >= running; }));
      std::raise(SIGINT);
    });
    const CommandResult result = Run(arguments, CommandInput{in, false, &interrupt});
    finger.join();
    EXPECT_TRUE(Eventually([&] { return server_.log().cancelled_count >= running; }));
    return result;
  }
};

// The signal may overtake the message; program_test.cc waits for the text first.
TEST_F(InterruptedCommandTest, GenerateCancelsItsCall) {
  const CommandResult result = RunInterrupted({"generate", "--prompt", "x"}, 1);
  EXPECT_EQ(result.exit_code, kExitInterrupted);
  EXPECT_THAT(result.out, AnyOf("", "so far"));
  EXPECT_EQ(result.err, "eddy: CANCELLED: interrupted by Ctrl-C\n");
}

TEST_F(InterruptedCommandTest, ChatEndsTheReplyAndGoesOn) {
  server_.set_answer([turn = 0](const v1::GenerateRequest&) mutable {
    if (++turn > 1) return TextReply({"fine"});
    FakeReply reply;
    reply.messages = {Message(0, "long")};
    reply.hang = true;
    return reply;
  });
  const CommandResult result = RunInterrupted({"chat", "--verbose"}, 1, "a\nb\n");
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.out, "long\nfine\n");
  EXPECT_THAT(result.err, HasSubstr("cancelled"));
}

TEST_F(InterruptedCommandTest, BenchReportsWhatItHas) {
  const CommandResult result = RunInterrupted({"bench", "--streams", "3"}, 3);
  EXPECT_EQ(result.exit_code, kExitInterrupted);
  EXPECT_THAT(result.out, HasSubstr("; 3 cut when the run ended"));
  EXPECT_THAT(result.out, HasSubstr("requests  0 finished"));
}

TEST_F(InterruptedCommandTest, BenchInItsWarmUpReportsNothing) {
  const CommandResult result = RunInterrupted({"bench", "--streams", "2", "--warmup", "2"}, 2);
  EXPECT_EQ(result.exit_code, kExitInterrupted);
  EXPECT_EQ(result.out, "");
}

}  // namespace
}  // namespace eddy
