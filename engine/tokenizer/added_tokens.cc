// SPDX-License-Identifier: Apache-2.0
#include "engine/tokenizer/added_tokens.h"

#include <algorithm>
#include <utility>

#include "engine/tokenizer/characters.h"
#include "engine/tokenizer/token_texts.h"
#include "engine/tokenizer/utf8.h"
#include "kernels/status_macros.h"

namespace eddy {
namespace {

// A text is searched for the longest token at each place, so tokens must not be long.
constexpr size_t kContentBytesMax = 256, kTokensMax = 1 << 16;

bool IsWholeWord(std::string_view text, size_t begin, size_t end) {
  size_t bytes = 0;
  const bool left = begin == 0 || !IsWordCharacter(LastCharacter(text.substr(0, begin), &bytes));
  return left &&
         (end == text.size() || !IsWordCharacter(DecodeCharacter(text.substr(end), &bytes)));
}

// Moves `begin` over the blanks before it, not beyond `done`.
size_t StripLeft(std::string_view text, size_t begin, size_t done) {
  size_t bytes = 0;
  while (begin > done && IsWhiteSpace(LastCharacter(text.substr(0, begin), &bytes))) begin -= bytes;
  return begin;
}

size_t StripRight(std::string_view text, size_t end) {
  size_t bytes = 0;
  while (end < text.size() && IsWhiteSpace(DecodeCharacter(text.substr(end), &bytes))) end += bytes;
  return end;
}

absl::StatusOr<AddedToken> ReadToken(const JsonView& view) {
  EDDY_RETURN_IF_ERROR(view.CheckObject());
  AddedToken token;
  EDDY_ASSIGN_OR_RETURN(const int64_t id, view.Int("id", 0, kTokenIdMax));
  token.id = static_cast<int32_t>(id);
  EDDY_ASSIGN_OR_RETURN(token.content, view.String("content", kContentBytesMax));
  EDDY_ASSIGN_OR_RETURN(token.special, view.Bool("special", false));
  EDDY_ASSIGN_OR_RETURN(token.normalized, view.Bool("normalized", !token.special));
  EDDY_ASSIGN_OR_RETURN(token.left_strip, view.Bool("lstrip", false));
  EDDY_ASSIGN_OR_RETURN(token.right_strip, view.Bool("rstrip", false));
  EDDY_ASSIGN_OR_RETURN(token.single_word, view.Bool("single_word", false));
  return token;
}

}  // namespace

absl::StatusOr<AddedTokens> AddedTokens::Read(const JsonView& view, const Normaliser& normaliser) {
  AddedTokens added;
  if (view.is_null()) return added;
  EDDY_ASSIGN_OR_RETURN(const auto list, view.Elements(kTokensMax));
  // Of equal strings the first counts, and special tokens come first.
  std::vector<std::pair<std::string, int32_t>> raw, normalised;
  for (const JsonView& element : list) {
    EDDY_ASSIGN_OR_RETURN(AddedToken token, ReadToken(element));
    if (!added.index_.emplace(token.content, added.tokens_.size()).second) {
      return element.Get("content").Error("which occurs twice");
    }
    added.tokens_.push_back(std::move(token));
  }
  for (const bool special : {true, false}) {
    for (size_t i = 0; i < added.tokens_.size(); ++i) {
      const AddedToken& token = added.tokens_[i];
      if (token.special != special) continue;
      if (token.normalized) {
        EDDY_ASSIGN_OR_RETURN(std::string content, normaliser.Apply(token.content));
        normalised.emplace_back(std::move(content), static_cast<int32_t>(i));
      } else {
        raw.emplace_back(token.content, static_cast<int32_t>(i));
      }
    }
  }
  added.raw_ = ByteTrie(std::move(raw));
  added.normalised_ = ByteTrie(std::move(normalised));
  return added;
}

const AddedToken* AddedTokens::Find(std::string_view content) const {
  const auto found = index_.find(absl::string_view(content.data(), content.size()));
  return found == index_.end() ? nullptr : &tokens_[found->second];
}

std::vector<AddedTokens::Part> AddedTokens::Split(std::string_view text, Text kind,
                                                  bool without_special) const {
  const ByteTrie& trie = kind == Text::kRaw ? raw_ : normalised_;
  std::vector<Part> parts;
  size_t done = 0;
  for (size_t at = 0; at < text.size() && !trie.empty();) {
    const ByteTrie::Match match = trie.Longest(text.substr(at));
    if (match.value == ByteTrie::kNone) {
      ++at;
      continue;
    }
    size_t begin = at, end = at + match.bytes;
    at = end;
    const AddedToken& token = tokens_[static_cast<size_t>(match.value)];
    if (without_special && token.special) continue;
    if (token.single_word && !IsWholeWord(text, begin, end)) continue;
    if (token.left_strip) begin = StripLeft(text, begin, done);
    if (token.right_strip) end = StripRight(text, end);
    if (done < begin) parts.push_back({text.substr(done, begin - done), -1});
    parts.push_back({text.substr(begin, end - begin), token.id});
    done = end;
  }
  if (done < text.size()) parts.push_back({text.substr(done), -1});
  return parts;
}

}  // namespace eddy
