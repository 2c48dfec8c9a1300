// SPDX-License-Identifier: Apache-2.0
// JsonView: a value inside of a JSON file that knows where it stands, for the messages of what is
// wrong with it. A view: the value and the file's name outlive it.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace eddy {

class JsonView {
 public:
  JsonView(const nlohmann::json& value, const std::string& file, std::string path = "")
      : value_(&value), file_(&file), path_(std::move(path)) {}

  const nlohmann::json& value() const { return *value_; }
  bool is_null() const { return value_->is_null(); }  // also what is not there
  // "FILE: PATH", to begin a message with.
  std::string where() const;
  // INVALID_ARGUMENT: "FILE: PATH is VALUE, EXPECTED".
  absl::Status Error(std::string_view expected) const;

  // A member of an object; null when it is not there.
  JsonView Get(const std::string& key) const;
  // Errors unless the value is an object / an array.
  absl::Status CheckObject() const;
  absl::StatusOr<std::vector<JsonView>> Elements(size_t count_max) const;
  // Members' values; with a fallback they may be null or absent.
  absl::StatusOr<std::string> String(const std::string& key, size_t bytes_max,
                                     std::optional<std::string> fallback = std::nullopt) const;
  absl::StatusOr<bool> Bool(const std::string& key,
                            std::optional<bool> fallback = std::nullopt) const;
  absl::StatusOr<int64_t> Int(const std::string& key, int64_t min, int64_t max) const;

 private:
  const nlohmann::json* value_;
  const std::string* file_;
  std::string path_;
};

}  // namespace eddy
