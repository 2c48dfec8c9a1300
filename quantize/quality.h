// SPDX-License-Identifier: Apache-2.0
// What quantisation does to a model's loss on a text.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/text_loss.h"
#include "quantize/flags.h"

namespace eddy {

struct TextPart {
  std::string path;
  int64_t begin_byte = 0;
  std::string bytes;
};
// The text that the flags ask for, or the model's own; nullopt when there is none. NOT_FOUND and so
// on, as the system says, or INVALID_ARGUMENT when nothing is left of it.
absl::StatusOr<std::optional<TextPart>> FindText(const QuantizeFlags& flags);

struct LossRow {
  DType dtype = DType::kBF16;
  std::string numeric_path;
  TextLoss loss;
};

// Called with what is measured, the tokens read and all; false: stop.
using LossProgress = std::function<bool(const std::string& what, int64_t done, int64_t all)>;

// The loss of the original as bf16; of the new folder; and of the new folder with int8 activations
// (numeric path int8dot), where it is int8 and the machine has that. NOT_FOUND when the model has
// no tokenizer, CANCELLED when stopped.
absl::StatusOr<std::vector<LossRow>> MeasureLosses(const QuantizeFlags& flags,
                                                   const std::string& text,
                                                   const LossProgress& progress);

}  // namespace eddy
