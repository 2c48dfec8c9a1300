// SPDX-License-Identifier: Apache-2.0
// The tokenizer of a tokenizer.json with a BPE model: byte-level, as GPT-2, GPT-NeoX, Qwen and
// Llama 3 have it, or of characters with bytes to fall back on, as Llama 2 and Mistral have it.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "engine/tokenizer/text_rules.h"
#include "engine/tokenizer/tokenizer.h"

namespace eddy {

inline constexpr size_t kTokenizerJsonBytesMax = size_t{64} << 20;

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadJsonTokenizer(const std::string& path,
                                                             const TextRules& rules);
// `file` is for messages.
absl::StatusOr<std::unique_ptr<Tokenizer>> ParseJsonTokenizer(std::string_view text,
                                                              const std::string& file,
                                                              const TextRules& rules);

}  // namespace eddy
