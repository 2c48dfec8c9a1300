// SPDX-License-Identifier: Apache-2.0
// How sentencepiece cuts a normalised text into pieces. Constant after construction; any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "engine/tokenizer/byte_trie.h"
#include "engine/tokenizer/sentencepiece_model.h"

namespace eddy {

struct CutPiece {
  std::string_view text;
  int32_t id = 0;
};

class SentencePieceCut {
 public:
  virtual ~SentencePieceCut() = default;
  // Of less than 2^31 bytes. Characters of no piece have the id of the unknown piece.
  virtual std::vector<CutPiece> Cut(std::string_view text) const = 0;
};

// What both need of a model; the pieces' texts outlive the cuts.
struct PieceTable {
  const std::vector<SentencePiece>* pieces = nullptr;
  absl::flat_hash_map<std::string_view, int32_t> normal;    // of the text's own: found in it
  absl::flat_hash_map<std::string_view, int32_t> reserved;  // unknown, control and byte pieces
  const ByteTrie* user_defined = nullptr;                   // always pieces of their own
  int32_t unknown = 0;

  int32_t Find(std::string_view text) const {
    for (const auto* const map : {&reserved, &normal}) {
      if (const auto found = map->find(text); found != map->end()) return found->second;
    }
    return unknown;
  }
};

std::unique_ptr<SentencePieceCut> MakeBpeCut(const PieceTable& table);
std::unique_ptr<SentencePieceCut> MakeUnigramCut(const PieceTable& table);

}  // namespace eddy
