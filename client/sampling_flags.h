// SPDX-License-Identifier: Apache-2.0
// Flags of how a token is chosen, when a turn ends and what is sent beside text.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "eddy/v1/generation.pb.h"

namespace eddy {

// Targets of the flags. A field whose flag is not given stays unset, so that the server's default
// holds; ranges are the server's to check.
struct SamplingFlags {
  v1::Sampling sampling;
  v1::StopConditions stop;
};

// Adds --temperature, --top-k, ..., --max-tokens, --stop, ... to `app`; `flags` must live as long
// as `app`.
void AddSamplingFlags(CLI::App& app, SamplingFlags& flags);

// Adds --log-probs and --top-log-probs to `app`; `output` must live as long as `app`.
void AddOutputFlags(CLI::App& app, v1::Output& output);

// Reads "ID=BIAS" into `bias`. Gives a sentence if `text` is not of that form, else nothing.
std::string ParseLogitBias(const std::string& text, google::protobuf::Map<uint32_t, float>* bias);

// For CLI11's check(): a sentence unless `text` is a whole number in [0, 2^64 - 1] in decimal
// digits, else nothing. By itself CLI11 takes "" for 0, -1 for 2^64 - 1 and 010 for 8.
std::string CheckWholeNumber(const std::string& text);

// For CLI11's check(): a sentence if `text` is not UTF-8, else nothing.
std::string CheckUtf8(const std::string& text);

}  // namespace eddy
