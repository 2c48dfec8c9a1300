// SPDX-License-Identifier: Apache-2.0
// What is refused at the door: every field of a request against its limits. Pure functions for any
// thread. Errors are INVALID_ARGUMENT; the sentence names field, value and limit, fields as in
// proto/eddy/v1/generation.proto.
#pragma once

#include <cstdint>
#include <string_view>

#include "absl/status/status.h"
#include "engine/engine_options.h"
#include "engine/model.h"
#include "engine/request.h"

namespace eddy {

struct RequestLimits {
  int32_t vocabulary_size = 0;
  int64_t position_max = 0;  // 0: no limit
  int64_t prompt_token_count_max = 0;
  int64_t score_token_count_max = 0;
  bool has_tokenizer = false;
  bool is_mixture = false;  // the model predicts a mixture of logistics, not logits
  std::span<const int32_t> end_of_text_ids;
};

// 1 to 128 of [A-Za-z0-9._:-], or of these after a '~': a name that the server makes for itself,
// and lets no request carry. '~' sorts after all other names.
absl::Status CheckSessionName(std::string_view name);

absl::Status CheckTurnRequest(const TurnRequest& request, const RequestLimits& limits);

// A set of options that cannot work is refused at start.
absl::Status CheckEngineOptions(const EngineOptions& options);

}  // namespace eddy
