// SPDX-License-Identifier: Apache-2.0
// Normaliser: what tokenizer.json does to a text before anything else. Constant after Read; any
// thread.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/tokenizer/json_view.h"

namespace eddy {

class Normaliser {
 public:
  // NFC, Prepend, Replace (of a string), Sequence of these, or null: nothing. INVALID_ARGUMENT for
  // another one.
  static absl::StatusOr<Normaliser> Read(const JsonView& view);

  // The text is valid UTF-8. INVALID_ARGUMENT when it grows beyond all bounds.
  absl::StatusOr<std::string> Apply(std::string_view text) const;
  bool empty() const { return steps_.empty(); }

 private:
  struct Step {
    enum class Kind { kNfc, kPrepend, kReplace } kind = Kind::kNfc;
    std::string from;
    std::string to;
  };
  static absl::StatusOr<Step> ReadReplace(const JsonView& view);
  absl::Status ReadStep(const JsonView& view);

  std::vector<Step> steps_;
  std::string where_;
};

}  // namespace eddy
