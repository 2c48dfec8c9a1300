// SPDX-License-Identifier: Apache-2.0
#include "engine/tokenizer/text_rules.h"

#include "kernels/status_macros.h"

namespace eddy {
namespace {

absl::StatusOr<std::optional<bool>> OptionalBool(const Config& config, const std::string& key) {
  if (!config.Has(key)) return std::nullopt;
  EDDY_ASSIGN_OR_RETURN(const bool value, config.Bool(key));
  return value;
}

}  // namespace

absl::StatusOr<TextRules> ReadTextRules(const Config& config) {
  TextRules rules;
  rules.file = config.file();
  EDDY_ASSIGN_OR_RETURN(rules.adds_bos, OptionalBool(config, "add_bos_token"));
  EDDY_ASSIGN_OR_RETURN(rules.adds_eos, OptionalBool(config, "add_eos_token"));
  EDDY_ASSIGN_OR_RETURN(rules.bos_token, config.TokenName("bos_token"));
  EDDY_ASSIGN_OR_RETURN(rules.eos_token, config.TokenName("eos_token"));
  return rules;
}

}  // namespace eddy
