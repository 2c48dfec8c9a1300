// SPDX-License-Identifier: Apache-2.0
// TokenTexts: the bytes of every token of a vocabulary. Filled while a tokenizer is loaded, then
// constant.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"

namespace eddy {

// Ids beyond are refused by all readers: more than any vocabulary, and their tables fit in memory.
inline constexpr int64_t kTokenIdMax = (int64_t{1} << 24) - 1;

class TokenTexts {
 public:
  // `first`: when the token is the first of a text.
  void Set(int32_t token, std::string bytes, std::string first) {
    if (first != bytes) first_[token] = std::move(first);
    Grow(token);
    bytes_[static_cast<size_t>(token)] = std::move(bytes);
  }
  void Set(int32_t token, const std::string& bytes) { Set(token, bytes, bytes); }
  // The id exists, with or without a text.
  void Grow(int32_t token) {
    if (token >= size()) bytes_.resize(static_cast<size_t>(token) + 1);
  }

  int32_t size() const { return static_cast<int32_t>(bytes_.size()); }
  // Empty for an id out of range.
  std::string_view Bytes(int32_t token) const {
    return token < 0 || token >= size() ? std::string_view() : bytes_[static_cast<size_t>(token)];
  }
  std::string_view FirstBytes(int32_t token) const {
    const auto found = first_.find(token);
    return found == first_.end() ? Bytes(token) : std::string_view(found->second);
  }

 private:
  std::vector<std::string> bytes_;
  absl::flat_hash_map<int32_t, std::string> first_;  // where it differs
};

}  // namespace eddy
