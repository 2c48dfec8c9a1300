// SPDX-License-Identifier: Apache-2.0
// What a Score call told, for programs and for people; and its sum over a text.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "eddy/v1/generation.pb.h"

namespace eddy {

// One line of JSON, {"token_ids":[...],"log_probs":[null,...]}, an entry for each token; with `top`
// also "top":[[],[{"token_id":..,"log_prob":..},...],...]. Impossible is "-Infinity".
std::string FormatScoresJson(const std::vector<v1::TokenLogProb>& tokens, bool top);

// A line for each token; its text where the bytes are told.
std::string FormatScoresTable(const std::vector<v1::TokenLogProb>& tokens, bool top);

// The bytes in single quotes: whole characters as they are, anything else as \n, \' or \xff.
std::string QuoteBytes(const std::string& bytes);

// The sum over all tokens that have a log-probability.
struct TextScore {
  int64_t token_count = 0;
  int64_t byte_count = 0;  // of these tokens; 0: not told
  double nats = 0;         // of -log(probability)

  void Add(const v1::ScoreResponse& message);
  double nats_per_token() const { return nats / static_cast<double>(token_count); }
  double nats_per_byte() const { return nats / static_cast<double>(byte_count); }
  double perplexity() const;  // exp of nats_per_token
};

// For at least one token. Without nats per byte where no bytes were told.
std::string FormatTextScoreJson(const TextScore& score);
std::string FormatTextScoreTable(const TextScore& score);

}  // namespace eddy
