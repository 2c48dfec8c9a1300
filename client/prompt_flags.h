// SPDX-License-Identifier: Apache-2.0
// Flags of what the model reads, and of the session that reads it.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <iosfwd>
#include <string>
#include <vector>

#include "eddy/v1/generation.pb.h"

namespace eddy {

// Targets of --prompt, --prompt-file and --token-ids; at most one is given.
struct PromptFlags {
  std::string text;
  std::string file;
  std::vector<uint32_t> token_ids;
  CLI::Option* text_option = nullptr;
  CLI::Option* file_option = nullptr;
  // Null where token ids are not taken.
  CLI::Option* token_ids_option = nullptr;

  bool given() const;
};

// Targets of --session, --create and --model.
struct SessionFlags {
  std::string session;
  bool create = false;
  std::string model;
};

// Add the flags to `app`; `flags` must live as long as `app`. AddTextFlags leaves out --token-ids.
void AddTextFlags(CLI::App& app, PromptFlags& flags);
void AddPromptFlags(CLI::App& app, PromptFlags& flags);
void AddSessionFlags(CLI::App& app, SessionFlags& flags);

// The prompt that the flags describe; `in` is read to its end for --prompt-file -. Gives a sentence
// if the file cannot be read or is not UTF-8, else nothing.
std::string ReadPrompt(const PromptFlags& flags, std::istream& in, v1::Prompt* prompt);

}  // namespace eddy
