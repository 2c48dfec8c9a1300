// SPDX-License-Identifier: Apache-2.0
// The content of a sentencepiece .model file, read from its protobuf wire format without protobuf:
// the engine does not link it, and a file from elsewhere is checked field by field.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace eddy {

struct SentencePiece {
  enum class Type : uint8_t {
    kNormal = 1,
    kUnknown = 2,
    kControl = 3,
    kUserDefined = 4,
    kUnused = 5,
    kByte = 6,
  };
  std::string text;
  float score = 0.0f;
  Type type = Type::kNormal;
};

struct SentencePieceModel {
  static constexpr size_t kFileBytesMax = size_t{64} << 20;
  static constexpr size_t kPieceBytesMax = 1024;

  std::vector<SentencePiece> pieces;
  // trainer_spec
  enum class Type : uint8_t { kUnigram = 1, kBpe = 2 } type = Type::kUnigram;
  bool byte_fallback = false;
  bool treat_whitespace_as_suffix = false;
  std::string unknown_surface = " \xE2\x81\x87 ";
  // normalizer_spec
  std::string charsmap;
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  bool escape_whitespaces = true;
};

// INVALID_ARGUMENT, naming file and field, for what is no such file or asks for what is not
// supported: word and character models, unused pieces, a denormalizer.
absl::StatusOr<SentencePieceModel> ParseSentencePieceModel(std::string_view bytes,
                                                           const std::string& file);

}  // namespace eddy
