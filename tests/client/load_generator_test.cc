// SPDX-License-Identifier: Apache-2.0
#include "client/load_generator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <mutex>
#include <thread>

#include "client/eddy_client.h"
#include "tests/client/fake_server.h"

namespace eddy {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::Pair;

class LoadGeneratorTest : public testing::Test {
 protected:
  std::vector<std::shared_ptr<grpc::Channel>> Channels(int count) {
    ClientOptions options;
    options.server = server_.address();
    options.own_connection = true;
    std::vector<std::shared_ptr<grpc::Channel>> channels;
    for (int i = 0; i < count; ++i) {
      channels.push_back(MakeChannel(options));
    }
    return channels;
  }

  // Notes each index it is asked for.
  LoadGenerator::MakeRequest Requests() {
    return [this](int64_t index) {
      std::lock_guard lock(mutex_);
      indices_.push_back(index);
      return v1::GenerateRequest();
    };
  }

  LoadResult Run(const LoadOptions& options) {
    return LoadGenerator(options, Channels(2), Requests()).Run(nullptr);
  }

  FakeReply Hanging(int token_count) {
    FakeReply reply;
    if (token_count > 0) reply.messages = {Message(0, "x", token_count)};
    reply.hang = true;
    return reply;
  }

  FakeServer server_;
  std::mutex mutex_;
  std::vector<int64_t> indices_;
};

TEST_F(LoadGeneratorTest, ClosedLoopSendsEachRequestOnce) {
  LoadOptions options;
  options.stream_count = 4;
  options.request_count = 50;
  const LoadResult result = Run(options);
  EXPECT_EQ(result.started, 50);
  EXPECT_EQ(result.finished(), 50);
  EXPECT_THAT(result.finished_by_reason, ElementsAre(Pair("length", 50)));
  EXPECT_THAT(result.failed_by_code, IsEmpty());
  EXPECT_EQ(result.cut, 0);
  EXPECT_EQ(result.generated_tokens, 150);
  EXPECT_EQ(result.prompt_tokens, 150);
  EXPECT_EQ(result.time_to_first_token_ms.count(), 50);
  EXPECT_EQ(result.inter_token_ms.count(), 100);
  EXPECT_EQ(result.message_gap_ms.count(), 100);
  EXPECT_GT(result.elapsed_s, 0);
  std::sort(indices_.begin(), indices_.end());
  for (int64_t i = 0; i < 50; ++i) {
    ASSERT_EQ(indices_[static_cast<size_t>(i)], i);
  }
}

TEST_F(LoadGeneratorTest, ClosedLoopKeepsItsStreamsBusyAndNoMore) {
  server_.set_reply(Hanging(0));
  LoadOptions options;
  options.stream_count = 5;
  LoadGenerator generator(options, Channels(2), Requests());
  std::thread stopper([&] {
    EXPECT_TRUE(Eventually([this] { return server_.log().hanging_count == 5; }));
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    EXPECT_EQ(server_.log().hanging_count, 5);
    generator.Stop();
  });
  const LoadResult result = generator.Run(nullptr);
  stopper.join();
  EXPECT_EQ(result.started, 5);
  EXPECT_EQ(result.cut, 5);
  EXPECT_EQ(result.finished(), 0);
}

TEST_F(LoadGeneratorTest, MoreStreamsThanRequests) {
  LoadOptions options;
  options.stream_count = 20;
  options.request_count = 3;
  EXPECT_EQ(Run(options).finished(), 3);
  EXPECT_EQ(server_.log().Turns().size(), 3u);
}

TEST_F(LoadGeneratorTest, TimesAreThoseOfTheMessages) {
  FakeReply reply;
  reply.messages = {Message(0, "ab", 2), Message(2, "cdef", 4),
                    Last(Message(6, "", 0), v1::FINISH_REASON_END_OF_TEXT, 7, 6)};
  reply.pause_ms = 40;
  server_.set_reply(reply);
  LoadOptions options;
  options.request_count = 1;
  const LoadResult result = Run(options);
  EXPECT_THAT(result.finished_by_reason, ElementsAre(Pair("end_of_text", 1)));
  EXPECT_EQ(result.generated_tokens, 6);
  EXPECT_EQ(result.prompt_tokens, 7);
  // The pause is a lower bound only on the server's side: a message may be held up on its way.
  const double gap_ms = result.message_gap_ms.Summarize().max;
  EXPECT_EQ(result.message_gap_ms.count(), 1);
  EXPECT_GT(gap_ms, 5);
  EXPECT_EQ(result.inter_token_ms.count(), 4);
  EXPECT_NEAR(result.inter_token_ms.Summarize().mean, gap_ms / 4, 1e-3);
  EXPECT_GE(result.time_to_first_token_ms.Summarize().max, 39);
  EXPECT_GE(result.end_to_end_ms.Summarize().max, 119);
}

TEST_F(LoadGeneratorTest, FailuresAreCountedByCodeWithTheFirstSentence) {
  server_.set_answer([call = 0](const v1::GenerateRequest&) mutable {
    ++call;
    if (call % 2 == 0) return TextReply({"x"});
    return Refusal(grpc::StatusCode::RESOURCE_EXHAUSTED, "full " + std::to_string(call));
  });
  LoadOptions options;
  options.request_count = 10;
  options.failure_pause_ms = 1;
  const LoadResult result = Run(options);
  EXPECT_EQ(result.finished(), 5);
  EXPECT_THAT(result.failed_by_code, ElementsAre(Pair("RESOURCE_EXHAUSTED", 5)));
  EXPECT_THAT(result.failure_by_code, ElementsAre(Pair("RESOURCE_EXHAUSTED", "full 1")));
}

TEST_F(LoadGeneratorTest, AStreamPausesAfterAFailure) {
  server_.set_reply(Refusal(grpc::StatusCode::UNAVAILABLE, "no"));
  LoadOptions options;
  options.request_count = 4;
  options.failure_pause_ms = 50;
  const LoadResult result = Run(options);
  EXPECT_THAT(result.failed_by_code, ElementsAre(Pair("UNAVAILABLE", 4)));
  EXPECT_GE(result.elapsed_s, 0.150);
}

TEST_F(LoadGeneratorTest, DurationCutsWhatRuns) {
  server_.set_reply(Hanging(3));
  LoadOptions options;
  options.stream_count = 2;
  options.duration_s = 0.3;
  const LoadResult result = Run(options);
  EXPECT_EQ(result.cut, 2);
  EXPECT_EQ(result.finished(), 0);
  EXPECT_EQ(result.generated_tokens, 6);
  EXPECT_EQ(result.time_to_first_token_ms.count(), 2);
  EXPECT_THAT(result.failed_by_code, IsEmpty());
  EXPECT_GE(result.elapsed_s, 0.3);
  EXPECT_TRUE(Eventually([this] { return server_.log().cancelled_count == 2; }));
}

TEST_F(LoadGeneratorTest, DeadlineIsTheCalls) {
  server_.set_reply(Hanging(0));
  LoadOptions options;
  options.request_count = 1;
  options.deadline_ms = 50;
  EXPECT_THAT(Run(options).failed_by_code, ElementsAre(Pair("DEADLINE_EXCEEDED", 1)));
}

TEST_F(LoadGeneratorTest, ADeadServerFailsEveryRequest) {
  ClientOptions options;
  {
    FakeServer gone;
    options.server = gone.address();
  }
  LoadOptions load;
  load.request_count = 2;
  load.failure_pause_ms = 1;
  LoadGenerator generator(load, {MakeChannel(options)}, Requests());
  EXPECT_THAT(generator.Run(nullptr).failed_by_code, ElementsAre(Pair("UNAVAILABLE", 2)));
}

TEST_F(LoadGeneratorTest, OpenLoopSendsAllAtTheirTimes) {
  LoadOptions options;
  options.rate_per_s = 200;
  options.request_count = 60;
  options.seed = 3;
  const LoadResult result = Run(options);
  EXPECT_EQ(result.started, 60);
  EXPECT_EQ(result.finished(), 60);
  EXPECT_EQ(result.not_sent, 0);
  PoissonArrivals arrivals(200, 3);
  double last_s = 0;
  for (int i = 0; i < 60; ++i) last_s = arrivals.NextSeconds();
  EXPECT_GE(result.elapsed_s, last_s);
}

TEST_F(LoadGeneratorTest, OpenLoopDoesNotWaitForAnswers) {
  server_.set_reply(Hanging(0));
  LoadOptions options;
  options.rate_per_s = 500;
  options.request_count = 20;
  options.duration_s = 5;
  LoadGenerator generator(options, Channels(2), Requests());
  std::thread stopper([&] {
    EXPECT_TRUE(Eventually([this] { return server_.log().hanging_count == 20; }));
    generator.Stop();
  });
  const LoadResult result = generator.Run(nullptr);
  stopper.join();
  EXPECT_EQ(result.started, 20);
  EXPECT_EQ(result.cut, 20);
}

TEST_F(LoadGeneratorTest, OpenLoopCountsWhatItDoesNotSend) {
  server_.set_reply(Hanging(0));
  LoadOptions options;
  options.rate_per_s = 1'000;
  options.running_max = 3;
  options.request_count = 30;
  options.duration_s = 1;
  const LoadResult result = Run(options);
  EXPECT_EQ(result.started, 3);
  EXPECT_EQ(result.not_sent, 27);
  EXPECT_EQ(result.cut, 3);
}

// A call is timed from when it was due: what a slow make_request delays is seen.
TEST_F(LoadGeneratorTest, OpenLoopDoesNotForgiveAClientThatFallsBehind) {
  LoadOptions options;
  options.rate_per_s = 1'000;
  options.request_count = 5;
  LoadGenerator generator(options, Channels(1), [](int64_t) {
    std::this_thread::sleep_for(std::chrono::milliseconds(60));
    return v1::GenerateRequest();
  });
  const LoadResult result = generator.Run(nullptr);
  EXPECT_EQ(result.finished(), 5);
  EXPECT_GE(result.time_to_first_token_ms.Summarize().max, 200);
}

TEST_F(LoadGeneratorTest, ProgressGrowsToTheResult) {
  FakeReply reply = TextReply({"a", "b"});
  reply.pause_ms = 30;
  server_.set_reply(reply);
  LoadOptions options;
  options.stream_count = 2;
  options.request_count = 16;
  LoadGenerator generator(options, Channels(1), Requests());
  std::vector<LoadProgress> seen;
  const LoadResult result =
      generator.Run([&seen](const LoadProgress& progress) { seen.push_back(progress); });
  EXPECT_EQ(result.finished(), 16);
  ASSERT_GE(seen.size(), 2u);
  for (size_t i = 1; i < seen.size(); ++i) {
    EXPECT_GE(seen[i].elapsed_s, seen[i - 1].elapsed_s + 0.2);
    EXPECT_GE(seen[i].finished, seen[i - 1].finished);
    EXPECT_GE(seen[i].generated_tokens, seen[i - 1].generated_tokens);
    EXPECT_LE(seen[i].running, 2);
  }
  EXPECT_GT(seen.back().generated_tokens, 0);
}

TEST_F(LoadGeneratorTest, StopBeforeRunStartsNothing) {
  LoadOptions options;
  options.stream_count = 3;
  LoadGenerator generator(options, Channels(1), Requests());
  generator.Stop();
  EXPECT_EQ(generator.Run(nullptr).started, 0);
}

// The end may meet calls that are just being started, and ends on other threads.
TEST_F(LoadGeneratorTest, StopsAtAnyMoment) {
  for (int round = 0; round < 40; ++round) {
    LoadOptions options;
    options.stream_count = 16;
    LoadGenerator generator(options, Channels(1), Requests());
    std::thread stopper([&generator, round] {
      std::this_thread::sleep_for(std::chrono::microseconds(250 * round));
      generator.Stop();
    });
    const LoadResult result = generator.Run(nullptr);
    stopper.join();
    ASSERT_EQ(result.started, result.finished() + result.cut);
    ASSERT_THAT(result.failed_by_code, IsEmpty());
  }
}

}  // namespace
}  // namespace eddy
