// SPDX-License-Identifier: Apache-2.0
#include "client/sampling_flags.h"

#include <charconv>
#include <functional>
#include <vector>

#include "client/utf8.h"

namespace eddy {
namespace {

void AddChoiceFlags(CLI::App& app, v1::Sampling& sampling) {
  const auto number = [&app](const char* name, std::function<void(const float&)> set,
                             const char* what) {
    app.add_option_function<float>(name, set, what)->type_name("X")->group("Sampling");
  };
  number(
      "--temperature", [&](float x) { sampling.set_temperature(x); },
      "Divides the logits; 0 takes the most probable token [0, 100], default 1");
  app.add_option_function<uint32_t>(
         "--top-k", [&](uint32_t k) { sampling.set_top_k(k); },
         "Keep the N most probable tokens only; default 0, off")
      ->type_name("N")
      ->check(CheckWholeNumber)
      ->group("Sampling");
  number(
      "--top-p", [&](float x) { sampling.set_top_p(x); },
      "Keep the fewest most probable tokens whose sum reaches X (0, 1]; default 1, off");
  number(
      "--min-p", [&](float x) { sampling.set_min_p(x); },
      "Keep tokens of at least X times the largest probability [0, 1]; default 0, off");
  number(
      "--repetition-penalty", [&](float x) { sampling.set_repetition_penalty(x); },
      "Divides positive, multiplies negative logits of tokens seen [0.01, 100]; default 1, off");
  number(
      "--presence-penalty", [&](float x) { sampling.set_presence_penalty(x); },
      "Subtracted from the logit of each token seen [-100, 100]; default 0");
  number(
      "--frequency-penalty", [&](float x) { sampling.set_frequency_penalty(x); },
      "Subtracted for every time a token was seen [-100, 100]; default 0");
  app.add_option_function<std::vector<std::string>>(
         "--logit-bias",
         [&](const std::vector<std::string>& entries) {
           for (const std::string& entry : entries) {
             ParseLogitBias(entry, sampling.mutable_logit_bias());
           }
         },
         "Adds B to the logit of token ID; repeatable")
      ->type_name("ID=B")
      ->allow_extra_args(false)
      ->check([](const std::string& entry) {
        google::protobuf::Map<uint32_t, float> unused;
        return ParseLogitBias(entry, &unused);
      })
      ->group("Sampling");
  app.add_option_function<uint64_t>(
         "--seed", [&](uint64_t seed) { sampling.set_seed(seed); },
         "Same seed, same text; default: the server's choice")
      ->type_name("N")
      ->check(CheckWholeNumber)
      ->group("Sampling");
}

void AddStopFlags(CLI::App& app, v1::StopConditions& stop) {
  app.add_option_function<uint32_t>(
         "--max-tokens", [&](uint32_t n) { stop.set_max_tokens(n); },
         "Tokens to generate at most; default 256")
      ->type_name("N")
      ->check(CheckWholeNumber)
      ->group("Stopping");
  app.add_option_function<uint32_t>(
         "--min-tokens", [&](uint32_t n) { stop.set_min_tokens(n); },
         "Tokens to generate before anything else may stop; default 0")
      ->type_name("N")
      ->check(CheckWholeNumber)
      ->group("Stopping");
  app.add_option_function<std::vector<std::string>>(
         "--stop",
         [&](const std::vector<std::string>& sequences) {
           stop.mutable_sequences()->Assign(sequences.begin(), sequences.end());
         },
         "Stop before this text; repeatable (a line end in bash: $'\\n')")
      ->type_name("STRING")
      ->allow_extra_args(false)
      ->check(CheckUtf8)
      ->group("Stopping");
  app.add_option_function<std::vector<uint32_t>>(
         "--stop-token",
         [&](const std::vector<uint32_t>& ids) {
           stop.mutable_token_ids()->Assign(ids.begin(), ids.end());
         },
         "Stop before this token; repeatable")
      ->type_name("ID")
      ->check(CheckWholeNumber)
      ->allow_extra_args(false)
      ->delimiter(',')
      ->group("Stopping");
  app.add_flag_callback(
         "--ignore-end-of-text", [&] { stop.set_ignore_end_of_text(true); },
         "Go on past the model's end of text")
      ->group("Stopping");
}

}  // namespace

void AddSamplingFlags(CLI::App& app, SamplingFlags& flags) {
  AddChoiceFlags(app, flags.sampling);
  AddStopFlags(app, flags.stop);
}

void AddOutputFlags(CLI::App& app, v1::Output& output) {
  app.add_flag_callback(
         "--log-probs", [&] { output.set_log_probs(true); },
         "Send each token's log-probability (seen with --json)")
      ->group("Output");
  app.add_option_function<uint32_t>(
         "--top-log-probs",
         [&](uint32_t n) {
           output.set_log_probs(true);
           output.set_top_log_probs(n);
         },
         "Send the N most probable alternatives, too [0, 20]")
      ->type_name("N")
      ->check(CheckWholeNumber)
      ->group("Output");
}

std::string ParseLogitBias(const std::string& text, google::protobuf::Map<uint32_t, float>* bias) {
  const std::string problem = "logit bias is \"" + text + "\", must be ID=BIAS such as 42=-1.5";
  const size_t equals = text.find('=');
  if (equals == std::string::npos) {
    return problem;
  }
  const char* const begin = text.data();
  const char* const end = begin + text.size();
  uint32_t id = 0;
  float value = 0;
  const auto [id_end, id_error] = std::from_chars(begin, begin + equals, id);
  const auto [value_end, value_error] = std::from_chars(begin + equals + 1, end, value);
  if (id_error != std::errc() || id_end != begin + equals || value_error != std::errc() ||
      value_end != end) {
    return problem;
  }
  (*bias)[id] = value;
  return "";
}

std::string CheckWholeNumber(const std::string& text) {
  uint64_t unused = 0;
  const char* const end = text.data() + text.size();
  const auto [parsed_end, error] = std::from_chars(text.data(), end, unused);
  const bool leading_zero = text.size() > 1 && text[0] == '0';
  return error == std::errc() && parsed_end == end && !leading_zero
             ? ""
             : "value is \"" + text + "\", must be a whole number in decimal digits";
}

std::string CheckUtf8(const std::string& text) {
  const std::optional<size_t> at = FindInvalidUtf8(text);
  return at ? "the text is not UTF-8 from byte " + std::to_string(*at) + " on" : "";
}

}  // namespace eddy
