// SPDX-License-Identifier: Apache-2.0
#include "client/json_line.h"

#include <gtest/gtest.h>

#include "tests/client/fake_server.h"

namespace eddy {
namespace {

TEST(JsonLineTest, AMessageInMidStream) {
  EXPECT_EQ(JsonLine(Message(7, "ab", 2)),
            R"({"position":7,"token_ids":[7,8],"text":"ab","log_probs":[]})");
}

TEST(JsonLineTest, TheFirstMessageHasTheSeedAsAString) {
  v1::GenerateResponse message = Message(0, "a");
  message.set_seed(18'446'744'073'709'551'615u);
  EXPECT_EQ(JsonLine(message), R"({"position":0,"token_ids":[0],"text":"a","log_probs":[],)"
                               R"("seed":"18446744073709551615"})");
}

TEST(JsonLineTest, TheLastMessageHasReasonAndUsage) {
  v1::GenerateResponse message = Last(Message(9, "z"), v1::FINISH_REASON_LENGTH, 9, 1, 4);
  message.mutable_usage()->set_prefill_ms(1.5);
  // protobuf prints `optional` fields behind the others.
  EXPECT_EQ(JsonLine(message),
            R"({"position":9,"token_ids":[9],"text":"z","log_probs":[],)"
            R"("usage":{"prompt_tokens":9,"generated_tokens":1,"reused_tokens":4,)"
            R"("queue_ms":0,"prefill_ms":1.5,"decode_ms":0},)"
            R"("finish_reason":"FINISH_REASON_LENGTH"})");
}

TEST(JsonLineTest, EmptyFieldsAreThere) {
  EXPECT_EQ(JsonLine(v1::GenerateResponse()),
            R"({"position":0,"token_ids":[],"text":"","log_probs":[]})");
}

TEST(JsonLineTest, LineEndsAndQuotesAreEscaped) {
  v1::GenerateResponse message = Message(0, "a\n\"b\"\\\u00e9", 0);
  EXPECT_EQ(JsonLine(message),
            R"({"position":0,"token_ids":[],"text":"a\n\"b\"\\é","log_probs":[]})");
}

TEST(JsonLineTest, LogProbs) {
  v1::GenerateResponse message = Message(3, "x");
  v1::TokenLogProb* const log_prob = message.add_log_probs();
  log_prob->mutable_token()->set_token_id(3);
  log_prob->mutable_token()->set_log_prob(-0.5f);
  v1::LogProb* const top = log_prob->add_top();
  top->set_token_id(4);
  top->set_log_prob(0.0f);
  EXPECT_EQ(JsonLine(message),
            R"({"position":3,"token_ids":[3],"text":"x","log_probs":[)"
            R"({"token":{"token_id":3,"log_prob":-0.5},"top":[{"token_id":4,"log_prob":0}]}]})");
}

}  // namespace
}  // namespace eddy
