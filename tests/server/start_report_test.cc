// SPDX-License-Identifier: Apache-2.0
#include "server/start_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/engine_fixture.h"

namespace eddy {
namespace {

using testing::ContainsRegex;

TEST(StartReportTest, BytesAreReadable) {
  EXPECT_EQ(FormatBytes(0), "0 B");
  EXPECT_EQ(FormatBytes(1023), "1023 B");
  EXPECT_EQ(FormatBytes(1536), "1.5 KiB");
  EXPECT_EQ(FormatBytes(int64_t{4} << 30), "4.0 GiB");
  EXPECT_EQ(FormatBytes(int64_t{3} << 50), "3072.0 TiB");
}

TEST(StartReportTest, EveryLimitHasItsLineAndItsBytes) {
  EngineOptions options = SmallEngine(3);
  options.host_state_bytes_max = 1 << 20;
  FakeModelOptions model;
  model.state_float_count = 1024 - 16;
  const std::unique_ptr<Engine> engine = MakeFakeEngine(options, model);
  ASSERT_EQ(engine->state_bytes(), 4096);
  const std::string report = StartReport(*engine, ServerOptions(), std::chrono::seconds(7));
  EXPECT_THAT(report, ContainsRegex("backend +fake  target host, numeric path hash, 1 threads"));
  EXPECT_THAT(report, ContainsRegex("model +fake  fake, .*vocabulary 64, text and token ids"));
  EXPECT_THAT(report, ContainsRegex("slots +3  states of 4.0 KiB = 12.0 KiB"));
  EXPECT_THAT(report, ContainsRegex("host-state-bytes-max +1.0 MiB  = 256 states"));
  EXPECT_THAT(report, ContainsRegex("prompt-bytes-max +4.0 MiB  of text; messages up to 11.0 MiB"));
  EXPECT_THAT(report, ContainsRegex("grace-ms +7000  "));
  for (const char* limit :
       {"batch-rows-max", "batch-tokens-max", "prefill-chunk", "prefill-beside-decode",
        "batch-scores-max", "queue", "session-turns-max", "prompt-tokens-max", "score-tokens",
        "stream-capacity", "reader-stall-ms-max", "sessions-max", "max-tokens-limit",
        "connection-calls-max", "rpc-memory-bytes-max"}) {
    EXPECT_THAT(report, ContainsRegex(std::string("\n  ") + limit + " +[0-9]"));
  }
}

}  // namespace
}  // namespace eddy
