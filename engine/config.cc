// SPDX-License-Identifier: Apache-2.0
#include "engine/config.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/json.h"
#include "engine/mapped_file.h"
#include "kernels/status_macros.h"

namespace eddy {
namespace {

// The number that a value of a list stands for; nullopt when it is none. Newer transformers write
// {"__float__": "Infinity"}.
std::optional<float> NumberOf(const nlohmann::json& value) {
  if (value.is_number()) {
    constexpr double kMax = std::numeric_limits<float>::max();
    return static_cast<float>(std::clamp(value.get<double>(), -kMax, kMax));
  }
  if (value.is_object() && value.size() == 1 && value.contains("__float__")) {
    return NumberOf(value["__float__"]);
  }
  if (value == "Infinity") return std::numeric_limits<float>::max();
  if (value == "-Infinity") return std::numeric_limits<float>::lowest();
  return std::nullopt;
}

}  // namespace

absl::StatusOr<Config> Config::Read(const std::string& path) {
  EDDY_ASSIGN_OR_RETURN(const MappedFile mapping, MappedFile::Open(path));
  const auto bytes = mapping.bytes();
  if (bytes.size() > static_cast<size_t>(kFileBytesMax)) {
    return absl::InvalidArgumentError(absl::StrCat(path, " has ", bytes.size(), " bytes, at most ",
                                                   kFileBytesMax, " are accepted"));
  }
  return Parse({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path);
}

absl::StatusOr<Config> Config::Parse(std::string_view text, const std::string& file) {
  Config config;
  config.file_ = file;
  EDDY_ASSIGN_OR_RETURN(config.values_, ParseJson(QuoteNotFinite(text), file));
  if (!config.values_.is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat(file, " is ", Printed(config.values_), ", expected a JSON object"));
  }
  return config;
}

const nlohmann::json* Config::Find(const std::string& key) const {
  const auto found = values_.find(key);
  return found == values_.end() || found->is_null() ? nullptr : &*found;
}

bool Config::HasContent(const std::string& key) const {
  const nlohmann::json* value = Find(key);
  return value != nullptr && !(value->is_structured() && value->empty());
}

absl::StatusOr<Config> Config::Section(const std::string& key) const {
  Config section;
  section.file_ = absl::StrCat(file_, ": ", key);
  const nlohmann::json* value = Find(key);
  if (value != nullptr && !value->is_object()) return Error(key, "expected an object");
  section.values_ = value == nullptr ? nlohmann::json::object() : *value;
  return section;
}

absl::Status Config::Error(const std::string& key, std::string_view expected) const {
  const nlohmann::json* value = Find(key);
  return absl::InvalidArgumentError(absl::StrCat(file_, ": ", key, " is ",
                                                 value == nullptr ? "missing" : Printed(*value),
                                                 ", ", std::string(expected)));
}

bool Config::WholeNumberIn(const nlohmann::json& value, int64_t min, int64_t max) const {
  if (!value.is_number_integer()) return false;
  if (value.is_number_unsigned() && value.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX)) {
    return false;
  }
  const int64_t number = value.get<int64_t>();
  return min <= number && number <= max;
}

absl::StatusOr<int64_t> Config::Int(const std::string& key, int64_t min, int64_t max,
                                    std::optional<int64_t> fallback) const {
  const nlohmann::json* value = Find(key);
  if (value == nullptr && fallback) return *fallback;
  if (value == nullptr || !WholeNumberIn(*value, min, max)) {
    return Error(key, absl::StrCat("expected a whole number from ", min, " to ", max));
  }
  return value->get<int64_t>();
}

absl::StatusOr<float> Config::Float(const std::string& key, float above, float max,
                                    std::optional<float> fallback) const {
  const nlohmann::json* value = Find(key);
  if (value == nullptr && fallback) return *fallback;
  if (value != nullptr && value->is_number()) {
    // Compared as what it becomes: 1e-60 is 0 as a float.
    const float number = static_cast<float>(std::clamp(value->get<double>(), -1e38, 1e38));
    if (above < number && number <= max) return number;
  }
  return Error(key, absl::StrCat("expected a number above ", above, " and at most ", max));
}

absl::StatusOr<Interval> Config::IntervalOf(const std::string& key,
                                            const Interval& fallback) const {
  const nlohmann::json* value = Find(key);
  if (value == nullptr) return fallback;
  if (value->is_array() && value->size() == 2) {
    const std::optional<float> min = NumberOf((*value)[0]), max = NumberOf((*value)[1]);
    if (min && max && *min <= *max) return Interval{*min, *max};
  }
  return Error(key, "expected a list of two numbers, the first at most the second");
}

absl::StatusOr<bool> Config::Bool(const std::string& key, std::optional<bool> fallback) const {
  const nlohmann::json* value = Find(key);
  if (value == nullptr && fallback) return *fallback;
  if (value == nullptr || !value->is_boolean()) return Error(key, "expected true or false");
  return value->get<bool>();
}

absl::StatusOr<std::string> Config::String(const std::string& key) const {
  const nlohmann::json* value = Find(key);
  if (value == nullptr || !value->is_string() || value->get_ref<const std::string&>().empty()) {
    return Error(key, "expected a string that is not empty");
  }
  return value->get<std::string>();
}

absl::StatusOr<std::string> Config::TokenName(const std::string& key) const {
  const nlohmann::json* value = Find(key);
  if (value == nullptr) return std::string();
  if (value->is_object() && value->contains("content")) value = &(*value)["content"];
  if (!value->is_string()) return Error(key, "expected a token");
  return value->get<std::string>();
}

absl::StatusOr<size_t> Config::Choice(const std::string& key,
                                      std::span<const std::string_view> known,
                                      std::optional<size_t> fallback) const {
  const nlohmann::json* value = Find(key);
  if (value == nullptr && fallback) return *fallback;
  std::string list;
  for (size_t i = 0; i < known.size(); ++i) {
    if (value != nullptr && value->is_string() &&
        value->get_ref<const std::string&>() == known[i]) {
      return i;
    }
    absl::StrAppend(&list, i == 0 ? "" : ", ", Quoted(known[i]));
  }
  return Error(key, absl::StrCat("expected ", known.size() > 1 ? "one of " : "", list));
}

absl::StatusOr<std::vector<int32_t>> Config::TokenIds(const std::string& key,
                                                      int64_t vocabulary_size) const {
  std::vector<int32_t> ids;
  const nlohmann::json* value = Find(key);
  if (value == nullptr) return ids;
  const nlohmann::json list = value->is_array() ? *value : nlohmann::json::array({*value});
  for (const nlohmann::json& id : list) {
    if (!WholeNumberIn(id, 0, vocabulary_size - 1)) {
      return Error(key, absl::StrCat("expected a token id from 0 to ", vocabulary_size - 1,
                                     " or a list of them"));
    }
    ids.push_back(id.get<int32_t>());
  }
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

}  // namespace eddy
