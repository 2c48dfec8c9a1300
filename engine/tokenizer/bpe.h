// SPDX-License-Identifier: Apache-2.0
// Bpe: the byte-pair encoding of tokenizer.json: a vocabulary, and pairs that merge. Constant after
// Read; any thread, each with its own Work.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "engine/tokenizer/json_view.h"
#include "engine/tokenizer/merge_queue.h"

namespace eddy {

class Bpe {
 public:
  static constexpr size_t kTokenBytesMax = 1024;

  // The key "model". INVALID_ARGUMENT for another type than BPE, for options that are not
  // supported, and for merges or ids that do not fit the vocabulary.
  static absl::StatusOr<Bpe> Read(const JsonView& view);

  const absl::flat_hash_map<std::string, int32_t>& vocabulary() const { return vocabulary_; }
  std::optional<int32_t> Find(std::string_view token) const;

  // What the words of one text share.
  struct Work {
    std::vector<Symbol> symbols;
    MergeQueue queue;
  };
  // Appends the ids of a word, which is valid UTF-8 of less than 2^31 bytes. A character that is
  // not in the vocabulary becomes bytes or the unknown token, as the model has it, or nothing.
  void Encode(std::string_view word, Work* work, std::vector<int32_t>* tokens) const;

 private:
  absl::Status ReadVocabulary(const JsonView& view);
  absl::Status ReadMerges(const JsonView& view);
  void CutIntoSymbols(std::string_view word, std::vector<Symbol>* symbols) const;
  int32_t FindCharacter(std::string_view character) const;  // -1: not there

  absl::flat_hash_map<std::string, int32_t> vocabulary_;
  absl::flat_hash_map<uint64_t, PairMerge> merges_;   // left id << 32 | right id
  std::array<int32_t, 0x800> short_characters_ = {};  // ids of those of one or two bytes, by number
  std::array<int32_t, 256> byte_tokens_ = {};         // "<0x00>" and on; -1: not there
  bool byte_fallback_ = false;
  bool fuse_unknown_ = false;
  bool ignore_merges_ = false;
  int32_t unknown_ = -1;
};

}  // namespace eddy
