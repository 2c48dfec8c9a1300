// SPDX-License-Identifier: Apache-2.0
#include "engine/tokenizer/tokenizer.h"

#include <filesystem>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/config.h"
#include "engine/synthetic.h"
#include "engine/tokenizer/byte_tokenizer.h"
#include "engine/tokenizer/character_tokenizer.h"
#include "engine/tokenizer/json_tokenizer.h"
#include "engine/tokenizer/sentencepiece.h"
#include "engine/tokenizer/text_rules.h"
#include "engine/tokenizer/world_tokenizer.h"
#include "kernels/status_macros.h"

namespace eddy {
namespace {

using Made = absl::StatusOr<std::unique_ptr<Tokenizer>>;

struct Kind {
  std::string_view file;
  Made (*load)(const std::string& path, const TextRules& rules);
};
constexpr Kind kKinds[] = {{"rwkv_vocab_v20230424.txt", LoadWorldTokenizer},
                           {"tokenizer.json", LoadJsonTokenizer},
                           {"tokenizer.model", LoadSentencePiece},
                           {"spiece.model", LoadSentencePiece}};

bool Exists(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored);
}

}  // namespace

absl::StatusOr<std::string> Tokenizer::Decode(std::span<const int32_t> tokens) const {
  std::string text;
  Detokenizer detokenizer(*this, /*at_beginning=*/true);
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] < 0 || tokens[i] >= vocabulary_size()) {
      return absl::InvalidArgumentError(absl::StrCat("token id ", tokens[i], " at index ", i,
                                                     " is not in the vocabulary, expected 0 to ",
                                                     vocabulary_size() - 1));
    }
    detokenizer.Feed(tokens[i], &text);
  }
  detokenizer.Finish(&text);
  return text;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizer(const std::string& folder) {
  if (IsSyntheticModel(folder)) {
    return absl::NotFoundError(absl::StrCat(folder, " has no tokenizer"));
  }
  const std::string config_path = folder + "/tokenizer_config.json";
  TextRules rules;
  std::optional<Config> config;
  if (Exists(config_path)) {
    EDDY_ASSIGN_OR_RETURN(config, Config::Read(config_path));
    constexpr std::string_view kClass = "tokenizer_class";
    const absl::StatusOr<std::string> name = config->String(std::string(kClass));
    if (name.ok() && *name == "ByteTokenizer") return MakeByteTokenizer();
    if (name.ok() && *name == "CharacterTokenizer") return MakeCharacterTokenizer(*config);
    EDDY_ASSIGN_OR_RETURN(rules, ReadTextRules(*config));
  }
  std::string names;
  for (const Kind& kind : kKinds) {
    const std::string path = folder + "/" + std::string(kind.file);
    if (Exists(path)) return kind.load(path, rules);
    absl::StrAppend(&names, names.empty() ? "" : ", ", std::string(kind.file));
  }
  if (config.has_value()) {
    return config->Error("tokenizer_class",
                         "expected \"ByteTokenizer\" or \"CharacterTokenizer\" where the folder "
                         "has none of " +
                             names);
  }
  return absl::NotFoundError(
      absl::StrCat(folder, " has no tokenizer: none of tokenizer_config.json, ", names));
}

void Detokenizer::Feed(int32_t token, std::string* text) {
  const std::string_view bytes = tokenizer_->TokenBytes(token);
  if (bytes.empty()) {
    if (rules_.ends_characters) utf8_.Finish(text);
    return;
  }
  const std::string_view first = at_beginning_ ? tokenizer_->FirstTokenBytes(token) : bytes;
  at_beginning_ = at_beginning_ && first.empty() && rules_.drops_all_leading_blanks;
  utf8_.Feed(first, text);
}

}  // namespace eddy
