// SPDX-License-Identifier: Apache-2.0
// Tokenizer: text to token ids and back; const and shared by all threads. Detokenizer: one per
// turn, emits whole UTF-8 only.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace eddy {

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  virtual int32_t vocabulary_size() const = 0;
  virtual absl::StatusOr<std::vector<int32_t>> Encode(std::string_view text) const = 0;
  // The bytes of one token; they need not be whole UTF-8. Empty for an id without text.
  virtual std::string_view TokenBytes(int32_t token) const = 0;
  // All bytes of the tokens with invalid UTF-8 replaced by U+FFFD. INVALID_ARGUMENT for an id out
  // of range.
  absl::StatusOr<std::string> Decode(std::span<const int32_t> tokens) const;
};

// Reads tokenizer_config.json of a model folder. tokenizer_class "ByteTokenizer": token id = byte.
// NOT_FOUND when the folder has no tokenizer; a synthetic model has none.
absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizer(const std::string& folder);

// Turns a stream of bytes into whole UTF-8: an unfinished character waits for its rest, an invalid
// byte becomes U+FFFD at once. Value type; holds at most three bytes. Not thread-safe.
class Utf8Stream {
 public:
  // Appends to `text` what has become whole.
  void Feed(std::string_view bytes, std::string* text);
  // What was left unfinished, as U+FFFD.
  void Finish(std::string* text);

 private:
  std::string pending_;
};

}  // namespace eddy
