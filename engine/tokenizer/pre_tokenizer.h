// SPDX-License-Identifier: Apache-2.0
// PreTokenizer: how tokenizer.json cuts a text into words. Constant after Read; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/tokenizer/json_view.h"
#include "engine/tokenizer/pattern.h"

namespace eddy {

// A text and its words, in order; what no word covers was removed.
struct Words {
  struct Span {
    size_t begin = 0;
    size_t end = 0;
    bool at_beginning = false;  // of the whole text, nothing removed before it
  };
  std::string text;
  std::vector<Span> spans;  // none empty

  std::string_view Word(const Span& span) const {
    return std::string_view(text).substr(span.begin, span.end - span.begin);
  }
};

class PreTokenizer {
 public:
  // ByteLevel, Split, Digits, Metaspace, Sequence of these, or null: the text is one word.
  // INVALID_ARGUMENT for another one.
  static absl::StatusOr<PreTokenizer> Read(const JsonView& view);

  // The text is valid UTF-8. INVALID_ARGUMENT when it is too much for a pattern.
  absl::StatusOr<Words> Apply(std::string text, bool at_beginning) const;

 private:
  struct Step {
    enum class Kind { kSplit, kPrefixSpace, kByteLevel, kMetaspace } kind = Kind::kSplit;
    // kSplit: at the pattern's matches; which of the two sorts of pieces fall away.
    std::optional<Pattern> pattern;
    bool removes_matches = false;
    bool removes_others = false;
    // kMetaspace
    std::string replacement;
    enum class Prepend { kNever, kFirst, kAlways } prepend = Prepend::kNever;
    bool splits = true;
  };
  absl::Status ReadStep(const JsonView& view);
  absl::Status ReadByteLevel(const JsonView& view);
  absl::Status ReadSplit(const JsonView& view);
  absl::Status ReadDigits(const JsonView& view);
  absl::Status ReadMetaspace(const JsonView& view);
  absl::Status AddSplit(std::string_view pattern, const std::string& where, bool removes_matches,
                        bool removes_others);
  static absl::Status Split(const Step& step, Words* words);
  static void PrefixSpace(Words* words);
  static void MapBytes(Words* words);
  static void Metaspace(const Step& step, Words* words);

  std::vector<Step> steps_;
};

}  // namespace eddy
