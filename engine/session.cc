// SPDX-License-Identifier: Apache-2.0
#include "engine/session.h"

#include "kernels/check.h"

namespace eddy {

void Session::Read(std::span<const int32_t> prompt_tokens) {
  pending_token_ = -1;
  for (const int32_t token : prompt_tokens) window_.Append(token);
  position_ += static_cast<int64_t>(prompt_tokens.size());
}

void Session::AppendGenerated(int32_t token) {
  EDDY_CHECK(pending_token_ < 0) << "token " << pending_token_ << " was not read";
  EDDY_CHECK_LE(0, token);
  pending_token_ = token;
  window_.Append(token);
  ++position_;
}

}  // namespace eddy
