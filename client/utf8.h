// SPDX-License-Identifier: Apache-2.0
// Text fields of the API are UTF-8; a shell argument or a file may be anything.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

namespace eddy {

// Offset of the first byte that is not part of well-formed UTF-8 (RFC 3629: no overlong forms, no
// surrogates, at most U+10FFFF); nothing if all of `text` is.
std::optional<size_t> FindInvalidUtf8(std::string_view text);

}  // namespace eddy
