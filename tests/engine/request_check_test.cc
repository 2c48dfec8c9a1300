// SPDX-License-Identifier: Apache-2.0
#include "engine/request_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/engine_fixture.h"
#include "tests/support/score_check.h"

namespace eddy {
namespace {

using ::testing::HasSubstr;

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int32_t kEndOfText[] = {0};

RequestLimits Limits() {
  return {.vocabulary_size = 64,
          .position_max = 1000,
          .prompt_token_count_max = 500,
          .score_token_count_max = 300,
          .has_tokenizer = true,
          .end_of_text_ids = kEndOfText};
}

TEST(RequestCheckTest, TheEdgesOfEveryRangeAreAllowed) {
  TurnRequest request = MakeRequest({0, 63}, 1);
  EXPECT_TRUE(CheckTurnRequest(request, Limits()).ok());
  request.sampling = {.temperature = 100,
                      .top_k = 64,
                      .top_p = 1,
                      .min_p = 1,
                      .repetition_penalty = 0.01f,
                      .presence_penalty = -100,
                      .frequency_penalty = 100,
                      .biases = {{0, -1000}, {63, 1000}}};
  request.stop = {.max_tokens = std::numeric_limits<int64_t>::max(),
                  .min_tokens = 7,
                  .sequences = std::vector<std::string>(16, std::string(256, 'x')),
                  .token_ids = std::vector<int32_t>(64, 63)};
  request.wants_log_probs = true;
  request.alternative_count = 20;
  request.session_name = std::string(128, 'Z');
  request.create_session = true;
  EXPECT_TRUE(CheckTurnRequest(request, Limits()).ok()) << CheckTurnRequest(request, Limits());
}

TEST(RequestCheckTest, OfAMixtureOnlyTemperatureAndSeedApply) {
  RequestLimits limits = Limits();
  limits.is_mixture = true;
  limits.has_tokenizer = false;
  TurnRequest plain = MakeRequest({1, 2}, 5);
  plain.sampling.temperature = 0.5f;
  plain.sampling.seed = 7;
  plain.wants_log_probs = true;
  EXPECT_TRUE(CheckTurnRequest(plain, limits).ok()) << CheckTurnRequest(plain, limits);
  const std::pair<const char*, std::function<void(TurnRequest&)>> others[] = {
      {"sampling.repetition_penalty", [](auto& r) { r.sampling.repetition_penalty = 1.1f; }},
      {"sampling.presence_penalty", [](auto& r) { r.sampling.presence_penalty = 1; }},
      {"sampling.frequency_penalty", [](auto& r) { r.sampling.frequency_penalty = 1; }},
      {"sampling.logit_bias",
       [](auto& r) {
         r.sampling.biases = {{3, 1}};
       }},
      {"sampling.top_k", [](auto& r) { r.sampling.top_k = 5; }},
      {"sampling.top_p", [](auto& r) { r.sampling.top_p = 0.9f; }},
      {"sampling.min_p", [](auto& r) { r.sampling.min_p = 0.1f; }},
      {"stop.token_ids", [](auto& r) { r.stop.token_ids = {9}; }},
      {"output.top_log_probs", [](auto& r) { r.alternative_count = 2; }},
  };
  for (const auto& [field, change] : others) {
    TurnRequest request = plain;
    change(request);
    EXPECT_TRUE(CheckTurnRequest(request, Limits()).ok()) << field;
    const absl::Status status = CheckTurnRequest(request, limits);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << field;
    EXPECT_THAT(std::string(status.message()),
                testing::StartsWith(std::string(field) + " is set, but the model predicts"));
  }
}

struct Refusal {
  std::string sentence;  // a part of it
  std::function<void(TurnRequest&)> change;
};

void ExpectRefused(const std::vector<Refusal>& refusals) {
  for (const Refusal& refusal : refusals) {
    TurnRequest request = MakeRequest({1, 2}, 5);
    refusal.change(request);
    const absl::Status status = CheckTurnRequest(request, Limits());
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << refusal.sentence;
    EXPECT_THAT(std::string(status.message()), HasSubstr(refusal.sentence));
  }
}

// The sentence has name, value and limit.
TEST(RequestCheckTest, PromptAndSamplingOutOfRangeAreRefused) {
  ExpectRefused({
      {"prompt is empty", [](auto& r) { r.prompt.clear(); }},
      {"prompt has 501 tokens; the limit is 500", [](auto& r) { r.prompt.assign(501, 1); }},
      {"prompt.token_ids[1] is 64; token ids must be in [0, 64)",
       [](auto& r) {
         r.prompt = {1, 64};
       }},
      {"prompt.token_ids[0] is -1", [](auto& r) { r.prompt = {-1}; }},
      {"sampling.temperature is nan; it must be in [0, 100]",
       [](auto& r) { r.sampling.temperature = kNaN; }},
      {"sampling.temperature is -0.1", [](auto& r) { r.sampling.temperature = -0.1f; }},
      {"sampling.temperature is inf", [](auto& r) { r.sampling.temperature = kInfinity; }},
      {"sampling.temperature is 100.5", [](auto& r) { r.sampling.temperature = 100.5f; }},
      {"sampling.top_k is -1; it must be in [0, 64]", [](auto& r) { r.sampling.top_k = -1; }},
      {"sampling.top_k is 65", [](auto& r) { r.sampling.top_k = 65; }},
      {"sampling.top_p is 0; it must be in (0, 1]", [](auto& r) { r.sampling.top_p = 0; }},
      {"sampling.top_p is 1.5", [](auto& r) { r.sampling.top_p = 1.5f; }},
      {"sampling.top_p is nan", [](auto& r) { r.sampling.top_p = kNaN; }},
      {"sampling.min_p is -0.5; it must be in [0, 1]", [](auto& r) { r.sampling.min_p = -0.5f; }},
      {"sampling.min_p is nan", [](auto& r) { r.sampling.min_p = kNaN; }},
      {"sampling.repetition_penalty is 0; it must be in [0.01, 100]",
       [](auto& r) { r.sampling.repetition_penalty = 0; }},
      {"sampling.repetition_penalty is nan", [](auto& r) { r.sampling.repetition_penalty = kNaN; }},
      {"sampling.presence_penalty is 101; it must be in [-100, 100]",
       [](auto& r) { r.sampling.presence_penalty = 101; }},
      {"sampling.presence_penalty is nan", [](auto& r) { r.sampling.presence_penalty = kNaN; }},
      {"sampling.frequency_penalty is -101", [](auto& r) { r.sampling.frequency_penalty = -101; }},
      {"sampling.frequency_penalty is nan", [](auto& r) { r.sampling.frequency_penalty = kNaN; }},
      {"sampling.logit_bias has 1025 entries; the limit is 1024",
       [](auto& r) {
         r.sampling.biases.assign(1025, {1, 0});
       }},
      {"sampling.logit_bias of token 3 is nan",
       [](auto& r) {
         r.sampling.biases = {{3, kNaN}};
       }},
      {"sampling.logit_bias of token 3 is 1001; it must be in [-1000, 1000]",
       [](auto& r) {
         r.sampling.biases = {{3, 1001}};
       }},
      {"sampling.logit_bias[0] is 64",
       [](auto& r) {
         r.sampling.biases = {{64, 0}};
       }},
      {"sampling.logit_bias names token 5 twice",
       [](auto& r) {
         r.sampling.biases = {{5, 0}, {6, 0}, {5, 1}};
       }},
  });
}

TEST(RequestCheckTest, StopOutputAndSessionOutOfRangeAreRefused) {
  ExpectRefused({
      {"stop.max_tokens is 0; it must be at least 1", [](auto& r) { r.stop.max_tokens = 0; }},
      {"stop.min_tokens is -1", [](auto& r) { r.stop.min_tokens = -1; }},
      {"stop.min_tokens is 6; it must be in [0, 5]", [](auto& r) { r.stop.min_tokens = 6; }},
      {"stop.sequences has 17 entries; the limit is 16",
       [](auto& r) { r.stop.sequences.assign(17, "x"); }},
      {"stop.sequences[1] is 0; it must be in [1, 256]",
       [](auto& r) {
         r.stop.sequences = {"x", ""};
       }},
      {"stop.sequences[0] is 257", [](auto& r) { r.stop.sequences = {std::string(257, 'x')}; }},
      {"stop.sequences[0] is not valid UTF-8", [](auto& r) { r.stop.sequences = {"\x82\xac"}; }},
      {"stop.token_ids has 65 entries; the limit is 64",
       [](auto& r) { r.stop.token_ids.assign(65, 1); }},
      {"stop.token_ids[0] is 64", [](auto& r) { r.stop.token_ids = {64}; }},
      {"output.top_log_probs is 21; it must be in [0, 20]",
       [](auto& r) {
         r.wants_log_probs = true;
         r.alternative_count = 21;
       }},
      {"output.top_log_probs is -1", [](auto& r) { r.alternative_count = -1; }},
      {"output.top_log_probs is 2; it needs output.log_probs",
       [](auto& r) { r.alternative_count = 2; }},
      {"session name has 129 bytes", [](auto& r) { r.session_name = std::string(129, 'a'); }},
      {"session name has byte 32 at 1", [](auto& r) { r.session_name = "a b"; }},
      {"create_session is true", [](auto& r) { r.create_session = true; }},
  });
}

TEST(RequestCheckTest, WhatDependsOnTheModel) {
  RequestLimits limits = Limits();
  TurnRequest request = MakeRequest({1}, 5);
  limits.has_tokenizer = false;
  request.stop.sequences = {"x"};
  EXPECT_THAT(std::string(CheckTurnRequest(request, limits).message()), HasSubstr("no tokenizer"));

  limits = Limits();
  limits.position_max = 10;
  request = MakeRequest(std::vector<int32_t>(10, 1), 5);
  EXPECT_THAT(std::string(CheckTurnRequest(request, limits).message()),
              HasSubstr("prompt has 10 tokens; the model holds at most 10"));

  limits = Limits();
  limits.vocabulary_size = 2;
  request = MakeRequest({1}, 5);
  request.stop.min_tokens = 1;
  request.stop.token_ids = {1};
  EXPECT_THAT(std::string(CheckTurnRequest(request, limits).message()),
              HasSubstr("all 2 tokens of the vocabulary"));
  request.stop.ignore_end_of_text = true;
  EXPECT_TRUE(CheckTurnRequest(request, limits).ok());
}

TEST(RequestCheckTest, WhatIsScored) {
  const auto check = [](size_t count, int32_t alternative_count, int64_t position_max = 1000) {
    RequestLimits limits = Limits();
    limits.position_max = position_max;
    return CheckTurnRequest(MakeScoreRequest(std::vector<int32_t>(count, 63), alternative_count),
                            limits);
  };
  EXPECT_TRUE(check(1, 0).ok());
  EXPECT_TRUE(check(300, 256).ok());
  EXPECT_TRUE(check(300, 256, 300).ok());
  const auto refuses = [](const absl::Status& status, const char* words) {
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(words));
  };
  refuses(check(0, 0), "prompt is 0; it must be in [1, 300]");
  refuses(check(301, 0), "prompt is 301; it must be in [1, 300]");
  refuses(check(300, 0, 299), "the model holds at most 299 tokens");
  refuses(check(3, 257), "top_log_probs is 257; it must be in [0, 256]");
  refuses(check(3, -1), "top_log_probs is -1");
  TurnRequest request = MakeScoreRequest({1, 64});
  refuses(CheckTurnRequest(request, Limits()), "prompt.token_ids[1] is 64");
  request = MakeScoreRequest({1, 2});
  request.session_name = "anna";
  refuses(CheckTurnRequest(request, Limits()), "session is 'anna'");
}

TEST(RequestCheckTest, SessionNames) {
  for (const char* name : {"a", "A-1_b.c:d", "...", "~a"})
    EXPECT_TRUE(CheckSessionName(name).ok()) << name;
  for (const char* name : {"", "a/b", "\xc3\xa9", "a\n", "a~"}) {
    EXPECT_EQ(CheckSessionName(name).code(), absl::StatusCode::kInvalidArgument) << name;
  }
}

TEST(RequestCheckTest, EngineOptionsThatCannotWorkAreRefused) {
  EXPECT_TRUE(CheckEngineOptions(EngineOptions()).ok());
  const std::vector<std::pair<std::string, std::function<void(EngineOptions&)>>> refusals = {
      {"slot_count is 0", [](auto& o) { o.slot_count = 0; }},
      {"batch_row_count_max is 0", [](auto& o) { o.batch_row_count_max = 0; }},
      {"batch_token_count_max is -5", [](auto& o) { o.batch_token_count_max = -5; }},
      {"prefill_beside_decode_token_count is 0",
       [](auto& o) { o.prefill_beside_decode_token_count = 0; }},
      {"prefill_chunk_token_count is 0", [](auto& o) { o.prefill_chunk_token_count = 0; }},
      {"batch_score_count_max is 0", [](auto& o) { o.batch_score_count_max = 0; }},
      {"score_token_count_max is 0", [](auto& o) { o.score_token_count_max = 0; }},
      {"submit_queue_capacity is 0", [](auto& o) { o.submit_queue_capacity = 0; }},
      {"session_turn_count_max is 0", [](auto& o) { o.session_turn_count_max = 0; }},
      {"stream_capacity is 0", [](auto& o) { o.stream_capacity = 0; }},
      {"prompt_token_count_max is 0", [](auto& o) { o.prompt_token_count_max = 0; }},
      {"session_count_max is -1", [](auto& o) { o.session_count_max = -1; }},
      {"host_state_bytes_max is -1", [](auto& o) { o.host_state_bytes_max = -1; }},
      {"reader_stall_max in ns is 0", [](auto& o) { o.reader_stall_max = Duration::zero(); }},
  };
  for (const auto& [sentence, change] : refusals) {
    EngineOptions options;
    change(options);
    EXPECT_THAT(std::string(CheckEngineOptions(options).message()), HasSubstr(sentence));
  }
}

}  // namespace
}  // namespace eddy
