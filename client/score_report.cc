// SPDX-License-Identifier: Apache-2.0
#include "client/score_report.h"

#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string_view>

#include "client/table.h"
#include "client/utf8.h"

namespace eddy {
namespace {

// In the order of insertion; floats with as few digits as tell them apart.
using FloatJson = nlohmann::basic_json<nlohmann::ordered_map, std::vector, std::string, bool,
                                       int64_t, uint64_t, float>;

// JSON has no infinity; the name is that of protobuf's JSON.
template <typename Json, typename Number>
Json JsonNumber(Number number) {
  if (std::isfinite(number)) return number;
  return number < 0 ? "-Infinity" : "Infinity";
}

FloatJson TopJson(const v1::TokenLogProb& token) {
  FloatJson top = FloatJson::array();
  for (const v1::LogProb& one : token.top()) {
    top.push_back(
        {{"token_id", one.token_id()}, {"log_prob", JsonNumber<FloatJson>(one.log_prob())}});
  }
  return top;
}

std::string TokenName(const v1::LogProb& token) {
  return token.has_bytes() ? QuoteBytes(token.bytes()) : std::to_string(token.token_id());
}

void AppendQuoted(char c, std::string* quoted) {
  if (c == '\n') {
    *quoted += "\\n";
  } else if (c == '\t') {
    *quoted += "\\t";
  } else if (c == '\r') {
    *quoted += "\\r";
  } else if (c == '\\' || c == '\'') {
    quoted->append("\\").push_back(c);
  } else {
    char escaped[8];
    std::snprintf(escaped, sizeof(escaped), "\\x%02x", static_cast<unsigned char>(c));
    *quoted += escaped;
  }
}

bool IsPlain(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return byte >= 0x20 && byte != 0x7f && c != '\\' && c != '\'';
}

}  // namespace

std::string FormatScoresJson(const std::vector<v1::TokenLogProb>& tokens, bool top) {
  FloatJson ids = FloatJson::array();
  FloatJson log_probs = FloatJson::array();
  FloatJson tops = FloatJson::array();
  for (const v1::TokenLogProb& token : tokens) {
    ids.push_back(token.token().token_id());
    log_probs.push_back(token.token().has_log_prob()
                            ? JsonNumber<FloatJson>(token.token().log_prob())
                            : FloatJson(nullptr));
    if (top) tops.push_back(TopJson(token));
  }
  FloatJson line = {{"token_ids", std::move(ids)}, {"log_probs", std::move(log_probs)}};
  if (top) line["top"] = std::move(tops);
  return line.dump();
}

std::string FormatScoresTable(const std::vector<v1::TokenLogProb>& tokens, bool top) {
  const bool has_text = !tokens.empty() && tokens.front().token().has_bytes();
  std::vector<std::vector<std::string>> rows = {{"POSITION", "TOKEN_ID", "LOG_PROB"}};
  if (has_text) rows.front().push_back("TEXT");
  if (top) rows.front().push_back("TOP");
  for (const v1::TokenLogProb& token : tokens) {
    const v1::LogProb& own = token.token();
    std::vector<std::string>& row = rows.emplace_back();
    row = {std::to_string(rows.size() - 2), std::to_string(own.token_id()),
           own.has_log_prob() ? FormatNumber(own.log_prob(), 4) : "-"};
    if (has_text) row.push_back(QuoteBytes(own.bytes()));
    if (!top) continue;
    std::string& cell = row.emplace_back();
    for (const v1::LogProb& one : token.top()) {
      cell.append(cell.empty() ? "" : ", ").append(TokenName(one)).append(" ");
      cell.append(FormatNumber(one.log_prob(), 4));
    }
  }
  return FormatTable(rows);
}

std::string QuoteBytes(const std::string& bytes) {
  std::string quoted = "'";
  std::string_view rest = bytes;
  while (!rest.empty()) {
    const size_t whole = FindInvalidUtf8(rest).value_or(rest.size());
    for (const char c : rest.substr(0, whole)) {
      if (IsPlain(c)) {
        quoted.push_back(c);
      } else {
        AppendQuoted(c, &quoted);
      }
    }
    if (whole < rest.size()) AppendQuoted(rest[whole], &quoted);
    rest.remove_prefix(std::min(whole + 1, rest.size()));
  }
  return quoted + "'";
}

void TextScore::Add(const v1::ScoreResponse& message) {
  for (const v1::TokenLogProb& token : message.tokens()) {
    if (!token.token().has_log_prob()) continue;
    ++token_count;
    byte_count += static_cast<int64_t>(token.token().bytes().size());
    nats -= static_cast<double>(token.token().log_prob());
  }
}

double TextScore::perplexity() const { return std::exp(nats_per_token()); }

std::string FormatTextScoreJson(const TextScore& score) {
  using Json = nlohmann::ordered_json;
  Json line = {{"tokens", score.token_count}};
  if (score.byte_count > 0) line["bytes"] = score.byte_count;
  line["nats"] = JsonNumber<Json>(score.nats);
  line["nats_per_token"] = JsonNumber<Json>(score.nats_per_token());
  if (score.byte_count > 0) line["nats_per_byte"] = JsonNumber<Json>(score.nats_per_byte());
  line["perplexity"] = JsonNumber<Json>(score.perplexity());
  return line.dump();
}

std::string FormatTextScoreTable(const TextScore& score) {
  std::string table;
  const auto add = [&](const char* name, const std::string& value) {
    char line[128];
    std::snprintf(line, sizeof(line), "%-15s %14s\n", name, value.c_str());
    table += line;
  };
  add("tokens", std::to_string(score.token_count));
  if (score.byte_count > 0) add("bytes", std::to_string(score.byte_count));
  add("nats", FormatNumber(score.nats, 2));
  add("nats per token", FormatNumber(score.nats_per_token(), 5));
  if (score.byte_count > 0) add("nats per byte", FormatNumber(score.nats_per_byte(), 5));
  add("perplexity", FormatNumber(score.perplexity(), 4));
  return table;
}

}  // namespace eddy
