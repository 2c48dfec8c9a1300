// SPDX-License-Identifier: Apache-2.0
#include "engine/json.h"

#include <algorithm>
#include <iterator>
#include <set>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace eddy {
namespace {

constexpr size_t kMessageBytesMax = 80;

std::string Cut(std::string_view text) {
  if (text.size() <= kMessageBytesMax) return std::string(text);
  return std::string(text.substr(0, kMessageBytesMax)) + "...";
}

std::string AsciiJson(const nlohmann::json& value) {
  return value.dump(-1, ' ', /*ensure_ascii=*/true, nlohmann::json::error_handler_t::replace);
}

// Reads the text once before it becomes values: the parser itself keeps the last of equal keys
// without a word and would build any depth.
class StructureCheck : public nlohmann::json_sax<nlohmann::json> {
 public:
  const std::string& error() const { return error_; }

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(size_t) override { return Open(); }
  bool end_object() override { return Close(); }
  bool start_array(size_t) override { return Open(); }
  bool end_array() override { return Close(); }
  bool key(string_t& name) override {
    if (keys_.back().insert(name).second) return true;
    error_ = absl::StrCat("the key ", Quoted(name), " occurs twice in one object");
    return false;
  }
  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception& error) override {
    std::string_view what = error.what();
    // The library's own tag ("[json.exception.parse_error.101] ") tells a reader of the message
    // nothing.
    if (what.starts_with('[')) what.remove_prefix(std::min(what.find(' ') + 1, what.size()));
    error_ = std::string(what.substr(0, 300));
    for (char& c : error_) c = c >= ' ' && c <= '~' ? c : '?';  // it may quote the text's bytes
    return false;
  }

 private:
  bool Open() {
    keys_.emplace_back();
    if (keys_.size() <= static_cast<size_t>(kJsonDepthMax)) return true;
    error_ = absl::StrCat("values are nested more than ", kJsonDepthMax, " deep");
    return false;
  }
  bool Close() {
    keys_.pop_back();
    return true;
  }

  std::vector<std::set<std::string>> keys_;  // of each open value; empty for arrays
  std::string error_;
};

}  // namespace

absl::StatusOr<nlohmann::json> ParseJson(std::string_view text, const std::string& file) {
  // The parser takes a zero byte for the end of the text.
  if (const size_t at = text.find('\0'); at != std::string_view::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat(file, " is not valid JSON: byte ", at, " is zero"));
  }
  StructureCheck check;
  if (!nlohmann::json::sax_parse(text.begin(), text.end(), &check)) {
    return absl::InvalidArgumentError(absl::StrCat(file, " is not valid JSON: ", check.error()));
  }
  return nlohmann::json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
}

std::string QuoteNotFinite(std::string_view text) {
  constexpr std::string_view kNames[] = {"Infinity", "-Infinity", "NaN"};
  std::string quoted;
  quoted.reserve(text.size());
  bool in_string = false;
  for (size_t i = 0; i < text.size();) {
    size_t length = 1;
    if (in_string && text[i] == '\\') {
      length = std::min<size_t>(2, text.size() - i);
    } else if (text[i] == '"') {
      in_string = !in_string;
    } else if (!in_string) {
      const auto* const name = std::find_if(
          std::begin(kNames), std::end(kNames),
          [&](std::string_view candidate) { return text.substr(i).starts_with(candidate); });
      if (name != std::end(kNames)) {
        absl::StrAppend(&quoted, "\"", std::string(*name), "\"");
        i += name->size();
        continue;
      }
    }
    quoted.append(text.substr(i, length));
    i += length;
  }
  return quoted;
}

std::string Quoted(std::string_view text) { return AsciiJson(Cut(text)); }

std::string Printed(const nlohmann::json& value) { return Cut(AsciiJson(value)); }

}  // namespace eddy
