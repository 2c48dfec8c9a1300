// SPDX-License-Identifier: Apache-2.0
// AddedTokens: the tokens of tokenizer.json that are found in a text before it is cut into words.
// Constant after Make; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "engine/tokenizer/byte_trie.h"
#include "engine/tokenizer/json_view.h"
#include "engine/tokenizer/normaliser.h"

namespace eddy {

struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool special = false;      // has no text of its own
  bool normalized = false;   // is found in the normalised text
  bool left_strip = false;   // takes the blanks before it
  bool right_strip = false;  // takes the blanks behind it
  bool single_word = false;  // is found only where it begins and ends a word
};

class AddedTokens {
 public:
  // The key "added_tokens", which may be missing.
  static absl::StatusOr<AddedTokens> Read(const JsonView& view, const Normaliser& normaliser);

  const std::vector<AddedToken>& tokens() const { return tokens_; }
  const AddedToken* Find(std::string_view content) const;  // nullptr: not there

  struct Part {
    std::string_view text;
    int32_t token = -1;  // -1: text
  };
  enum class Text { kRaw, kNormalised };
  // Cuts a text at the tokens that are looked for in texts of this kind: the longest at each place,
  // from left to right. without_special: special tokens are text.
  std::vector<Part> Split(std::string_view text, Text kind, bool without_special) const;

 private:
  std::vector<AddedToken> tokens_;
  absl::flat_hash_map<std::string, size_t> index_;  // by content
  ByteTrie raw_, normalised_;                       // values are indices in tokens_
};

}  // namespace eddy
