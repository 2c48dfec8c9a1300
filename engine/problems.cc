// SPDX-License-Identifier: Apache-2.0
#include "engine/problems.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "kernels/check.h"

namespace eddy {

void Problems::Add(std::string problem) {
  ++count_;
  if (shown_.size() < kShownMax) shown_.push_back(std::move(problem));
}

absl::Status Problems::Told(std::string_view what) const {
  EDDY_CHECK(!empty());
  std::string message =
      absl::StrCat(std::string(what), " (", count_,
                   count_ == 1 ? " problem): " : " problems): ", absl::StrJoin(shown_, "; "));
  if (count_ > shown_.size()) absl::StrAppend(&message, "; and ", count_ - shown_.size(), " more");
  return absl::InvalidArgumentError(message);
}

}  // namespace eddy
