// SPDX-License-Identifier: Apache-2.0
#include "engine/tokenizer/bpe.h"

#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/json.h"
#include "engine/tokenizer/token_texts.h"
#include "engine/tokenizer/utf8.h"
#include "kernels/status_macros.h"

namespace eddy {
namespace {

uint64_t PairKey(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

// "left right" or ["left", "right"]; false for anything else.
bool ReadPair(const nlohmann::json& value, std::string_view* left, std::string_view* right) {
  if (value.is_string()) {
    const std::string_view text = value.get_ref<const std::string&>();
    const size_t blank = text.find(' ');
    if (blank == std::string_view::npos || text.find(' ', blank + 1) != std::string_view::npos) {
      return false;
    }
    *left = text.substr(0, blank);
    *right = text.substr(blank + 1);
    return true;
  }
  if (!value.is_array() || value.size() != 2 || !value[0].is_string() || !value[1].is_string()) {
    return false;
  }
  *left = value[0].get_ref<const std::string&>();
  *right = value[1].get_ref<const std::string&>();
  return true;
}

// Options that some files have and that would change what comes out.
absl::Status CheckUnsupported(const JsonView& view) {
  const JsonView dropout = view.Get("dropout");
  if (!dropout.is_null() && dropout.value() != 0) return dropout.Error("expected null");
  for (const char* const key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    const JsonView affix = view.Get(key);
    if (!affix.is_null() && affix.value() != "") {
      return affix.Error("which is not supported; expected null or \"\"");
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Bpe> Bpe::Read(const JsonView& view) {
  EDDY_RETURN_IF_ERROR(view.CheckObject());
  const JsonView type = view.Get("type");  // old files have none
  if (!type.is_null() && type.value() != "BPE") {
    return type.Error("which is not supported; expected \"BPE\"");
  }
  EDDY_RETURN_IF_ERROR(CheckUnsupported(view));
  Bpe bpe;
  EDDY_ASSIGN_OR_RETURN(bpe.byte_fallback_, view.Bool("byte_fallback", false));
  EDDY_ASSIGN_OR_RETURN(bpe.fuse_unknown_, view.Bool("fuse_unk", false));
  EDDY_ASSIGN_OR_RETURN(bpe.ignore_merges_, view.Bool("ignore_merges", false));
  EDDY_RETURN_IF_ERROR(bpe.ReadVocabulary(view.Get("vocab")));
  EDDY_RETURN_IF_ERROR(bpe.ReadMerges(view.Get("merges")));
  if (!view.Get("unk_token").is_null()) {
    EDDY_ASSIGN_OR_RETURN(const std::string unknown, view.String("unk_token", kTokenBytesMax));
    const std::optional<int32_t> id = bpe.Find(unknown);
    if (!id) return view.Get("unk_token").Error("expected a token of the vocabulary");
    bpe.unknown_ = *id;
  }
  for (size_t byte = 0; byte < 256; ++byte) {
    bpe.byte_tokens_[byte] = bpe.Find(absl::StrFormat("<0x%02X>", byte)).value_or(-1);
  }
  for (size_t c = 0; c < bpe.short_characters_.size(); ++c) {
    std::string character;
    AppendUtf8(static_cast<char32_t>(c), &character);
    bpe.short_characters_[c] = bpe.Find(character).value_or(-1);
  }
  return bpe;
}

absl::Status Bpe::ReadVocabulary(const JsonView& view) {
  EDDY_RETURN_IF_ERROR(view.CheckObject());
  absl::flat_hash_set<int32_t> ids;
  vocabulary_.reserve(view.value().size());
  ids.reserve(view.value().size());
  for (const auto& [token, value] : view.value().items()) {
    const bool fits =
        value.is_number_unsigned() && value.get<uint64_t>() <= static_cast<uint64_t>(kTokenIdMax);
    if (!fits || token.size() > kTokenBytesMax) {
      return absl::InvalidArgumentError(
          absl::StrCat(view.where(), ": ", Quoted(token), " is ", Printed(value),
                       ", expected tokens of at most ", kTokenBytesMax,
                       " bytes with ids from 0 to ", kTokenIdMax));
    }
    const auto id = value.get<int32_t>();
    if (!ids.insert(id).second) {
      return absl::InvalidArgumentError(absl::StrCat(view.where(), ": ", Quoted(token), " is ", id,
                                                     ", which another token is, too"));
    }
    vocabulary_.emplace(token, id);
  }
  return absl::OkStatus();
}

absl::Status Bpe::ReadMerges(const JsonView& view) {
  if (!view.value().is_array()) return view.Error("expected a list");
  merges_.reserve(view.value().size());
  int32_t rank = 0;
  for (const nlohmann::json& value : view.value()) {
    const auto refuse = [&](const char* expected) {
      return absl::InvalidArgumentError(
          absl::StrCat(view.where(), "[", rank, "] is ", Printed(value), ", expected ", expected));
    };
    std::string_view left, right;
    if (!ReadPair(value, &left, &right)) return refuse("\"left right\" or [\"left\", \"right\"]");
    const std::optional<int32_t> left_id = Find(left), right_id = Find(right);
    std::string whole(left);
    whole.append(right);
    const std::optional<int32_t> id = Find(whole);
    if (!left_id || !right_id || !id) {
      return refuse("two tokens of the vocabulary, and both together another one");
    }
    merges_[PairKey(*left_id, *right_id)] = {rank++, *id};
  }
  return absl::OkStatus();
}

std::optional<int32_t> Bpe::Find(std::string_view token) const {
  const auto found = vocabulary_.find(absl::string_view(token.data(), token.size()));
  if (found == vocabulary_.end()) return std::nullopt;
  return found->second;
}

int32_t Bpe::FindCharacter(std::string_view character) const {
  if (character.size() > 2) return Find(character).value_or(-1);
  size_t bytes = 0;
  return short_characters_[DecodeCharacter(character, &bytes)];
}

void Bpe::CutIntoSymbols(std::string_view word, std::vector<Symbol>* symbols) const {
  symbols->clear();
  const auto add = [symbols](int32_t id, size_t begin, size_t bytes) {
    Symbol symbol;
    symbol.id = id;
    symbol.begin = static_cast<uint32_t>(begin);
    symbol.bytes = static_cast<uint32_t>(bytes);
    symbols->push_back(symbol);
  };
  size_t bytes = 0;
  // Unknown characters not written yet; the original lets bytes that fall back overtake them.
  size_t unknown_begin = 0, unknown_bytes = 0;
  for (size_t at = 0; at < word.size(); at += bytes) {
    bytes = ValidCharacterBytes(word.substr(at));
    const std::string_view character = word.substr(at, bytes);
    const int32_t id = FindCharacter(character);
    if (id >= 0) {
      if (unknown_bytes > 0) add(unknown_, unknown_begin, unknown_bytes);
      unknown_bytes = 0;
      add(id, at, bytes);
      continue;
    }
    bool has_bytes = byte_fallback_;
    for (const char c : character) {
      has_bytes = has_bytes && byte_tokens_[static_cast<uint8_t>(c)] >= 0;
    }
    if (has_bytes) {
      for (size_t i = 0; i < bytes; ++i) {
        add(byte_tokens_[static_cast<uint8_t>(character[i])], at + i, 1);
      }
    } else if (unknown_ >= 0) {
      if (unknown_bytes > 0 && !fuse_unknown_) {
        add(unknown_, unknown_begin, unknown_bytes);
        unknown_bytes = 0;
      }
      if (unknown_bytes == 0) unknown_begin = at;
      unknown_bytes += bytes;
    }
  }
  if (unknown_bytes > 0) add(unknown_, unknown_begin, unknown_bytes);
}

void Bpe::Encode(std::string_view word, Work* work, std::vector<int32_t>* tokens) const {
  if (ignore_merges_) {
    if (const std::optional<int32_t> id = Find(word)) {
      tokens->push_back(*id);
      return;
    }
  }
  CutIntoSymbols(word, &work->symbols);
  if (work->symbols.empty()) return;
  LinkSymbols(work->symbols);
  work->queue.Run(work->symbols,
                  [this](const Symbol& left, const Symbol& right) -> std::optional<PairMerge> {
                    const auto found = merges_.find(PairKey(left.id, right.id));
                    if (found == merges_.end()) return std::nullopt;
                    return found->second;
                  });
  for (int32_t i = 0; i >= 0; i = work->symbols[static_cast<size_t>(i)].next) {
    tokens->push_back(work->symbols[static_cast<size_t>(i)].id);
  }
}

}  // namespace eddy
