// SPDX-License-Identifier: Apache-2.0
// A token is a character, its id the index in a given string of characters.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "engine/config.h"
#include "engine/tokenizer/tokenizer.h"

namespace eddy {

// The characters are the key eddy_characters of tokenizer_config.json. INVALID_ARGUMENT when it is
// missing or has a character twice. Encode refuses characters that are not among them.
absl::StatusOr<std::unique_ptr<Tokenizer>> MakeCharacterTokenizer(const Config& config);

}  // namespace eddy
