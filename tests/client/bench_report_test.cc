// SPDX-License-Identifier: Apache-2.0
#include "client/bench_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace eddy {
namespace {

using testing::HasSubstr;
using testing::Not;

BenchSetting ClosedSetting() {
  BenchSetting setting;
  setting.load.stream_count = 8;
  setting.load.seed = 5;
  setting.connection_count = 2;
  setting.max_tokens = 64;
  return setting;
}

LoadResult SomeResult() {
  LoadResult result;
  for (int i = 1; i <= 4; ++i) {
    result.time_to_first_token_ms.Add(i);
    result.end_to_end_ms.Add(10 * i);
  }
  result.inter_token_ms.Add(0.5, 10);
  result.message_gap_ms.Add(2.25);
  result.started = 6;
  result.finished_by_reason = {{"end_of_text", 1}, {"length", 3}};
  result.failed_by_code = {{"RESOURCE_EXHAUSTED", 1}};
  result.failure_by_code = {{"RESOURCE_EXHAUSTED", "the queue is full"}};
  result.cut = 1;
  result.generated_tokens = 30;
  result.prompt_tokens = 12;
  result.elapsed_s = 2;
  return result;
}

TEST(BenchTableTest, ClosedLoop) {
  EXPECT_EQ(FormatBenchTable(ClosedSetting(), SomeResult()),
            "closed loop, 8 streams, 2 connections, 2.00 s\n"
            "\n"
            "milliseconds         count   mean    p50    p90    p99    max\n"
            "time to first token      4   2.50   2.00   4.00   4.00   4.00\n"
            "between tokens          10   0.50   0.50   0.50   0.50   0.50\n"
            "between messages         1   2.25   2.25   2.25   2.25   2.25\n"
            "end to end               4  25.00  20.00  40.00  40.00  40.00\n"
            "\n"
            "requests  4 finished (2.00/s): end_of_text 1, length 3; 1 cut when the run ended\n"
            "failed    1 RESOURCE_EXHAUSTED, the first: the queue is full\n"
            "tokens    30 generated: 15.0 tokens/s; 12 in prompts\n");
}

TEST(BenchTableTest, OpenLoop) {
  BenchSetting setting = ClosedSetting();
  setting.load.rate_per_s = 12.5;
  setting.connection_count = 1;
  LoadResult result = SomeResult();
  result.not_sent = 9;
  const std::string table = FormatBenchTable(setting, result);
  EXPECT_THAT(table, HasSubstr("open loop, 12.50 requests/s by a Poisson process, 1 connection,"));
  EXPECT_THAT(table, HasSubstr("; 9 not sent, too many were running\n"));
}

TEST(BenchTableTest, AnEmptyRun) {
  const std::string table = FormatBenchTable(ClosedSetting(), LoadResult());
  EXPECT_THAT(table, HasSubstr("requests  0 finished (0.00/s)\n"));
  EXPECT_THAT(table, HasSubstr("tokens    0 generated: 0.0 tokens/s; 0 in prompts\n"));
  EXPECT_THAT(table, Not(HasSubstr("failed")));
}

TEST(BenchJsonTest, ClosedLoop) {
  const std::string line = FormatBenchJson(ClosedSetting(), SomeResult());
  EXPECT_EQ(line.find('\n'), std::string::npos);
  const nlohmann::json expected = {
      {"mode", "closed"},
      {"stream_count", 8},
      {"connection_count", 2},
      {"max_tokens", 64},
      {"seed", 5},
      {"elapsed_s", 2.0},
      {"requests_started", 6},
      {"requests_finished", 4},
      {"requests_cut", 1},
      {"requests_not_sent", 0},
      {"finished_by_reason", {{"end_of_text", 1}, {"length", 3}}},
      {"failed_by_code", {{"RESOURCE_EXHAUSTED", 1}}},
      {"requests_per_s", 2.0},
      {"prompt_tokens", 12},
      {"generated_tokens", 30},
      {"generated_tokens_per_s", 15.0},
      {"time_to_first_token_ms",
       {{"count", 4}, {"mean", 2.5}, {"p50", 2.0}, {"p90", 4.0}, {"p99", 4.0}, {"max", 4.0}}},
      {"inter_token_ms",
       {{"count", 10}, {"mean", 0.5}, {"p50", 0.5}, {"p90", 0.5}, {"p99", 0.5}, {"max", 0.5}}},
      {"message_gap_ms",
       {{"count", 1}, {"mean", 2.25}, {"p50", 2.25}, {"p90", 2.25}, {"p99", 2.25}, {"max", 2.25}}},
      {"end_to_end_ms",
       {{"count", 4}, {"mean", 25.0}, {"p50", 20.0}, {"p90", 40.0}, {"p99", 40.0}, {"max", 40.0}}},
  };
  EXPECT_EQ(nlohmann::json::parse(line), expected);
}

TEST(BenchJsonTest, OpenLoopHasARateAndNoStreams) {
  BenchSetting setting = ClosedSetting();
  setting.load.rate_per_s = 12.5;
  const nlohmann::json report = nlohmann::json::parse(FormatBenchJson(setting, LoadResult()));
  EXPECT_EQ(report["mode"], "open");
  EXPECT_EQ(report["rate_per_s"], 12.5);
  EXPECT_FALSE(report.contains("stream_count"));
  EXPECT_EQ(report["finished_by_reason"], nlohmann::json::object());
  EXPECT_EQ(report["generated_tokens_per_s"], 0);
}

}  // namespace
}  // namespace eddy
