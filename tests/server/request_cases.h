// SPDX-License-Identifier: Apache-2.0
// Requests that must be refused, and requests at the edge that must not: one table for the
// conversion and for the wire. Limits: vocabulary 64, 100 prompt bytes, 50 prompt tokens,
// max_tokens 1,000.
#pragma once

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "eddy/v1/generation.pb.h"

namespace eddy {

inline v1::GenerateRequest GoodRequest() {
  v1::GenerateRequest request;
  request.mutable_prompt()->mutable_token_ids()->add_ids(1);
  request.mutable_stop()->set_max_tokens(2);
  return request;
}

using Change = std::function<void(v1::GenerateRequest*)>;

struct BadRequest {
  std::string name;
  Change spoil;
  std::vector<std::string> parts;  // of the sentence: field, value, limit
  absl::StatusCode code = absl::StatusCode::kInvalidArgument;
};

inline void AddIds(v1::GenerateRequest* request, int count) {
  for (int i = 0; i < count; ++i) request->mutable_prompt()->mutable_token_ids()->add_ids(0);
}

inline std::vector<BadRequest> BadPrompts() {
  return {
      {"unknown model",
       [](auto* r) { r->set_model("gpt"); },
       {"\"gpt\"", "\"fake\""},
       absl::StatusCode::kNotFound},
      {"no prompt", [](auto* r) { r->clear_prompt(); }, {"prompt is missing", "prompt.text"}},
      {"empty prompt message",
       [](auto* r) { r->mutable_prompt()->Clear(); },
       {"prompt is missing"}},
      {"empty text", [](auto* r) { r->mutable_prompt()->set_text(""); }, {"prompt is empty", "1"}},
      {"no ids",
       [](auto* r) { r->mutable_prompt()->mutable_token_ids()->clear_ids(); },
       {"prompt is empty"}},
      {"text too long",
       [](auto* r) { r->mutable_prompt()->set_text(std::string(101, 'a')); },
       {"prompt.text", "101", "100"}},
      {"too many tokens of text",
       [](auto* r) { r->mutable_prompt()->set_text(std::string(51, 'a')); },
       {"prompt.text", "51 tokens", "50"}},
      {"too many ids", [](auto* r) { AddIds(r, 50); }, {"prompt.token_ids.ids", "51", "50"}},
      {"id out of range",
       [](auto* r) { r->mutable_prompt()->mutable_token_ids()->add_ids(64); },
       {"prompt.token_ids.ids[1]", "64", "[0, 64)"}},
      {"id beyond int32",
       [](auto* r) { r->mutable_prompt()->mutable_token_ids()->add_ids(0xffffffff); },
       {"prompt.token_ids.ids[1]", "4294967295", "[0, 64)"}},
      {"session name with a blank",
       [](auto* r) { r->set_session("a b"); },
       {"session", "[A-Za-z0-9"}},
      {"session name too long",
       [](auto* r) { r->set_session(std::string(129, 'a')); },
       {"session", "129", "128"}},
      {"create without name", [](auto* r) { r->set_create_session(true); }, {"create_session"}},
  };
}

inline std::vector<BadRequest> BadSampling() {
  const float nan = std::nanf("");
  const float inf = std::numeric_limits<float>::infinity();
  std::vector<BadRequest> bad;
  const auto add = [&bad](const std::string& field, float value, const std::string& shown,
                          const std::string& range, void (v1::Sampling::*set)(float)) {
    bad.push_back({absl::StrCat(field, " ", shown),
                   [=](auto* r) { (r->mutable_sampling()->*set)(value); },
                   {absl::StrCat("sampling.", field, " is ", shown), range}});
  };
  using S = v1::Sampling;
  for (auto [value, shown] : std::vector<std::pair<float, std::string>>{
           {nan, "nan"}, {inf, "inf"}, {-inf, "-inf"}, {-1001, "-1001"}, {1001, "1001"}}) {
    add("temperature", value, shown, "[0, 100]", &S::set_temperature);
    add("repetition_penalty", value, shown, "[0.01, 100]", &S::set_repetition_penalty);
    add("presence_penalty", value, shown, "[-100, 100]", &S::set_presence_penalty);
    add("frequency_penalty", value, shown, "[-100, 100]", &S::set_frequency_penalty);
    add("top_p", value, shown, "(0, 1]", &S::set_top_p);
    add("min_p", value, shown, "[0, 1]", &S::set_min_p);
    bad.push_back({absl::StrCat("bias ", shown),
                   [=](auto* r) { (*r->mutable_sampling()->mutable_logit_bias())[3] = value; },
                   {absl::StrCat("sampling.logit_bias[3] is ", shown), "[-1000, 1000]"}});
  }
  add("top_p", 0, "0", "(0, 1]", &S::set_top_p);
  add("repetition_penalty", 0, "0", "[0.01, 100]", &S::set_repetition_penalty);
  bad.push_back({"top_k",
                 [](auto* r) { r->mutable_sampling()->set_top_k(65); },
                 {"sampling.top_k is 65", "[0, 64]"}});
  bad.push_back({"bias of unknown token",
                 [](auto* r) { (*r->mutable_sampling()->mutable_logit_bias())[64] = 1; },
                 {"sampling.logit_bias", "64", "[0, 64)"}});
  bad.push_back({"too many biases",
                 [](auto* r) {
                   for (uint32_t i = 0; i < 1025; ++i) {
                     (*r->mutable_sampling()->mutable_logit_bias())[i] = 1;
                   }
                 },
                 {"sampling.logit_bias", "1025", "1024"}});
  return bad;
}

inline std::vector<BadRequest> BadStops() {
  return {
      {"max_tokens 0",
       [](auto* r) { r->mutable_stop()->set_max_tokens(0); },
       {"stop.max_tokens is 0", "[1, 1000]"}},
      {"max_tokens too large",
       [](auto* r) { r->mutable_stop()->set_max_tokens(1001); },
       {"stop.max_tokens is 1001", "[1, 1000]"}},
      {"min_tokens above max_tokens",
       [](auto* r) { r->mutable_stop()->set_min_tokens(3); },
       {"stop.min_tokens is 3", "[0, 2]"}},
      {"too many sequences",
       [](auto* r) {
         for (int i = 0; i < 17; ++i) r->mutable_stop()->add_sequences(std::string(1, 'x'));
       },
       {"stop.sequences", "17", "16"}},
      {"empty sequence",
       [](auto* r) { r->mutable_stop()->add_sequences(std::string()); },
       {"stop.sequences[0]", "0 bytes", "1 to 256"}},
      {"long sequence",
       [](auto* r) { r->mutable_stop()->add_sequences(std::string(257, 'x')); },
       {"stop.sequences[0]", "257 bytes", "1 to 256"}},
      {"too many stop ids",
       [](auto* r) {
         for (int i = 0; i < 65; ++i) r->mutable_stop()->add_token_ids(1);
       },
       {"stop.token_ids", "65", "64"}},
      {"stop id out of range",
       [](auto* r) { r->mutable_stop()->add_token_ids(64); },
       {"stop.token_ids[0]", "64", "[0, 64)"}},
      {"too many alternatives",
       [](auto* r) {
         r->mutable_output()->set_log_probs(true);
         r->mutable_output()->set_top_log_probs(21);
       },
       {"output.top_log_probs is 21", "[0, 20]"}},
      {"alternatives without log_probs",
       [](auto* r) { r->mutable_output()->set_top_log_probs(1); },
       {"output.top_log_probs is 1", "output.log_probs"}},
  };
}

inline std::vector<BadRequest> BadRequests() {
  std::vector<BadRequest> all = BadPrompts();
  for (const auto& more : {BadSampling(), BadStops()}) {
    all.insert(all.end(), more.begin(), more.end());
  }
  return all;
}

inline std::vector<std::pair<std::string, Change>> EdgeRequests() {
  return {
      {"own model", [](auto* r) { r->set_model("fake"); }},
      {"50 ids", [](auto* r) { AddIds(r, 49); }},
      {"largest id", [](auto* r) { r->mutable_prompt()->mutable_token_ids()->add_ids(63); }},
      {"50 characters", [](auto* r) { r->mutable_prompt()->set_text(std::string(50, 'a')); }},
      {"longest session name", [](auto* r) { r->set_session(std::string(128, 'a')); }},
      {"all characters", [](auto* r) { r->set_session("aZ09._:-"); }},
      {"greedy", [](auto* r) { r->mutable_sampling()->set_temperature(0); }},
      {"hottest", [](auto* r) { r->mutable_sampling()->set_temperature(100); }},
      {"whole vocabulary", [](auto* r) { r->mutable_sampling()->set_top_k(64); }},
      {"top_p 1", [](auto* r) { r->mutable_sampling()->set_top_p(1); }},
      {"min_p 1", [](auto* r) { r->mutable_sampling()->set_min_p(1); }},
      {"largest bias", [](auto* r) { (*r->mutable_sampling()->mutable_logit_bias())[63] = 1000; }},
      {"most tokens", [](auto* r) { r->mutable_stop()->set_max_tokens(1000); }},
      {"min = max", [](auto* r) { r->mutable_stop()->set_min_tokens(2); }},
      {"longest sequence",
       [](auto* r) { r->mutable_stop()->add_sequences(std::string(256, 'x')); }},
      {"20 alternatives",
       [](auto* r) {
         r->mutable_output()->set_log_probs(true);
         r->mutable_output()->set_top_log_probs(20);
       }},
  };
}

}  // namespace eddy
