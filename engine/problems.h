// SPDX-License-Identifier: Apache-2.0
// Problems: what is wrong with a file, noted one by one and told in one error. Not thread-safe.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

namespace eddy {

class Problems {
 public:
  // Those that come later are counted only.
  static constexpr size_t kShownMax = 20;

  void Add(std::string problem);
  bool empty() const { return count_ == 0; }
  // INVALID_ARGUMENT: "WHAT (3 problems): A; B; C". There must be one.
  absl::Status Told(std::string_view what) const;

 private:
  std::vector<std::string> shown_;
  size_t count_ = 0;
};

}  // namespace eddy
