// SPDX-License-Identifier: Apache-2.0
// TokenDecoder: how tokenizer.json turns a token's content into its bytes.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/tokenizer/json_view.h"
#include "engine/tokenizer/utf8.h"

namespace eddy {

class TokenDecoder {
 public:
  // ByteLevel, Metaspace, or a Sequence of Replace, ByteFallback, Fuse and Strip in which nothing
  // but the blank at the very beginning depends on what is around a token. INVALID_ARGUMENT for
  // anything else.
  static absl::StatusOr<TokenDecoder> Read(const JsonView& view);

  struct Text {
    std::string bytes;
    std::string first;  // at the beginning of a text
  };
  Text Decode(const std::string& content) const;
  // Of runs of bytes that fall back, the original replaces all, also what is valid in between, as
  // soon as one byte is not: this no stream can do.
  Utf8Stream::Invalid invalid() const {
    return byte_fallback_ ? Utf8Stream::Invalid::kByte : Utf8Stream::Invalid::kSubpart;
  }

 private:
  absl::Status ReadStep(const JsonView& view);
  absl::Status ReadStrip(const JsonView& view);

  bool byte_level_ = false;
  std::string metaspace_;  // the character that stands for a blank; empty: none
  bool metaspace_drops_first_ = false;
  std::vector<std::pair<std::string, std::string>> replacements_;
  bool byte_fallback_ = false;
  bool fused_ = false;
  bool strips_blank_ = false;
};

}  // namespace eddy
