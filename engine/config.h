// SPDX-License-Identifier: Apache-2.0
// Config: the values of a model folder's config.json, asked for by key, kind and range.
//
// Every error is INVALID_ARGUMENT and names the file, the key, the value found and what was
// expected. A key that is null counts as absent; keys nobody asks for are ignored (the format's
// writers add many). Infinity and NaN, which Python writes although JSON has no such numbers, are
// read. Immutable.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace eddy {

// All numbers from min to max.
struct Interval {
  float min = 0.0f;
  float max = 0.0f;
};

class Config {
 public:
  static constexpr int64_t kFileBytesMax = int64_t{16} << 20;

  // Besides the above NOT_FOUND and so on, as the system says, when the file cannot be read.
  static absl::StatusOr<Config> Read(const std::string& path);
  // `file` is for messages.
  static absl::StatusOr<Config> Parse(std::string_view text, const std::string& file);

  const std::string& file() const { return file_; }
  bool Has(const std::string& key) const { return Find(key) != nullptr; }
  // Has the key with something other than an empty list or object.
  bool HasContent(const std::string& key) const;
  // The object under `key`, empty when absent.
  absl::StatusOr<Config> Section(const std::string& key) const;

  // A whole number in [min, max]. With `fallback` the key may be absent.
  absl::StatusOr<int64_t> Int(const std::string& key, int64_t min, int64_t max,
                              std::optional<int64_t> fallback = std::nullopt) const;
  // A number in (above, max].
  absl::StatusOr<float> Float(const std::string& key, float above, float max,
                              std::optional<float> fallback = std::nullopt) const;
  // A list of two numbers, the first at most the second. Infinity counts as the largest float.
  absl::StatusOr<Interval> IntervalOf(const std::string& key, const Interval& fallback) const;
  absl::StatusOr<bool> Bool(const std::string& key,
                            std::optional<bool> fallback = std::nullopt) const;
  // Of at least one byte.
  absl::StatusOr<std::string> String(const std::string& key) const;
  // A string, or an object whose member "content" is one; empty when absent.
  absl::StatusOr<std::string> TokenName(const std::string& key) const;
  // The index in `known` of a string that must be one of them.
  absl::StatusOr<size_t> Choice(const std::string& key, std::span<const std::string_view> known,
                                std::optional<size_t> fallback = std::nullopt) const;
  // A token id or a list of them, each in [0, vocabulary_size), sorted and each once; empty when
  // absent.
  absl::StatusOr<std::vector<int32_t>> TokenIds(const std::string& key,
                                                int64_t vocabulary_size) const;

  // "FILE: KEY is VALUE, EXPECTED"; for rules that span several keys.
  absl::Status Error(const std::string& key, std::string_view expected) const;

 private:
  const nlohmann::json* Find(const std::string& key) const;  // nullptr when absent or null
  bool WholeNumberIn(const nlohmann::json& value, int64_t min, int64_t max) const;

  std::string file_;
  nlohmann::json values_;
};

}  // namespace eddy
