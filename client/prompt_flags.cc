// SPDX-License-Identifier: Apache-2.0
#include "client/prompt_flags.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <istream>
#include <utility>

#include "client/sampling_flags.h"

namespace eddy {
namespace {

// By read(), which tells of errors by its state: a streambuf read directly throws them.
std::string ReadAll(std::istream& in) {
  std::string all;
  std::array<char, 1 << 16> block;
  do {
    in.read(block.data(), block.size());
    all.append(block.data(), static_cast<size_t>(in.gcount()));
  } while (in);
  return all;
}

}  // namespace

bool PromptFlags::given() const {
  return text_option->count() > 0 || file_option->count() > 0 ||
         (token_ids_option != nullptr && token_ids_option->count() > 0);
}

void AddTextFlags(CLI::App& app, PromptFlags& flags) {
  flags.text_option = app.add_option("--prompt", flags.text, "What the model reads first")
                          ->type_name("TEXT")
                          ->check(CheckUtf8);
  flags.file_option = app.add_option("--prompt-file", flags.file,
                                     "Read the prompt from a file; - is the standard input")
                          ->type_name("FILE")
                          ->excludes(flags.text_option);
}

void AddPromptFlags(CLI::App& app, PromptFlags& flags) {
  AddTextFlags(app, flags);
  flags.token_ids_option =
      app.add_option("--token-ids", flags.token_ids, "The prompt as token ids: 1,2,3")
          ->type_name("IDS")
          ->check(CheckWholeNumber)
          ->delimiter(',')
          ->allow_extra_args(false)
          ->excludes(flags.text_option)
          ->excludes(flags.file_option);
}

void AddSessionFlags(CLI::App& app, SessionFlags& flags) {
  CLI::Option* const session =
      app.add_option(
             "--session", flags.session,
             "Continue this session; it stays for the next call. Default: an unnamed one for this "
             "call alone")
          ->type_name("NAME")
          ->check(CheckUtf8);
  app.add_flag("--create", flags.create, "Create the session if it does not exist")->needs(session);
  app.add_option("--model", flags.model, "The model; default: the only one served")
      ->type_name("NAME")
      ->check(CheckUtf8);
}

std::string ReadPrompt(const PromptFlags& flags, std::istream& in, v1::Prompt* prompt) {
  if (flags.token_ids_option != nullptr && flags.token_ids_option->count() > 0) {
    prompt->mutable_token_ids()->mutable_ids()->Assign(flags.token_ids.begin(),
                                                       flags.token_ids.end());
    return "";
  }
  if (flags.file_option->count() == 0) {
    if (flags.text_option->count() > 0) {
      prompt->set_text(flags.text);
    }
    return "";
  }
  std::string text;
  if (flags.file == "-") {
    text = ReadAll(in);
    if (in.bad()) {
      return "cannot read the prompt from the standard input";
    }
  } else {
    errno = 0;
    std::ifstream file(flags.file, std::ios::binary);
    if (file.is_open()) {
      text = ReadAll(file);
    }
    if (!file.is_open() || file.bad()) {
      return "cannot read prompt file " + flags.file + ": " + std::strerror(errno);
    }
  }
  if (const std::string problem = CheckUtf8(text); !problem.empty()) {
    return "prompt file " + flags.file + ": " + problem;
  }
  prompt->set_text(std::move(text));
  return "";
}

}  // namespace eddy
