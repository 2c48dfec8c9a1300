// SPDX-License-Identifier: Apache-2.0
#include "engine/tokenizer/token_decoder.h"

#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "engine/tokenizer/byte_alphabet.h"
#include "kernels/status_macros.h"

namespace eddy {
namespace {

constexpr size_t kStepsMax = 16, kReplacementBytesMax = 64;

// Everywhere in `text`.
std::string Replaced(const std::string& text, const std::string& from, const std::string& to) {
  return absl::StrReplaceAll(text, {{from, to}});
}

// Bytes of the alphabet's characters; the content itself where one of them is of no byte.
std::string FromAlphabet(const std::string& content) {
  std::string bytes;
  size_t length = 0;
  for (size_t at = 0; at < content.size(); at += length) {
    const int byte =
        ByteAlphabet::Byte(DecodeCharacter(std::string_view(content).substr(at), &length));
    if (byte < 0) return content;
    bytes.push_back(static_cast<char>(byte));
  }
  return bytes;
}

// "<0x0A>" -> "\n"; anything else stays as it is.
std::string FromFallback(const std::string& content) {
  if (content.size() != 6 || !content.starts_with("<0x") || content[5] != '>') return content;
  const std::string digits = content.substr(3, 2);
  if (digits.find_first_not_of("0123456789abcdefABCDEF") != std::string::npos) return content;
  return std::string(1, static_cast<char>(std::strtol(digits.c_str(), nullptr, 16)));
}

}  // namespace

absl::StatusOr<TokenDecoder> TokenDecoder::Read(const JsonView& view) {
  TokenDecoder decoder;
  EDDY_ASSIGN_OR_RETURN(const std::string type, view.String("type", 100));
  if (type == "ByteLevel") {
    decoder.byte_level_ = true;
  } else if (type == "Metaspace") {
    EDDY_ASSIGN_OR_RETURN(decoder.metaspace_, view.String("replacement", 4));
    EDDY_ASSIGN_OR_RETURN(const bool prefix_space, view.Bool("add_prefix_space", true));
    EDDY_ASSIGN_OR_RETURN(
        const std::string scheme,
        view.String("prepend_scheme", 100, std::string(prefix_space ? "always" : "never")));
    decoder.metaspace_drops_first_ = scheme != "never";
  } else if (type == "Sequence") {
    EDDY_ASSIGN_OR_RETURN(const auto list, view.Get("decoders").Elements(kStepsMax));
    for (const JsonView& element : list) EDDY_RETURN_IF_ERROR(decoder.ReadStep(element));
  } else {
    return view.Get("type").Error(
        "which is not supported; expected ByteLevel, Metaspace or Sequence");
  }
  return decoder;
}

absl::Status TokenDecoder::ReadStep(const JsonView& view) {
  EDDY_ASSIGN_OR_RETURN(const std::string type, view.String("type", 100));
  if (type == "Fuse") {
    fused_ = true;
  } else if (type == "Strip") {
    return ReadStrip(view);
  } else if (fused_) {
    return view.Get("type").Error("which is not supported behind Fuse; expected Strip");
  } else if (type == "ByteFallback") {
    byte_fallback_ = true;
  } else if (type == "Replace" && !byte_fallback_) {
    const JsonView pattern = view.Get("pattern");
    if (!pattern.Get("Regex").is_null()) return pattern.Error("expected a String, not a Regex");
    EDDY_ASSIGN_OR_RETURN(std::string from, pattern.String("String", kReplacementBytesMax));
    EDDY_ASSIGN_OR_RETURN(std::string to, view.String("content", kReplacementBytesMax));
    replacements_.emplace_back(std::move(from), std::move(to));
  } else {
    return view.Get("type").Error(
        "which is not supported here; expected Replace, ByteFallback, Fuse, Strip, in this order");
  }
  return absl::OkStatus();
}

absl::Status TokenDecoder::ReadStrip(const JsonView& view) {
  EDDY_ASSIGN_OR_RETURN(const std::string content, view.String("content", 4));
  EDDY_ASSIGN_OR_RETURN(const int64_t start, view.Int("start", 0, 1));
  EDDY_RETURN_IF_ERROR(view.Int("stop", 0, 0).status());
  if (start == 0) return absl::OkStatus();
  if (content != " " || !fused_ || strips_blank_) {
    return view.Error("expected one Strip of \" \", behind Fuse");
  }
  strips_blank_ = true;
  return absl::OkStatus();
}

TokenDecoder::Text TokenDecoder::Decode(const std::string& content) const {
  if (byte_level_) {
    std::string bytes = FromAlphabet(content);
    return {bytes, bytes};
  }
  if (!metaspace_.empty()) {
    return {Replaced(content, metaspace_, " "),
            Replaced(content, metaspace_, metaspace_drops_first_ ? "" : " ")};
  }
  Text text;
  text.bytes = content;
  for (const auto& [from, to] : replacements_) text.bytes = Replaced(text.bytes, from, to);
  if (byte_fallback_) text.bytes = FromFallback(text.bytes);
  text.first = text.bytes;
  if (strips_blank_ && text.first.starts_with(' ')) text.first.erase(0, 1);
  return text;
}

}  // namespace eddy
