// SPDX-License-Identifier: Apache-2.0
#include "engine/tokenizer/sentencepiece_normaliser.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/tokenizer/utf8.h"
#include "kernels/status_macros.h"

namespace eddy {
namespace {

// The parts of a unit of a double array.
bool HasLeaf(uint32_t unit) { return (unit >> 8 & 1) == 1; }
uint32_t Value(uint32_t unit) { return unit & 0x7FFFFFFF; }
uint32_t Label(uint32_t unit) { return unit & 0x800000FF; }
size_t Offset(uint32_t unit) { return size_t{unit >> 10} << ((unit & (1u << 9)) >> 6); }

uint32_t ReadUnit(std::string_view bytes) {
  uint32_t value = 0;
  for (size_t i = 0; i < 4; ++i) {
    value |= static_cast<uint32_t>(static_cast<uint8_t>(bytes[i])) << (8 * i);
  }
  return value;
}

// The map of a broken file must not make gigabytes of a text.
constexpr size_t kReplacementBytesMax = 1024, kTextBytesMax = size_t{1} << 28;

}  // namespace

absl::StatusOr<CharacterMap> CharacterMap::Make(std::string_view blob, const std::string& where) {
  CharacterMap map;
  if (blob.empty()) return map;
  const auto refuse = [&where](const std::string& what) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": precompiled_charsmap ", what));
  };
  if (blob.size() < 4) return refuse("has less than 4 bytes");
  const size_t trie_bytes = ReadUnit(blob);
  blob.remove_prefix(4);
  if (trie_bytes > blob.size() || trie_bytes % 4 != 0 || trie_bytes == 0) {
    return refuse(absl::StrCat("has ", blob.size(), " bytes, expected a trie of ", trie_bytes));
  }
  map.units_.reserve(trie_bytes / 4);
  for (size_t at = 0; at < trie_bytes; at += 4) map.units_.push_back(ReadUnit(blob.substr(at)));
  map.strings_ = std::string(blob.substr(trie_bytes));
  if (!map.strings_.ends_with('\0')) return refuse("does not end with a zero byte");
  return map;
}

CharacterMap::Match CharacterMap::Longest(std::string_view text) const {
  Match match;
  if (units_.empty()) return match;
  size_t node = Offset(units_[0]);
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<uint8_t>(text[i]);
    node ^= byte;
    if (node >= units_.size() || Label(units_[node]) != byte) break;
    const bool has_leaf = HasLeaf(units_[node]);
    node ^= Offset(units_[node]);
    if (!has_leaf) continue;
    if (node >= units_.size()) break;
    const size_t begin = Value(units_[node]);
    if (begin >= strings_.size()) break;
    const size_t bytes = strings_.find('\0', begin) - begin;
    if (bytes > kReplacementBytesMax) break;
    match = {std::string_view(strings_).substr(begin, bytes), i + 1};
  }
  return match;
}

absl::StatusOr<SentencePieceNormaliser> SentencePieceNormaliser::Make(
    const SentencePieceModel& model, ByteTrie user_defined, const std::string& file) {
  SentencePieceNormaliser normaliser;
  EDDY_ASSIGN_OR_RETURN(normaliser.map_,
                        CharacterMap::Make(model.charsmap, file + ": normalizer_spec"));
  normaliser.file_ = file;
  normaliser.user_defined_ = std::move(user_defined);
  normaliser.adds_prefix_ = model.add_dummy_prefix;
  normaliser.prefix_is_suffix_ = model.treat_whitespace_as_suffix;
  normaliser.removes_extra_ = model.remove_extra_whitespaces;
  normaliser.blank_ = model.escape_whitespaces ? kSpaceSymbol : std::string_view(" ");
  return normaliser;
}

CharacterMap::Match SentencePieceNormaliser::Prefix(std::string_view text) const {
  if (const size_t bytes = user_defined_.Longest(text).bytes; bytes > 0) {
    return {text.substr(0, bytes), bytes};
  }
  if (const CharacterMap::Match match = map_.Longest(text); match.bytes > 0) return match;
  const size_t bytes = ValidCharacterBytes(text);
  if (bytes == 0) return {kReplacementCharacter, 1};
  return {text.substr(0, bytes), bytes};
}

absl::StatusOr<std::string> SentencePieceNormaliser::Apply(std::string_view text) const {
  while (removes_extra_ && !text.empty()) {
    const CharacterMap::Match match = Prefix(text);
    if (match.to != " ") break;
    text.remove_prefix(match.bytes);
  }
  std::string result;
  if (text.empty()) return result;
  result.reserve(text.size() * 3 / 2);
  if (adds_prefix_ && !prefix_is_suffix_) result.append(blank_);
  bool after_blank = removes_extra_;
  while (!text.empty()) {
    CharacterMap::Match match = Prefix(text);
    while (after_blank && match.to.starts_with(' ')) match.to.remove_prefix(1);
    for (const char c : match.to) {
      if (c == ' ') {
        result.append(blank_);
      } else {
        result.push_back(c);
      }
    }
    if (!match.to.empty()) after_blank = match.to.ends_with(' ');
    if (!removes_extra_) after_blank = false;
    if (result.size() > kTextBytesMax) {
      return absl::InvalidArgumentError(absl::StrCat("the text grows beyond ", kTextBytesMax,
                                                     " bytes by the normalizer_spec of ", file_));
    }
    text.remove_prefix(match.bytes);
  }
  while (removes_extra_ && result.ends_with(blank_)) {
    result.resize(result.size() - blank_.size());
  }
  if (adds_prefix_ && prefix_is_suffix_) result.append(blank_);
  return result;
}

}  // namespace eddy
