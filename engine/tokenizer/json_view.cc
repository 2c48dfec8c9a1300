// SPDX-License-Identifier: Apache-2.0
#include "engine/tokenizer/json_view.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/json.h"
#include "kernels/status_macros.h"

namespace eddy {
namespace {

const nlohmann::json kNull;

}  // namespace

std::string JsonView::where() const {
  return path_.empty() ? *file_ : absl::StrCat(*file_, ": ", path_);
}

absl::Status JsonView::Error(std::string_view expected) const {
  return absl::InvalidArgumentError(absl::StrCat(
      where(), " is ", is_null() ? "missing" : Printed(*value_), ", ", std::string(expected)));
}

JsonView JsonView::Get(const std::string& key) const {
  std::string path = path_.empty() ? key : absl::StrCat(path_, ".", key);
  if (!value_->is_object()) return JsonView(kNull, *file_, std::move(path));
  const auto found = value_->find(key);
  return JsonView(found == value_->end() ? kNull : *found, *file_, std::move(path));
}

absl::Status JsonView::CheckObject() const {
  return value_->is_object() ? absl::OkStatus() : Error("expected an object");
}

absl::StatusOr<std::vector<JsonView>> JsonView::Elements(size_t count_max) const {
  if (!value_->is_array() || value_->size() > count_max) {
    return Error(absl::StrCat("expected a list of at most ", count_max));
  }
  std::vector<JsonView> elements;
  elements.reserve(value_->size());
  for (size_t i = 0; i < value_->size(); ++i) {
    elements.emplace_back((*value_)[i], *file_, absl::StrCat(path_, "[", i, "]"));
  }
  return elements;
}

absl::StatusOr<std::string> JsonView::String(const std::string& key, size_t bytes_max,
                                             std::optional<std::string> fallback) const {
  const JsonView member = Get(key);
  if (member.is_null() && fallback) return *std::move(fallback);
  if (!member.value().is_string()) return member.Error("expected a string");
  const std::string& text = member.value().get_ref<const std::string&>();
  if (text.empty() || text.size() > bytes_max) {
    return member.Error(absl::StrCat("expected 1 to ", bytes_max, " bytes"));
  }
  return text;
}

absl::StatusOr<bool> JsonView::Bool(const std::string& key, std::optional<bool> fallback) const {
  const JsonView member = Get(key);
  if (member.is_null() && fallback) return *fallback;
  if (!member.value().is_boolean()) return member.Error("expected true or false");
  return member.value().get<bool>();
}

absl::StatusOr<int64_t> JsonView::Int(const std::string& key, int64_t min, int64_t max) const {
  const JsonView member = Get(key);
  const nlohmann::json& value = member.value();
  const bool fits =
      value.is_number_integer() &&
      (!value.is_number_unsigned() || value.get<uint64_t>() <= static_cast<uint64_t>(INT64_MAX)) &&
      min <= value.get<int64_t>() && value.get<int64_t>() <= max;
  if (!fits) return member.Error(absl::StrCat("expected a whole number from ", min, " to ", max));
  return value.get<int64_t>();
}

}  // namespace eddy
