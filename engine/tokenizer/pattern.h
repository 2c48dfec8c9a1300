// SPDX-License-Identifier: Apache-2.0
// Pattern: a regular expression as tokenizer.json has it (Oniguruma's), matched by PCRE2.
//
// Only what means the same to both is accepted; `\s` becomes Unicode's White_Space. Constant after
// Make; any thread matches, each with its own Scan.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace eddy {

class Pattern {
 public:
  static constexpr size_t kBytesMax = 4096;

  // `where` names file and key in messages. INVALID_ARGUMENT for what is no pattern or not
  // accepted.
  static absl::StatusOr<Pattern> Make(std::string_view pattern, const std::string& where);

  Pattern(Pattern&&) noexcept;
  Pattern& operator=(Pattern&&) noexcept;
  ~Pattern();

  struct Match {
    size_t begin = 0;
    size_t end = 0;
  };
  // The matches of one text after the other, each from left to right. The pattern outlives it, and
  // each text, which is valid UTF-8, its scan.
  class Scan {
   public:
    explicit Scan(const Pattern& pattern);
    void Start(std::string_view text);
    ~Scan();
    Scan(const Scan&) = delete;
    Scan& operator=(const Scan&) = delete;
    // False at the end. INVALID_ARGUMENT for a text that is too much work.
    absl::StatusOr<bool> Next(Match* match);

   private:
    struct Space;  // PCRE2's
    const Pattern& pattern_;
    std::string_view text_;
    size_t at_ = 0;
    std::unique_ptr<Space> space_;
  };

 private:
  struct Code;  // PCRE2's
  Pattern(std::unique_ptr<Code> code, std::string where);

  std::unique_ptr<Code> code_;
  std::string where_;
};

}  // namespace eddy
