// SPDX-License-Identifier: Apache-2.0
// What tokenizer_config.json says beside the tokenizer's own file.
#pragma once

#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "engine/config.h"

namespace eddy {

struct TextRules {
  std::string file;              // for messages
  std::optional<bool> adds_bos;  // add_bos_token; overrules the tokenizer's own file
  std::optional<bool> adds_eos;  // add_eos_token
  std::string bos_token;         // bos_token and eos_token; empty: not given
  std::string eos_token;
};

// INVALID_ARGUMENT for keys of the wrong kind.
absl::StatusOr<TextRules> ReadTextRules(const Config& config);

}  // namespace eddy
