// SPDX-License-Identifier: Apache-2.0
// Classes of characters, and canonical composition.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace eddy {

// Unicode's White_Space.
bool IsWhiteSpace(char32_t character);
// `\w` of Rust's regular expressions: Alphabetic, marks, decimal digits, connectors, joiners.
bool IsWordCharacter(char32_t character);
// The last character of a text that is valid and not empty.
char32_t LastCharacter(std::string_view text, size_t* bytes);

// Unicode's normalisation form C of valid UTF-8. In time of n log n for any text.
std::string ToNfc(std::string_view text);

}  // namespace eddy
