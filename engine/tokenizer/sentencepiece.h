// SPDX-License-Identifier: Apache-2.0
// The tokenizer of a sentencepiece .model file: byte-pair encoding by scores, or the most probable
// cut of a unigram model. Control pieces ("<s>") are never found in a text.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "engine/tokenizer/text_rules.h"
#include "engine/tokenizer/tokenizer.h"

namespace eddy {

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadSentencePiece(const std::string& path,
                                                             const TextRules& rules);
// `file` is for messages.
absl::StatusOr<std::unique_ptr<Tokenizer>> ParseSentencePiece(std::string_view bytes,
                                                              const std::string& file,
                                                              const TextRules& rules);

}  // namespace eddy
