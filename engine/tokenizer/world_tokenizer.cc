// SPDX-License-Identifier: Apache-2.0
#include "engine/tokenizer/world_tokenizer.h"

#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "engine/json.h"
#include "engine/mapped_file.h"
#include "engine/tokenizer/byte_trie.h"
#include "engine/tokenizer/token_texts.h"
#include "kernels/status_macros.h"

namespace eddy {
namespace {

constexpr size_t kFileBytesMax = size_t{64} << 20;

class WorldTokenizer : public Tokenizer {
 public:
  WorldTokenizer(ByteTrie trie, TokenTexts texts)
      : trie_(std::move(trie)), texts_(std::move(texts)) {}

  int32_t vocabulary_size() const override { return texts_.size(); }
  absl::StatusOr<std::vector<int32_t>> Encode(std::string_view text) const override {
    std::vector<int32_t> tokens;
    tokens.reserve(text.size() / 3);
    while (!text.empty()) {
      const ByteTrie::Match match = trie_.Longest(text);  // at least one byte
      tokens.push_back(match.value);
      text.remove_prefix(match.bytes);
    }
    return tokens;
  }
  std::optional<int32_t> SpecialToken(std::string_view name) const override {
    if (name == "<|rwkv_tokenizer_end_of_text|>") return 0;
    return std::nullopt;
  }
  std::string_view TokenBytes(int32_t token) const override { return texts_.Bytes(token); }

 private:
  const ByteTrie trie_;
  const TokenTexts texts_;
};

// Two or four hexadecimal digits; false when they are not there.
bool ReadHex(std::string_view* text, size_t digits, char32_t* value) {
  if (text->size() < digits) return false;
  *value = 0;
  for (const char c : text->substr(0, digits)) {
    const char lower = static_cast<char>(c | 0x20);
    if (c >= '0' && c <= '9') {
      *value = *value * 16 + static_cast<char32_t>(c - '0');
    } else if (lower >= 'a' && lower <= 'f') {
      *value = *value * 16 + static_cast<char32_t>(lower - 'a' + 10);
    } else {
      return false;
    }
  }
  text->remove_prefix(digits);
  return true;
}

// The escape behind a backslash. False for one that the format does not use.
bool ReadEscape(std::string_view* text, bool of_bytes, std::string* token) {
  if (text->empty()) return false;
  const char kind = text->front();
  text->remove_prefix(1);
  char32_t value = 0;
  switch (kind) {
    case 't':
      token->push_back('\t');
      return true;
    case 'n':
      token->push_back('\n');
      return true;
    case 'r':
      token->push_back('\r');
      return true;
    case '\\':
    case '\'':
    case '"':
      token->push_back(kind);
      return true;
    case 'x':
      if (!ReadHex(text, 2, &value)) return false;
      break;
    case 'u':
      if (of_bytes || !ReadHex(text, 4, &value) || (value >= 0xD800 && value <= 0xDFFF)) {
        return false;
      }
      break;
    default:
      return false;
  }
  if (of_bytes) {
    token->push_back(static_cast<char>(value));
  } else {
    AppendUtf8(value, token);
  }
  return true;
}

// A whole Python literal; false when it is none.
bool ReadLiteral(std::string_view text, std::string* token) {
  const bool of_bytes = text.starts_with('b');
  if (of_bytes) text.remove_prefix(1);
  if (text.size() < 2 || (text[0] != '\'' && text[0] != '"') || text.back() != text[0]) {
    return false;
  }
  const char quote = text[0];
  text = text.substr(1, text.size() - 2);
  while (!text.empty()) {
    const char c = text.front();
    text.remove_prefix(1);
    if (c == quote) return false;
    if (c != '\\') {
      token->push_back(c);
    } else if (!ReadEscape(&text, of_bytes, token)) {
      return false;
    }
  }
  return true;
}

struct Line {
  int64_t id = 0;
  std::string token;
};

// What is wrong with the line; empty: nothing.
std::string ReadLine(std::string_view text, Line* line) {
  const size_t first = text.find(' '), last = text.rfind(' ');
  if (first == std::string_view::npos || first == last) {
    return "expected an id, a literal and a length";
  }
  const auto number = [](std::string_view digits, int64_t* value) {
    return absl::SimpleAtoi(absl::string_view(digits.data(), digits.size()), value);
  };
  if (!number(text.substr(0, first), &line->id) || line->id < 1 || line->id > kTokenIdMax) {
    return absl::StrCat("expected an id from 1 to ", kTokenIdMax);
  }
  if (!ReadLiteral(text.substr(first + 1, last - first - 1), &line->token)) {
    return "expected a Python literal of str or bytes";
  }
  int64_t length = 0;
  if (!number(text.substr(last + 1), &length) ||
      length != static_cast<int64_t>(line->token.size()) || length < 1) {
    return absl::StrCat("expected the length of the literal, ", line->token.size(),
                        " and at least 1");
  }
  return "";
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadWorldTokenizer(const std::string& path,
                                                              const TextRules& rules) {
  if (rules.adds_bos.value_or(false) || rules.adds_eos.value_or(false)) {
    return absl::InvalidArgumentError(absl::StrCat(rules.file,
                                                   ": add_bos_token or add_eos_token is true, but ",
                                                   path, " has no such tokens; expected false"));
  }
  EDDY_ASSIGN_OR_RETURN(const MappedFile mapping, MappedFile::Open(path));
  std::string_view text(reinterpret_cast<const char*>(mapping.bytes().data()),
                        mapping.bytes().size());
  if (text.size() > kFileBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat(path, " has ", text.size(), " bytes, at most ",
                                                   kFileBytesMax, " are accepted"));
  }
  TokenTexts texts;
  std::vector<std::pair<std::string, int32_t>> entries;
  absl::flat_hash_set<std::string> seen;
  int byte_count = 0;
  for (int64_t number = 1; !text.empty(); ++number) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line_text = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line_text.ends_with('\r')) line_text.remove_suffix(1);
    Line line;
    std::string wrong = ReadLine(line_text, &line);
    const auto id = static_cast<int32_t>(line.id);
    if (wrong.empty() && !texts.Bytes(id).empty()) wrong = "the id occurs twice";
    if (wrong.empty() && !seen.insert(line.token).second) wrong = "the token occurs twice";
    if (!wrong.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ": line ", number, " is ", Quoted(line_text), ": ", wrong));
    }
    byte_count += line.token.size() == 1;
    texts.Set(id, line.token);
    entries.emplace_back(std::move(line.token), id);
  }
  if (byte_count != 256) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, " has tokens for ", byte_count, " single bytes, expected one for each of the 256"));
  }
  return std::make_unique<WorldTokenizer>(ByteTrie(std::move(entries)), std::move(texts));
}

}  // namespace eddy
