// SPDX-License-Identifier: Apache-2.0
#include "engine/tokenizer/byte_tokenizer.h"

#include <array>

namespace eddy {
namespace {

constexpr int32_t kByteCount = 256;

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

}  // namespace

std::unique_ptr<Tokenizer> MakeByteTokenizer() { return std::make_unique<ByteTokenizer>(); }

}  // namespace eddy
