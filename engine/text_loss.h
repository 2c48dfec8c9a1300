// SPDX-License-Identifier: Apache-2.0
// How well a model predicts a text.
#pragma once

#include <cmath>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "engine/model.h"
#include "engine/tokenizer/tokenizer.h"
#include "kernels/backend.h"

namespace eddy {

// Keys of config.json: a text file in the model's folder, and the byte from which on the model was
// not trained on it (0 if absent).
inline constexpr char kTextKey[] = "eddy_text";
inline constexpr char kTextBeginKey[] = "eddy_text_begin";

struct HeldOutText {
  std::string path;
  int64_t begin_byte = 0;
};
// What the two keys of a folder say; nullopt when there is no text. INVALID_ARGUMENT for keys that
// make no sense.
absl::StatusOr<std::optional<HeldOutText>> FindHeldOutText(const std::string& folder);

struct TextLossOptions {
  // The text is read in windows of this many tokens, each from an empty state.
  int64_t window_token_count = 1024;
  // Tokens read before each window, from the empty state, without being counted. The first so many
  // of the text are nothing but history.
  int64_t history_token_count = 0;
  // Called now and then with the tokens that are read and all; false: stop.
  std::function<bool(int64_t done, int64_t all)> progress;
};

struct TextLoss {
  int64_t token_count = 0;  // that were predicted: all but the first and the history
  int64_t byte_count = 0;   // of these
  double nats = 0.0;        // the sum of -log(probability)

  double nats_per_byte() const { return nats / static_cast<double>(byte_count); }
  double perplexity() const { return std::exp(nats / static_cast<double>(token_count)); }
};

// Runs on the calling thread, which owns the backend. INVALID_ARGUMENT for a text of less than two
// tokens behind its history, INTERNAL when the logits are not finite or the device is lost,
// CANCELLED when stopped.
absl::StatusOr<TextLoss> MeasureTextLoss(Model& model, Backend& backend, const Tokenizer& tokenizer,
                                         std::string_view text, const TextLossOptions& options);

}  // namespace eddy
