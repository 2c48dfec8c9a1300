// SPDX-License-Identifier: Apache-2.0
#include "client/score_report.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>

namespace eddy {
namespace {

v1::TokenLogProb Token(uint32_t id, float log_prob) {
  v1::TokenLogProb token;
  token.mutable_token()->set_token_id(id);
  token.mutable_token()->set_log_prob(log_prob);
  return token;
}

v1::TokenLogProb First(uint32_t id) {
  v1::TokenLogProb token;
  token.mutable_token()->set_token_id(id);
  return token;
}

void AddTop(uint32_t id, float log_prob, v1::TokenLogProb* token) {
  v1::LogProb* top = token->add_top();
  top->set_token_id(id);
  top->set_log_prob(log_prob);
}

constexpr float kInfinity = std::numeric_limits<float>::infinity();

TEST(ScoresJsonTest, IdsAndLogProbsTheFirstNull) {
  EXPECT_EQ(FormatScoresJson({First(34)}, false), R"({"token_ids":[34],"log_probs":[null]})");
  EXPECT_EQ(FormatScoresJson({First(34), Token(105, -0.1f), Token(110, 0.0f)}, false),
            R"({"token_ids":[34,105,110],"log_probs":[null,-0.1,0.0]})");
  EXPECT_EQ(FormatScoresJson({First(1), Token(2, -kInfinity)}, false),
            R"({"token_ids":[1,2],"log_probs":[null,"-Infinity"]})");
}

TEST(ScoresJsonTest, TopOnRequest) {
  v1::TokenLogProb token = Token(105, -1.5f);
  AddTop(5, -0.25f, &token);
  AddTop(105, -1.5f, &token);
  EXPECT_EQ(FormatScoresJson({First(34), token}, true),
            R"({"token_ids":[34,105],"log_probs":[null,-1.5],"top":[[],)"
            R"([{"token_id":5,"log_prob":-0.25},{"token_id":105,"log_prob":-1.5}]]})");
}

TEST(ScoresJsonTest, EveryFloatComesBackAsItWas) {
  for (float x = -1e-7f; x > -90.0f; x = x * 1.37f) {
    const std::string line = FormatScoresJson({First(1), Token(2, x)}, false);
    const size_t at = line.find("null,") + 5;
    EXPECT_EQ(std::strtof(line.c_str() + at, nullptr), x) << line;
  }
}

TEST(ScoresTableTest, IdsOnlyWithoutTokenizer) {
  v1::TokenLogProb token = Token(105, -1.5f);
  AddTop(5, -0.25f, &token);
  EXPECT_EQ(FormatScoresTable({First(34), token}, false),
            "POSITION  TOKEN_ID  LOG_PROB\n"
            "       0        34         -\n"
            "       1       105   -1.5000\n");
  EXPECT_EQ(FormatScoresTable({First(34), token}, true),
            "POSITION  TOKEN_ID  LOG_PROB  TOP\n"
            "       0        34         -\n"
            "       1       105   -1.5000  5 -0.2500\n");
}

TEST(ScoresTableTest, TextWhereTheBytesAreTold) {
  v1::TokenLogProb first = First(34);
  first.mutable_token()->set_bytes("a");
  v1::TokenLogProb token = Token(105, -1.5f);
  token.mutable_token()->set_bytes("\n");
  AddTop(5, -0.25f, &token);
  AddTop(6, -2.0f, &token);
  token.mutable_top(0)->set_bytes("e");
  token.mutable_top(1)->set_bytes("f");
  EXPECT_EQ(FormatScoresTable({first, token}, true),
            "POSITION  TOKEN_ID  LOG_PROB  TEXT  TOP\n"
            "       0        34         -  'a'\n"
            "       1       105   -1.5000  '\\n'  'e' -0.2500, 'f' -2.0000\n");
}

TEST(QuoteBytesTest, AnythingButPlainTextIsWrittenOut) {
  EXPECT_EQ(QuoteBytes(""), "''");
  EXPECT_EQ(QuoteBytes("a b"), "'a b'");
  EXPECT_EQ(QuoteBytes("\xc3\xa9\xe2\x82\xac"), "'\xc3\xa9\xe2\x82\xac'");
  EXPECT_EQ(QuoteBytes("it's\\\r\n\t"), R"('it\'s\\\r\n\t')");
  EXPECT_EQ(QuoteBytes(std::string("\x00\x1b\x7f", 3)), R"('\x00\x1b\x7f')");
  EXPECT_EQ(QuoteBytes("a\xff\xc3z\xc3"), R"('a\xff\xc3z\xc3')");
}

TEST(TextScoreTest, SumsWhatHasALogProb) {
  v1::ScoreResponse message;
  *message.add_tokens() = First(1);
  *message.add_tokens() = Token(2, -1.0f);
  message.mutable_tokens(0)->mutable_token()->set_bytes("abc");
  message.mutable_tokens(1)->mutable_token()->set_bytes("de");
  TextScore score;
  score.Add(message);
  score.Add(message);
  EXPECT_EQ(score.token_count, 2);
  EXPECT_EQ(score.byte_count, 4);
  EXPECT_EQ(score.nats, 2.0);
  EXPECT_EQ(score.perplexity(), std::exp(1.0));
  EXPECT_EQ(FormatTextScoreJson(score),
            R"({"tokens":2,"bytes":4,"nats":2.0,"nats_per_token":1.0,"nats_per_byte":0.5,)"
            R"("perplexity":2.718281828459045})");
  EXPECT_EQ(FormatTextScoreTable(score),
            "tokens                       2\n"
            "bytes                        4\n"
            "nats                      2.00\n"
            "nats per token         1.00000\n"
            "nats per byte          0.50000\n"
            "perplexity              2.7183\n");
}

TEST(TextScoreTest, WithoutBytesAndImpossible) {
  v1::ScoreResponse message;
  *message.add_tokens() = Token(2, -kInfinity);
  TextScore score;
  score.Add(message);
  EXPECT_EQ(
      FormatTextScoreJson(score),
      R"({"tokens":1,"nats":"Infinity","nats_per_token":"Infinity","perplexity":"Infinity"})");
  EXPECT_EQ(FormatTextScoreTable(score).find("byte"), std::string::npos);
}

}  // namespace
}  // namespace eddy
