// SPDX-License-Identifier: Apache-2.0
// What a model wants before and behind every text, as tokenizer.json and tokenizer_config.json say.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/tokenizer/json_view.h"
#include "engine/tokenizer/text_rules.h"

namespace eddy {

struct TextFrame {
  std::vector<int32_t> prefix;
  std::vector<int32_t> suffix;
};

using FindToken = std::function<std::optional<int32_t>(std::string_view name)>;

// The key "post_processor": ByteLevel (nothing), TemplateProcessing, Sequence of these, or null.
// add_bos_token and add_eos_token of tokenizer_config.json overrule it. INVALID_ARGUMENT for
// another one, and for a token that is not there.
absl::StatusOr<TextFrame> ReadFrame(const JsonView& view, const TextRules& rules,
                                    const FindToken& find);
// The overruling alone.
absl::Status ApplyRules(const TextRules& rules, const FindToken& find, TextFrame* frame);

}  // namespace eddy
