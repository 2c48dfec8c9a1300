// SPDX-License-Identifier: Apache-2.0
// Tokenizer: text to token ids and back; const and shared by all threads. Detokenizer: one per
// turn, emits whole UTF-8 only.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/tokenizer/utf8.h"

namespace eddy {

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // Ids are in [0, vocabulary_size()); not every one need be a token.
  virtual int32_t vocabulary_size() const = 0;
  // The ids that the original gives: special tokens in the text are recognised, and what the model
  // wants before and behind every text ("<s>") is there. Text that is not UTF-8 is read as the
  // original reads it, mostly with U+FFFD. INVALID_ARGUMENT for a text that has no tokens.
  virtual absl::StatusOr<std::vector<int32_t>> Encode(std::string_view text) const = 0;
  // How many ids Encode puts before every text.
  virtual int32_t prefix_token_count() const { return 0; }
  // The ids of the text alone, in which no special token is recognised: what a stranger wrote may
  // say "</s>". at_beginning: nothing comes before it.
  virtual absl::StatusOr<std::vector<int32_t>> EncodePlain(std::string_view text,
                                                           bool /*at_beginning*/) const {
    return Encode(text);
  }
  // The id of a special token by its name ("<|im_end|>"); none when there is no such token.
  virtual std::optional<int32_t> SpecialToken(std::string_view /*name*/) const {
    return std::nullopt;
  }

  // The bytes of one token; they need not be whole UTF-8. Empty for an id without text: special
  // tokens, and ids out of range.
  virtual std::string_view TokenBytes(int32_t token) const = 0;
  // The same when it is the first with text: without the blank that Encode puts before a text.
  virtual std::string_view FirstTokenBytes(int32_t token) const { return TokenBytes(token); }
  struct DecodingRules {
    Utf8Stream::Invalid invalid = Utf8Stream::Invalid::kSubpart;
    // Tokens count as first until there is text, so that all leading blanks fall away.
    bool drops_all_leading_blanks = false;
    // A token without text ends an unfinished character.
    bool ends_characters = false;
  };
  virtual DecodingRules decoding_rules() const { return {}; }

  // The text of the tokens from the beginning of a text, by Detokenizer. INVALID_ARGUMENT for an id
  // out of range.
  absl::StatusOr<std::string> Decode(std::span<const int32_t> tokens) const;
};

// Reads the tokenizer of a model folder: by tokenizer_class of tokenizer_config.json
// "ByteTokenizer" (token id = byte) or "CharacterTokenizer" (token id = index in the string
// eddy_characters), else the first of these files that is there: rwkv_vocab_v20230424.txt,
// tokenizer.json, tokenizer.model, spiece.model. NOT_FOUND when the folder has no tokenizer; a
// synthetic model has none. INVALID_ARGUMENT, naming file, key and value, for files that are broken
// or ask for what is not supported.
absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizer(const std::string& folder);

// Turns a stream of tokens into whole UTF-8: an unfinished character waits for its rest, invalid
// bytes become U+FFFD. Value type; not thread-safe.
class Detokenizer {
 public:
  // The tokenizer outlives it. at_beginning: no token with text came before.
  Detokenizer(const Tokenizer& tokenizer, bool at_beginning)
      : tokenizer_(&tokenizer),
        rules_(tokenizer.decoding_rules()),
        at_beginning_(at_beginning),
        utf8_(rules_.invalid) {}

  // Appends to `text` what has become whole.
  void Feed(int32_t token, std::string* text);
  // What was left unfinished, as U+FFFD.
  void Finish(std::string* text) { utf8_.Finish(text); }

 private:
  const Tokenizer* tokenizer_;
  Tokenizer::DecodingRules rules_;
  bool at_beginning_;
  Utf8Stream utf8_;
};

}  // namespace eddy
