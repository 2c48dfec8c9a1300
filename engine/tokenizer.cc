// SPDX-License-Identifier: Apache-2.0
#include "engine/tokenizer.h"

#include <array>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/config.h"
#include "engine/synthetic.h"
#include "kernels/status_macros.h"

namespace eddy {
namespace {

constexpr int32_t kByteCount = 256;
constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

class ByteTokenizer : public Tokenizer {
 public:
  int32_t vocabulary_size() const override { return kByteCount; }
  absl::StatusOr<std::vector<int32_t>> Encode(std::string_view text) const override {
    std::vector<int32_t> tokens;
    tokens.reserve(text.size());
    for (const char c : text) tokens.push_back(static_cast<uint8_t>(c));
    return tokens;
  }
  std::string_view TokenBytes(int32_t token) const override {
    static constexpr std::array<char, kByteCount> kBytes = [] {
      std::array<char, kByteCount> bytes = {};
      for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(i);
      return bytes;
    }();
    if (token < 0 || token >= kByteCount) return {};
    return {&kBytes[static_cast<size_t>(token)], 1};
  }
};

bool IsContinuation(uint8_t byte) { return byte >= 0x80 && byte <= 0xBF; }

// Bytes of the character that begins with `lead`; 0 when none does.
size_t CharacterBytes(uint8_t lead) {
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) return 2;
  if (lead >= 0xE0 && lead <= 0xEF) return 3;
  if (lead >= 0xF0 && lead <= 0xF4) return 4;
  return 0;  // a continuation, an overlong form, or beyond U+10FFFF
}

// Whether `second` may follow `lead` (Unicode, table 3-7): no overlong forms, no surrogates,
// nothing past U+10FFFF.
bool MayFollowLead(uint8_t lead, uint8_t second) {
  switch (lead) {
    case 0xE0:
      return second >= 0xA0 && second <= 0xBF;
    case 0xED:
      return second >= 0x80 && second <= 0x9F;
    case 0xF0:
      return second >= 0x90 && second <= 0xBF;
    case 0xF4:
      return second >= 0x80 && second <= 0x8F;
    default:
      return IsContinuation(second);
  }
}

}  // namespace

absl::StatusOr<std::string> Tokenizer::Decode(std::span<const int32_t> tokens) const {
  std::string text;
  Utf8Stream stream;
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] < 0 || tokens[i] >= vocabulary_size()) {
      return absl::InvalidArgumentError(absl::StrCat("token id ", tokens[i], " at index ", i,
                                                     " is not in the vocabulary, expected 0 to ",
                                                     vocabulary_size() - 1));
    }
    stream.Feed(TokenBytes(tokens[i]), &text);
  }
  stream.Finish(&text);
  return text;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizer(const std::string& folder) {
  constexpr std::string_view kClasses[] = {"ByteTokenizer"};
  if (IsSyntheticModel(folder)) {
    return absl::NotFoundError(absl::StrCat(folder, " has no tokenizer"));
  }
  EDDY_ASSIGN_OR_RETURN(const Config config, Config::Read(folder + "/tokenizer_config.json"));
  EDDY_RETURN_IF_ERROR(config.Choice("tokenizer_class", kClasses).status());
  return std::make_unique<ByteTokenizer>();
}

// pending_ is always the beginning of a valid character. A byte that cannot go on with it ends it
// as one U+FFFD (the maximal subpart, as Unicode and WHATWG have it) and is looked at anew.
void Utf8Stream::Feed(std::string_view bytes, std::string* text) {
  for (const char c : bytes) {
    const uint8_t byte = static_cast<uint8_t>(c);
    if (!pending_.empty()) {
      const uint8_t lead = static_cast<uint8_t>(pending_[0]);
      const bool goes_on = pending_.size() == 1 ? MayFollowLead(lead, byte) : IsContinuation(byte);
      if (goes_on) {
        pending_.push_back(c);
        if (pending_.size() == CharacterBytes(lead)) {
          text->append(pending_);
          pending_.clear();
        }
        continue;
      }
      Finish(text);
    }
    switch (CharacterBytes(byte)) {
      case 0:
        text->append(kReplacement);
        break;
      case 1:
        text->push_back(c);
        break;
      default:
        pending_.push_back(c);
        break;
    }
  }
}

void Utf8Stream::Finish(std::string* text) {
  if (!pending_.empty()) text->append(kReplacement);
  pending_.clear();
}

}  // namespace eddy
