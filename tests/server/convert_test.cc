// SPDX-License-Identifier: Apache-2.0
#include "server/convert.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "tests/server/request_cases.h"
#include "tests/support/fake_model.h"
#include "tests/support/model_files.h"

namespace eddy {
namespace {

using std::chrono::milliseconds;
using testing::ElementsAre;
using testing::HasSubstr;

WireRules Rules() {
  static const FakeTokenizer tokenizer;
  WireRules rules;
  rules.model_name = "fake";
  rules.vocabulary_size = 64;
  rules.tokenizer = &tokenizer;
  rules.prompt_bytes_max = 100;
  rules.prompt_token_count_max = 50;
  rules.max_tokens_limit = 1000;
  return rules;
}

TEST(ConvertTest, EveryBadFieldIsNamedWithValueAndLimit) {
  for (const BadRequest& bad : BadRequests()) {
    v1::GenerateRequest request = GoodRequest();
    bad.spoil(&request);
    const absl::StatusOr<TurnRequest> turn = ToTurnRequest(Rules(), request);
    ASSERT_FALSE(turn.ok()) << bad.name;
    EXPECT_EQ(turn.status().code(), bad.code) << bad.name;
    for (const std::string& part : bad.parts) {
      EXPECT_THAT(std::string(turn.status().message()), HasSubstr(part)) << bad.name;
    }
  }
}

TEST(ConvertTest, LimitsThemselvesAreAllowed) {
  for (const auto& [name, change] : EdgeRequests()) {
    v1::GenerateRequest request = GoodRequest();
    change(&request);
    const absl::StatusOr<TurnRequest> turn = ToTurnRequest(Rules(), request);
    EXPECT_TRUE(turn.ok()) << name << ": " << turn.status();
  }
}

TEST(ConvertTest, DefaultsAreTheDocumentedOnes) {
  v1::GenerateRequest request;
  request.mutable_prompt()->set_text("abc");
  const absl::StatusOr<TurnRequest> turn = ToTurnRequest(Rules(), request);
  ASSERT_TRUE(turn.ok()) << turn.status();
  EXPECT_THAT(turn->prompt, ElementsAre(0, 1, 2));
  EXPECT_EQ(turn->sampling.temperature, 1.0f);
  EXPECT_EQ(turn->sampling.top_p, 1.0f);
  EXPECT_EQ(turn->sampling.top_k, 0);
  EXPECT_EQ(turn->sampling.repetition_penalty, 1.0f);
  EXPECT_EQ(turn->stop.max_tokens, 256);
  EXPECT_EQ(turn->stop.min_tokens, 0);
  EXPECT_FALSE(turn->wants_log_probs);
}

TEST(ConvertTest, TheDefaultOfMaxTokensObeysTheLimit) {
  WireRules rules = Rules();
  rules.max_tokens_limit = 10;
  EXPECT_EQ(ToStop(rules, v1::StopConditions())->max_tokens, 10);
}

TEST(ConvertTest, EveryFieldArrives) {
  v1::GenerateRequest request = GoodRequest();
  request.set_session("s");
  request.set_create_session(true);
  v1::Sampling* sampling = request.mutable_sampling();
  sampling->set_repetition_penalty(1.5f);
  sampling->set_presence_penalty(-2);
  sampling->set_frequency_penalty(3);
  (*sampling->mutable_logit_bias())[7] = 4;
  (*sampling->mutable_logit_bias())[2] = -4;
  sampling->set_temperature(0.5f);
  sampling->set_top_k(9);
  sampling->set_top_p(0.25f);
  sampling->set_min_p(0.125f);
  sampling->set_seed(77);
  request.mutable_stop()->set_max_tokens(20);
  request.mutable_stop()->set_min_tokens(3);
  request.mutable_stop()->add_sequences("xy");
  request.mutable_stop()->add_token_ids(5);
  request.mutable_stop()->set_ignore_end_of_text(true);
  request.mutable_output()->set_log_probs(true);
  request.mutable_output()->set_top_log_probs(4);
  const absl::StatusOr<TurnRequest> turn = ToTurnRequest(Rules(), request);
  ASSERT_TRUE(turn.ok()) << turn.status();
  EXPECT_EQ(turn->session_name, "s");
  EXPECT_TRUE(turn->create_session);
  EXPECT_EQ(turn->sampling.repetition_penalty, 1.5f);
  EXPECT_EQ(turn->sampling.presence_penalty, -2);
  EXPECT_EQ(turn->sampling.frequency_penalty, 3);
  ASSERT_EQ(turn->sampling.biases.size(), 2u);
  EXPECT_EQ(turn->sampling.biases[0].token, 2);
  EXPECT_EQ(turn->sampling.biases[1].bias, 4);
  EXPECT_EQ(turn->sampling.temperature, 0.5f);
  EXPECT_EQ(turn->sampling.top_k, 9);
  EXPECT_EQ(turn->sampling.top_p, 0.25f);
  EXPECT_EQ(turn->sampling.min_p, 0.125f);
  EXPECT_EQ(turn->sampling.seed, 77u);
  EXPECT_EQ(turn->stop.max_tokens, 20);
  EXPECT_EQ(turn->stop.min_tokens, 3);
  EXPECT_THAT(turn->stop.sequences, ElementsAre("xy"));
  EXPECT_THAT(turn->stop.token_ids, ElementsAre(5));
  EXPECT_TRUE(turn->stop.ignore_end_of_text);
  EXPECT_TRUE(turn->wants_log_probs);
  EXPECT_EQ(turn->alternative_count, 4);
}

TEST(ConvertTest, AScoreRequestIsATurnThatScores) {
  v1::ScoreRequest request;
  request.set_model("fake");
  request.mutable_prompt()->set_text("abc");
  request.set_top_log_probs(256);
  const absl::StatusOr<TurnRequest> turn = ToTurnRequest(Rules(), request);
  ASSERT_TRUE(turn.ok()) << turn.status();
  EXPECT_TRUE(turn->scores);
  EXPECT_THAT(turn->prompt, ElementsAre(0, 1, 2));
  EXPECT_EQ(turn->alternative_count, 256);
  EXPECT_EQ(turn->session_name, "");
  WireRules rules = Rules();
  rules.score_token_count_max = 2;
  EXPECT_THAT(std::string(ToTurnRequest(rules, request).status().message()),
              HasSubstr("prompt has 3 tokens to score: at most 2"));
}

TEST(ConvertTest, SeedsNotGivenDiffer) {
  const uint64_t a = ToSampling(Rules(), v1::Sampling())->seed;
  const uint64_t b = ToSampling(Rules(), v1::Sampling())->seed;
  EXPECT_NE(a, b);
}

TEST(ConvertTest, WithoutTokenizerOnlyTokenIds) {
  WireRules rules = Rules();
  rules.tokenizer = nullptr;
  v1::GenerateRequest request = GoodRequest();
  EXPECT_TRUE(ToTurnRequest(rules, request).ok());
  request.mutable_stop()->add_sequences(std::string(1, 'x'));
  EXPECT_EQ(ToTurnRequest(rules, request).status().code(), absl::StatusCode::kFailedPrecondition);
  request.mutable_stop()->clear_sequences();
  request.mutable_prompt()->set_text("a");
  EXPECT_EQ(ToTurnRequest(rules, request).status().code(), absl::StatusCode::kFailedPrecondition);
}

TEST(ConvertTest, ATurnEndsALittleBeforeItsCall) {
  const auto system_now = std::chrono::system_clock::now();
  const TimePoint steady_now = std::chrono::steady_clock::now();
  const auto engine_time = [&](auto call_time) {
    return *ToDeadline(system_now + call_time, system_now, steady_now) - steady_now;
  };
  EXPECT_EQ(engine_time(milliseconds(10'000)), milliseconds(9'950));
  EXPECT_EQ(engine_time(milliseconds(100)), milliseconds(95));
  EXPECT_EQ(engine_time(milliseconds(-5)), milliseconds(0));
  EXPECT_FALSE(ToDeadline(std::chrono::system_clock::time_point::max(), system_now, steady_now));
}

TEST(ConvertTest, StatusesKeepCodeAndSentence) {
  for (int code = 1; code <= 16; ++code) {
    const grpc::Status status =
        ToGrpc(absl::Status(static_cast<absl::StatusCode>(code), "the sentence"));
    EXPECT_EQ(static_cast<int>(status.error_code()), code);
    EXPECT_EQ(status.error_message(), "the sentence");
  }
  EXPECT_TRUE(ToGrpc(absl::OkStatus()).ok());
}

TEST(ConvertTest, SessionsArriveWhole) {
  SessionInfo info;
  info.name = "s";
  info.position = 1'000'000;
  info.turn_count = 3;
  info.state = SessionInfo::State::kEvicted;
  info.state_bytes = 4096;
  info.created = std::chrono::system_clock::time_point(milliseconds(1500));
  info.last_used = std::chrono::system_clock::time_point(milliseconds(2750));
  v1::Session session;
  ToProto(info, "fake", &session);
  EXPECT_EQ(session.name(), "s");
  EXPECT_EQ(session.model(), "fake");
  EXPECT_EQ(session.position(), 1'000'000u);
  EXPECT_EQ(session.turn_count(), 3u);
  EXPECT_EQ(session.state(), v1::Session::STATE_EVICTED);
  EXPECT_EQ(session.state_bytes(), 4096u);
  EXPECT_EQ(session.create_time().seconds(), 1);
  EXPECT_EQ(session.create_time().nanos(), 500'000'000);
  EXPECT_EQ(session.last_used_time().nanos(), 750'000'000);
}

TEST(ConvertTest, ReservedNamesCannotBeAskedForAndSortLast) {
  const std::string name = DrawReservedSessionName();
  EXPECT_TRUE(IsReservedSessionName(name));
  EXPECT_FALSE(CheckSessionName("session", name).ok());
  EXPECT_GT(name, "zzzz");
  EXPECT_NE(name, DrawReservedSessionName());
  EXPECT_FALSE(IsReservedSessionName("a"));
}

TEST(ConvertTest, UnknownModelsAreNotQuotedAtAnyLength) {
  const absl::Status status = CheckModel(Rules(), std::string(1 << 20, 'x'));
  EXPECT_TRUE(absl::IsNotFound(status));
  EXPECT_LT(status.message().size(), 200u);
}

// ---- prompts of messages ----

class ConvertMessagesTest : public testing::Test {
 protected:
  ConvertMessagesTest() {
    const std::string golden = std::string(EDDY_SOURCE_DIR) + "/tests/golden/tokenizers/llama2";
    std::filesystem::copy(golden + "/tokenizer.json", folder_ / "tokenizer.json");
    Configure(R"({"eddy_chat_template": "llama-2", "bos_token": "<s>", "add_bos_token": true})");
  }
  void Configure(const std::string& config) {
    WriteBytes(folder_ / "tokenizer_config.json", config);
    tokenizer_ = *LoadTokenizer(folder_.path());
    rules_ = Rules();
    rules_.tokenizer = tokenizer_.get();
    rules_.vocabulary_size = tokenizer_->vocabulary_size();
    rules_.chat_template = std::make_shared<const absl::StatusOr<ChatTemplate>>(
        ChatTemplate::Load(folder_.path(), *tokenizer_));
  }
  static v1::GenerateRequest Request(const std::string& role, const std::string& content) {
    v1::GenerateRequest request;
    v1::ChatMessage* const message = request.mutable_prompt()->mutable_messages()->add_messages();
    message->set_role(role);
    message->set_content(content);
    return request;
  }

  TestFolder folder_;
  std::unique_ptr<Tokenizer> tokenizer_;
  WireRules rules_;
};

TEST_F(ConvertMessagesTest, AreRenderedAndEndWhereTheTemplateSays) {
  const v1::GenerateRequest request = Request("user", "speak </s>");
  const auto turn = ToTurnRequest(rules_, request);
  ASSERT_TRUE(turn.ok()) << turn.status();
  const auto rendered =
      (*rules_.chat_template)->Render(std::vector<ChatMessage>{{"user", "speak </s>"}});
  EXPECT_EQ(turn->prompt, rendered->tokens);
  EXPECT_EQ(turn->prompt.front(), 1);
  EXPECT_THAT(turn->closing, ElementsAre(2));
  EXPECT_THAT(turn->stop.token_ids, ElementsAre(2));
  v1::Model model;
  ToProto(ModelInfo(), BackendInfo(), 1, rules_, &model);
  EXPECT_EQ(model.chat_template(), "llama-2");
}

// What stands before every text stands there once in a session.
TEST_F(ConvertMessagesTest, ATextOpensASessionOnly) {
  v1::GenerateRequest request;
  request.mutable_prompt()->set_text("speak");
  const auto turn = ToTurnRequest(rules_, request);
  ASSERT_TRUE(turn.ok()) << turn.status();
  EXPECT_THAT(turn->opening, ElementsAre(1));
  EXPECT_EQ(turn->prompt, *tokenizer_->EncodePlain("speak", true));
  EXPECT_TRUE(turn->closing.empty() && turn->stop.token_ids.empty());
}

TEST_F(ConvertMessagesTest, ARefusalSaysWhy) {
  const auto message = [this](const v1::GenerateRequest& request, absl::StatusCode code) {
    const auto turn = ToTurnRequest(rules_, request);
    EXPECT_EQ(turn.status().code(), code);
    return std::string(turn.status().message());
  };
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  EXPECT_THAT(message(Request("bot", "a"), kInvalid), HasSubstr("messages[0].role is \"bot\""));
  EXPECT_THAT(message(Request("user", std::string(101, 'a')), kInvalid),
              HasSubstr("prompt.messages has 101 bytes"));
  rules_.prompt_token_count_max = 3;
  EXPECT_THAT(message(Request("user", "speak"), kInvalid), HasSubstr("tokens: at most 3"));
  Configure(R"({"chat_template": "{{ messages }}"})");
  EXPECT_THAT(message(Request("user", "a"), absl::StatusCode::kFailedPrecondition),
              HasSubstr("a template we cannot run"));
  v1::Model model;
  ToProto(ModelInfo(), BackendInfo(), 1, rules_, &model);
  EXPECT_EQ(model.chat_template(), "");
  rules_.chat_template = nullptr;
  EXPECT_THAT(message(Request("user", "a"), absl::StatusCode::kFailedPrecondition),
              HasSubstr("has no chat template"));
}

}  // namespace
}  // namespace eddy
