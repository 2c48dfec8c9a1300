// SPDX-License-Identifier: Apache-2.0
#include "server/flags.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>
#include <string>
#include <vector>

namespace eddy {
namespace {

using testing::HasSubstr;

struct Parsed {
  Flags flags;
  std::optional<int> code;
  std::string out;
  std::string err;
};

Parsed Parse(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "eddy-server");
  Parsed parsed;
  std::ostringstream out;
  std::ostringstream err;
  parsed.code =
      ParseFlags(static_cast<int>(arguments.size()), arguments.data(), &parsed.flags, out, err);
  parsed.out = out.str();
  parsed.err = err.str();
  return parsed;
}

TEST(FlagsTest, DefaultsServeOnLoopback) {
  const Parsed parsed = Parse({"--model", "models/shakespeare"});
  ASSERT_FALSE(parsed.code) << parsed.err;
  EXPECT_EQ(parsed.flags.model_folder, "models/shakespeare");
  EXPECT_EQ(parsed.flags.server.listen, "127.0.0.1:50051");
  EXPECT_EQ(parsed.flags.server.metrics_listen, "127.0.0.1:9464");
  EXPECT_EQ(parsed.flags.engine.slot_count, EngineOptions().slot_count);
  EXPECT_EQ(parsed.flags.load.weight_dtype, std::nullopt);
  EXPECT_EQ(parsed.flags.grace, std::chrono::seconds(30));
  EXPECT_EQ(parsed.flags.engine.reader_stall_max, EngineOptions().reader_stall_max);
}

const std::vector<const char*> kEveryFlag = {"--model",
                                             "m",
                                             "--model-name",
                                             "n",
                                             "--listen",
                                             "[::1]:0",
                                             "--metrics-listen",
                                             "",
                                             "--grace-ms",
                                             "5",
                                             "--backend",
                                             "cpu",
                                             "--threads",
                                             "3",
                                             "--cpu-target",
                                             "v2",
                                             "--numeric-path",
                                             "fma",
                                             "--weights",
                                             "f32",
                                             "--state",
                                             "bf16",
                                             "--slots",
                                             "11",
                                             "--batch-rows-max",
                                             "12",
                                             "--batch-tokens-max",
                                             "13",
                                             "--prefill-chunk",
                                             "14",
                                             "--prefill-beside-decode",
                                             "25",
                                             "--batch-scores-max",
                                             "26",
                                             "--queue",
                                             "15",
                                             "--session-turns-max",
                                             "16",
                                             "--prompt-tokens-max",
                                             "17",
                                             "--score-tokens",
                                             "27",
                                             "--prompt-bytes-max",
                                             "18KB",
                                             "--max-tokens-limit",
                                             "19",
                                             "--stream-capacity",
                                             "20",
                                             "--reader-stall-ms-max",
                                             "21",
                                             "--sessions-max",
                                             "22",
                                             "--host-state-bytes-max",
                                             "2GB",
                                             "--connection-calls-max",
                                             "24",
                                             "--rpc-memory-bytes-max",
                                             "25MB"};

TEST(FlagsTest, EveryFlagArrives) {
  const Parsed parsed = Parse(kEveryFlag);
  ASSERT_FALSE(parsed.code) << parsed.err;
  const Flags& flags = parsed.flags;
  EXPECT_EQ(flags.load.name, "n");
  EXPECT_EQ(flags.server.listen, "[::1]:0");
  EXPECT_EQ(flags.server.metrics_listen, "");
  EXPECT_EQ(flags.grace, std::chrono::milliseconds(5));
  EXPECT_EQ(flags.backend.backend, "cpu");
  EXPECT_EQ(flags.backend.thread_count, 3);
  EXPECT_EQ(flags.backend.cpu_target, "v2");
  EXPECT_EQ(flags.backend.numeric_path, "fma");
  EXPECT_EQ(flags.load.weight_dtype, DType::kF32);
  EXPECT_EQ(flags.load.state_dtype, DType::kBF16);
  EXPECT_EQ(flags.engine.slot_count, 11);
  EXPECT_EQ(flags.engine.batch_row_count_max, 12);
  EXPECT_EQ(flags.engine.batch_token_count_max, 13);
  EXPECT_EQ(flags.engine.prefill_chunk_token_count, 14);
  EXPECT_EQ(flags.engine.prefill_beside_decode_token_count, 25);
  EXPECT_EQ(flags.engine.batch_score_count_max, 26);
  EXPECT_EQ(flags.engine.submit_queue_capacity, 15);
  EXPECT_EQ(flags.engine.session_turn_count_max, 16);
  EXPECT_EQ(flags.engine.prompt_token_count_max, 17);
  EXPECT_EQ(flags.engine.score_token_count_max, 27);
  EXPECT_EQ(flags.server.prompt_bytes_max, 18 * 1024);
  EXPECT_EQ(flags.server.max_tokens_limit, 19);
  EXPECT_EQ(flags.engine.stream_capacity, 20);
  EXPECT_EQ(flags.engine.reader_stall_max, std::chrono::milliseconds(21));
  EXPECT_EQ(flags.engine.session_count_max, 22);
  EXPECT_EQ(flags.engine.host_state_bytes_max, int64_t{2} << 30);
  EXPECT_EQ(flags.server.connection_call_count_max, 24);
  EXPECT_EQ(flags.server.rpc_memory_bytes_max, 25 << 20);
}

TEST(FlagsTest, WrongFlagsEndWithASentenceAndCode2) {
  const std::vector<std::pair<std::vector<const char*>, std::string>> wrong = {
      {{}, "--model"},
      {{"--model", "m", "--slots", "0"}, "--slots"},
      {{"--model", "m", "--slots", "many"}, "--slots"},
      {{"--model", "m", "--weights", "int3"}, "--weights"},
      {{"--model", "m", "--state", "f64"}, "--state"},
      {{"--model", "m", "--host-state-bytes-max", "-1"}, "--host-state-bytes-max"},
      {{"--model", "m", "--no-such-flag"}, "--no-such-flag"},
  };
  for (const auto& [arguments, flag] : wrong) {
    const Parsed parsed = Parse(arguments);
    EXPECT_EQ(parsed.code, 2) << flag;
    EXPECT_THAT(parsed.err, HasSubstr(flag));
    EXPECT_EQ(parsed.out, "");
  }
}

TEST(FlagsTest, HelpTeachesEveryFlag) {
  const Parsed parsed = Parse({"--help"});
  EXPECT_EQ(parsed.code, 0);
  EXPECT_EQ(parsed.err, "");
  for (const char* flag : {"--model",
                           "--listen",
                           "--metrics-listen",
                           "--grace-ms",
                           "--backend",
                           "--threads",
                           "--cpu-target",
                           "--numeric-path",
                           "--weights",
                           "--state",
                           "--slots",
                           "--batch-rows-max",
                           "--batch-tokens-max",
                           "--prefill-chunk",
                           "--prefill-beside-decode",
                           "--batch-scores-max",
                           "--queue",
                           "--session-turns-max",
                           "--prompt-tokens-max",
                           "--score-tokens",
                           "--prompt-bytes-max",
                           "--max-tokens-limit",
                           "--stream-capacity",
                           "--reader-stall-ms-max",
                           "--sessions-max",
                           "--host-state-bytes-max",
                           "--connection-calls-max",
                           "--rpc-memory-bytes-max",
                           "Example:"}) {
    EXPECT_THAT(parsed.out, HasSubstr(flag));
  }
}

}  // namespace
}  // namespace eddy
