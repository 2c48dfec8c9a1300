// SPDX-License-Identifier: Apache-2.0
#include "engine/tokenizer/character_tokenizer.h"

#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/json.h"
#include "engine/tokenizer/token_texts.h"
#include "kernels/status_macros.h"

namespace eddy {
namespace {

constexpr char kCharactersKey[] = "eddy_characters";

class CharacterTokenizer : public Tokenizer {
 public:
  // False when the character is there already.
  bool Add(char32_t character, std::string bytes) {
    const int32_t id = texts_.size();
    texts_.Set(id, bytes);
    return ids_.emplace(character, id).second;
  }

  int32_t vocabulary_size() const override { return texts_.size(); }
  absl::StatusOr<std::vector<int32_t>> Encode(std::string_view text) const override {
    const std::string valid = WithReplacements(text);
    std::vector<int32_t> tokens;
    tokens.reserve(valid.size());
    size_t bytes = 0;
    for (size_t at = 0; at < valid.size(); at += bytes) {
      const std::string_view rest = std::string_view(valid).substr(at);
      const auto found = ids_.find(DecodeCharacter(rest, &bytes));
      if (found == ids_.end()) {
        return absl::InvalidArgumentError(
            absl::StrCat("the character ", Quoted(rest.substr(0, bytes)), " at byte ", at,
                         " is none of the model's ", ids_.size()));
      }
      tokens.push_back(found->second);
    }
    return tokens;
  }
  std::string_view TokenBytes(int32_t token) const override { return texts_.Bytes(token); }

 private:
  absl::flat_hash_map<char32_t, int32_t> ids_;
  TokenTexts texts_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> MakeCharacterTokenizer(const Config& config) {
  EDDY_ASSIGN_OR_RETURN(const std::string characters, config.String(kCharactersKey));
  auto tokenizer = std::make_unique<CharacterTokenizer>();
  size_t bytes = 0;
  for (size_t at = 0; at < characters.size(); at += bytes) {
    const char32_t character = DecodeCharacter(std::string_view(characters).substr(at), &bytes);
    if (!tokenizer->Add(character, characters.substr(at, bytes))) {
      return config.Error(kCharactersKey,
                          absl::StrCat("expected each character once: ",
                                       Quoted(characters.substr(at, bytes)), " is there twice"));
    }
  }
  return tokenizer;
}

}  // namespace eddy
