// SPDX-License-Identifier: Apache-2.0
// JSON from files we did not write: parsed without exceptions, strict where the parser is not.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace eddy {

// Deeper values are refused; no file we read has more than a few levels.
inline constexpr int kJsonDepthMax = 64;

// Parses the whole of `text`. INVALID_ARGUMENT, beginning with `file`, for what is not JSON in
// UTF-8, for a key that one object has twice, and for nesting beyond kJsonDepthMax.
absl::StatusOr<nlohmann::json> ParseJson(std::string_view text, const std::string& file);

// The same text with strings in place of Infinity, -Infinity and NaN, numbers that Python writes
// although JSON has none such.
std::string QuoteNotFinite(std::string_view text);

// `text` for a message: in double quotes, as JSON in ASCII, cut after 80 bytes.
std::string Quoted(std::string_view text);
// A value as JSON for a message, cut after 80 bytes.
std::string Printed(const nlohmann::json& value);

}  // namespace eddy
