// SPDX-License-Identifier: Apache-2.0
// SentencePieceNormaliser: sentencepiece's treatment of a text before it is cut: a map of
// characters, blanks, and U+2581 for them. Constant after Make; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/tokenizer/byte_trie.h"
#include "engine/tokenizer/sentencepiece_model.h"

namespace eddy {

inline constexpr std::string_view kSpaceSymbol = "\xE2\x96\x81";  // U+2581

// A map from strings to strings, as a trie in a double array (darts-clone) and the strings it
// leads to.
class CharacterMap {
 public:
  CharacterMap() = default;
  // precompiled_charsmap; empty: no map. INVALID_ARGUMENT when it is cut off.
  static absl::StatusOr<CharacterMap> Make(std::string_view blob, const std::string& where);

  struct Match {
    std::string_view to;
    size_t bytes = 0;  // 0: none
  };
  // Of the longest string that `text` begins with. A place outside of the arrays, in a broken file,
  // counts as none.
  Match Longest(std::string_view text) const;

 private:
  std::vector<uint32_t> units_;
  std::string strings_;  // each with a zero byte behind it
};

class SentencePieceNormaliser {
 public:
  // user_defined: these pieces stay as they are.
  static absl::StatusOr<SentencePieceNormaliser> Make(const SentencePieceModel& model,
                                                      ByteTrie user_defined,
                                                      const std::string& file);
  // INVALID_ARGUMENT when the text grows beyond all bounds.
  absl::StatusOr<std::string> Apply(std::string_view text) const;
  const ByteTrie& user_defined() const { return user_defined_; }

 private:
  SentencePieceNormaliser() = default;
  // What the beginning of the text becomes, and how many bytes of it.
  CharacterMap::Match Prefix(std::string_view text) const;

  std::string file_;
  CharacterMap map_;
  ByteTrie user_defined_;
  bool adds_prefix_ = true;
  bool prefix_is_suffix_ = false;
  bool removes_extra_ = true;
  std::string_view blank_ = kSpaceSymbol;
};

}  // namespace eddy
