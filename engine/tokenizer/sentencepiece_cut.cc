// SPDX-License-Identifier: Apache-2.0
#include "engine/tokenizer/sentencepiece_cut.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <string>
#include <utility>

#include "engine/tokenizer/merge_queue.h"

namespace eddy {
namespace {

// By the lead byte alone, as the original has it: a map of characters may have made what is no
// UTF-8.
size_t CharacterLength(std::string_view text) {
  constexpr uint8_t kLength[] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 3, 4};
  return std::min<size_t>(kLength[static_cast<uint8_t>(text[0]) >> 4], text.size());
}

class BpeCut : public SentencePieceCut {
 public:
  explicit BpeCut(const PieceTable& table) : table_(table) {
    // The higher the score, the lower the rank; equal scores have the same.
    std::vector<float> scores;
    for (const SentencePiece& piece : *table.pieces) scores.push_back(piece.score);
    std::sort(scores.begin(), scores.end(), std::greater<>());
    scores.erase(std::unique(scores.begin(), scores.end()), scores.end());
    for (const SentencePiece& piece : *table.pieces) {
      const auto at = std::lower_bound(scores.begin(), scores.end(), piece.score, std::greater<>());
      ranks_.push_back(static_cast<int32_t>(at - scores.begin()));
    }
  }

  std::vector<CutPiece> Cut(std::string_view text) const override {
    constexpr int32_t kFrozen = -2;
    std::vector<Symbol> symbols;
    for (size_t at = 0; at < text.size();) {
      const std::string_view rest = text.substr(at);
      const ByteTrie::Match defined = table_.user_defined->Longest(rest);
      Symbol symbol;
      symbol.begin = static_cast<uint32_t>(at);
      symbol.bytes =
          static_cast<uint32_t>(defined.bytes > 0 ? defined.bytes : CharacterLength(rest));
      if (defined.bytes > 0) symbol.id = kFrozen;
      at += symbol.bytes;
      symbols.push_back(symbol);
    }
    if (symbols.empty()) return {};
    LinkSymbols(symbols);
    MergeQueue().Run(
        symbols, [&](const Symbol& left, const Symbol& right) -> std::optional<PairMerge> {
          if (left.id == kFrozen || right.id == kFrozen) return std::nullopt;
          const auto found =
              table_.normal.find(text.substr(left.begin, size_t{left.bytes} + right.bytes));
          if (found == table_.normal.end()) return std::nullopt;
          return PairMerge{ranks_[static_cast<size_t>(found->second)], found->second};
        });
    std::vector<CutPiece> cut;
    for (int32_t i = 0; i >= 0; i = symbols[static_cast<size_t>(i)].next) {
      const Symbol& symbol = symbols[static_cast<size_t>(i)];
      const std::string_view piece = text.substr(symbol.begin, symbol.bytes);
      cut.push_back({piece, table_.Find(piece)});
    }
    return cut;
  }

 private:
  const PieceTable& table_;
  std::vector<int32_t> ranks_;  // by id
};

// Viterbi's algorithm; numbers are rounded where the original rounds them, for the ties.
class UnigramCut : public SentencePieceCut {
 public:
  explicit UnigramCut(const PieceTable& table) : table_(table) {
    float least = std::numeric_limits<float>::max();
    std::vector<std::pair<std::string, int32_t>> entries;
    for (const auto& [text, id] : table.normal) entries.emplace_back(text, id);
    trie_ = ByteTrie(std::move(entries));
    for (const SentencePiece& piece : *table.pieces) {
      if (piece.type != SentencePiece::Type::kNormal) continue;
      least = std::min(least, piece.score);
      score_max_ = std::max(score_max_, piece.score);
    }
    constexpr float kUnknownPenalty = 10.0f;
    unknown_score_ = least - kUnknownPenalty;
  }

  std::vector<CutPiece> Cut(std::string_view text) const override {
    std::vector<Node> nodes(text.size() + 1);
    for (size_t begin = 0; begin < text.size();) {
      const size_t character = CharacterLength(text.substr(begin));
      bool has_character = false;
      ByteTrie::Cursor cursor(trie_);
      for (size_t end = begin; end < text.size() && cursor.Step(text[end]);) {
        ++end;
        if (cursor.value() == ByteTrie::kNone) continue;
        Offer(Score(cursor.value(), end - begin), cursor.value(), begin, end, &nodes);
        has_character = has_character || end - begin == character;
      }
      if (!has_character) {
        Offer(double{unknown_score_}, table_.unknown, begin, begin + character, &nodes);
      }
      begin += character;
    }
    std::vector<CutPiece> cut;
    for (size_t end = text.size(); end > 0;) {
      const Node& node = nodes[end];
      const auto begin = static_cast<size_t>(node.begin);
      cut.push_back({text.substr(begin, end - begin), node.id});
      end = begin;
    }
    std::reverse(cut.begin(), cut.end());
    return cut;
  }

 private:
  struct Node {  // the best way to cut the text up to here: its last piece
    int32_t id = -1;
    float score = 0.0f;
    int32_t begin = -1;
  };

  double Score(int32_t id, size_t bytes) const {
    const SentencePiece& piece = (*table_.pieces)[static_cast<size_t>(id)];
    if (piece.type != SentencePiece::Type::kUserDefined) return double{piece.score};
    // More than anything else could have.
    return static_cast<double>(static_cast<float>(bytes) * score_max_) - 0.1;
  }

  static void Offer(double score, int32_t id, size_t begin, size_t end, std::vector<Node>* nodes) {
    const auto all = static_cast<float>(score + double{(*nodes)[begin].score});
    Node& node = (*nodes)[end];
    if (node.begin >= 0 && all <= node.score) return;
    node = {id, all, static_cast<int32_t>(begin)};
  }

  const PieceTable& table_;
  ByteTrie trie_;
  float unknown_score_ = 0.0f;
  float score_max_ = std::numeric_limits<float>::lowest();
};

}  // namespace

std::unique_ptr<SentencePieceCut> MakeBpeCut(const PieceTable& table) {
  return std::make_unique<BpeCut>(table);
}

std::unique_ptr<SentencePieceCut> MakeUnigramCut(const PieceTable& table) {
  return std::make_unique<UnigramCut>(table);
}

}  // namespace eddy
