// SPDX-License-Identifier: Apache-2.0
#include "engine/tokenizer/sentencepiece_model.h"

#include <cmath>
#include <cstring>
#include <functional>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/tokenizer/token_texts.h"
#include "kernels/status_macros.h"

namespace eddy {
namespace {

// One field of a message: a number or bytes.
struct Field {
  uint32_t number = 0;
  uint32_t wire_type = 0;
  uint64_t value = 0;  // varint, or the bits of a fixed32 or fixed64
  std::string_view bytes;
};
constexpr uint32_t kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5;

// Reads a message's fields one after the other. `where` names it in messages.
class WireReader {
 public:
  WireReader(std::string_view message, std::string where)
      : rest_(message), where_(std::move(where)) {}

  bool at_end() const { return rest_.empty(); }
  absl::StatusOr<Field> Next();

  // The value of a field that must have this wire type, and range.
  absl::StatusOr<bool> Bool(const Field& field) const;
  absl::StatusOr<uint64_t> Number(const Field& field, uint64_t min, uint64_t max) const;
  absl::StatusOr<std::string_view> Bytes(const Field& field) const;
  absl::StatusOr<float> Float(const Field& field) const;
  absl::Status Error(const std::string& what) const {
    return absl::InvalidArgumentError(absl::StrCat(where_, ": ", what));
  }

 private:
  absl::Status CheckType(const Field& field, uint32_t wire_type) const {
    if (field.wire_type == wire_type) return absl::OkStatus();
    return Error(absl::StrCat("field ", field.number, " has wire type ", field.wire_type,
                              ", expected ", wire_type));
  }
  bool ReadVarint(uint64_t* value);
  bool ReadFixed(size_t count, uint64_t* value);

  std::string_view rest_;
  const std::string where_;
};

bool WireReader::ReadVarint(uint64_t* value) {
  *value = 0;
  for (unsigned shift = 0; shift < 64 && !rest_.empty(); shift += 7) {
    const auto byte = static_cast<uint8_t>(rest_[0]);
    rest_.remove_prefix(1);
    *value |= static_cast<uint64_t>(byte & 0x7F) << shift;
    if (byte < 0x80) return true;
  }
  return false;
}

bool WireReader::ReadFixed(size_t count, uint64_t* value) {
  if (rest_.size() < count) return false;
  *value = 0;
  for (size_t i = 0; i < count; ++i) {
    *value |= static_cast<uint64_t>(static_cast<uint8_t>(rest_[i])) << (8 * i);
  }
  rest_.remove_prefix(count);
  return true;
}

absl::StatusOr<Field> WireReader::Next() {
  Field field;
  uint64_t tag = 0;
  if (!ReadVarint(&tag) || tag >> 3 == 0 || tag >> 3 > 0x1FFFFFFF) return Error("a broken tag");
  field.number = static_cast<uint32_t>(tag >> 3);
  field.wire_type = static_cast<uint32_t>(tag & 7);
  bool whole = false;
  switch (field.wire_type) {
    case kVarint:
      whole = ReadVarint(&field.value);
      break;
    case kFixed64:
      whole = ReadFixed(8, &field.value);
      break;
    case kFixed32:
      whole = ReadFixed(4, &field.value);
      break;
    case kBytes:
      whole = ReadVarint(&field.value) && field.value <= rest_.size();
      if (whole) {
        field.bytes = rest_.substr(0, field.value);
        rest_.remove_prefix(field.value);
      }
      break;
    default:
      return Error(absl::StrCat("field ", field.number, " has wire type ", field.wire_type,
                                ", which no sentencepiece model has"));
  }
  if (!whole) return Error(absl::StrCat("field ", field.number, " is cut off"));
  return field;
}

absl::StatusOr<bool> WireReader::Bool(const Field& field) const {
  EDDY_ASSIGN_OR_RETURN(const uint64_t value, Number(field, 0, 1));
  return value == 1;
}

absl::StatusOr<uint64_t> WireReader::Number(const Field& field, uint64_t min, uint64_t max) const {
  EDDY_RETURN_IF_ERROR(CheckType(field, kVarint));
  if (field.value < min || field.value > max) {
    return Error(
        absl::StrCat("field ", field.number, " is ", field.value, ", expected ", min, " to ", max));
  }
  return field.value;
}

absl::StatusOr<std::string_view> WireReader::Bytes(const Field& field) const {
  EDDY_RETURN_IF_ERROR(CheckType(field, kBytes));
  return field.bytes;
}

absl::StatusOr<float> WireReader::Float(const Field& field) const {
  EDDY_RETURN_IF_ERROR(CheckType(field, kFixed32));
  const auto bits = static_cast<uint32_t>(field.value);
  float value = 0.0f;
  std::memcpy(&value, &bits, sizeof(value));
  if (!std::isfinite(value) || std::abs(value) > 1e9f) {
    return Error(absl::StrCat("field ", field.number, " is ", value, ", expected -1e9 to 1e9"));
  }
  return value;
}

// Calls `read` for each field of a message.
absl::Status ForEachField(std::string_view message, const std::string& where,
                          const std::function<absl::Status(WireReader&, const Field&)>& read) {
  WireReader reader(message, where);
  while (!reader.at_end()) {
    EDDY_ASSIGN_OR_RETURN(const Field field, reader.Next());
    EDDY_RETURN_IF_ERROR(read(reader, field));
  }
  return absl::OkStatus();
}

absl::Status ReadPiece(std::string_view message, const std::string& where,
                       SentencePieceModel* model) {
  SentencePiece piece;
  EDDY_RETURN_IF_ERROR(ForEachField(message, where, [&](WireReader& reader, const Field& field) {
    switch (field.number) {
      case 1: {
        EDDY_ASSIGN_OR_RETURN(piece.text, reader.Bytes(field));
        break;
      }
      case 2: {
        EDDY_ASSIGN_OR_RETURN(piece.score, reader.Float(field));
        break;
      }
      case 3: {
        EDDY_ASSIGN_OR_RETURN(const uint64_t type, reader.Number(field, 1, 6));
        piece.type = static_cast<SentencePiece::Type>(type);
        break;
      }
    }
    return absl::OkStatus();
  }));
  const auto refuse = [&where](const std::string& what) {
    return absl::InvalidArgumentError(absl::StrCat(where, ": ", what));
  };
  if (piece.type == SentencePiece::Type::kUnused) return refuse("unused pieces are not supported");
  if (piece.text.empty() || piece.text.size() > SentencePieceModel::kPieceBytesMax) {
    return refuse(absl::StrCat("the piece has ", piece.text.size(), " bytes, expected 1 to ",
                               SentencePieceModel::kPieceBytesMax));
  }
  if (model->pieces.size() > static_cast<size_t>(kTokenIdMax)) return refuse("too many pieces");
  model->pieces.push_back(std::move(piece));
  return absl::OkStatus();
}

absl::Status ReadTrainerSpec(std::string_view message, const std::string& where,
                             SentencePieceModel* model) {
  return ForEachField(message, where, [&](WireReader& reader, const Field& field) {
    switch (field.number) {
      case 3: {
        EDDY_ASSIGN_OR_RETURN(const uint64_t type, reader.Number(field, 1, 4));
        if (type > 2) {
          return reader.Error(absl::StrCat("model_type is ", type == 3 ? "WORD" : "CHAR",
                                           ", which is not supported; expected UNIGRAM or BPE"));
        }
        model->type = static_cast<SentencePieceModel::Type>(type);
        break;
      }
      case 24: {
        EDDY_ASSIGN_OR_RETURN(model->treat_whitespace_as_suffix, reader.Bool(field));
        break;
      }
      case 35: {
        EDDY_ASSIGN_OR_RETURN(model->byte_fallback, reader.Bool(field));
        break;
      }
      case 44: {
        EDDY_ASSIGN_OR_RETURN(model->unknown_surface, reader.Bytes(field));
        if (model->unknown_surface.size() > SentencePieceModel::kPieceBytesMax) {
          return reader.Error(absl::StrCat("unk_surface has ", model->unknown_surface.size(),
                                           " bytes, expected at most ",
                                           SentencePieceModel::kPieceBytesMax));
        }
        break;
      }
    }
    return absl::OkStatus();
  });
}

absl::Status ReadNormalizerSpec(std::string_view message, const std::string& where,
                                SentencePieceModel* model) {
  return ForEachField(message, where, [&](WireReader& reader, const Field& field) {
    switch (field.number) {
      case 2: {
        EDDY_ASSIGN_OR_RETURN(model->charsmap, reader.Bytes(field));
        break;
      }
      case 3: {
        EDDY_ASSIGN_OR_RETURN(model->add_dummy_prefix, reader.Bool(field));
        break;
      }
      case 4: {
        EDDY_ASSIGN_OR_RETURN(model->remove_extra_whitespaces, reader.Bool(field));
        break;
      }
      case 5: {
        EDDY_ASSIGN_OR_RETURN(model->escape_whitespaces, reader.Bool(field));
        break;
      }
    }
    return absl::OkStatus();
  });
}

absl::Status RefuseDenormalizer(std::string_view message, const std::string& where) {
  return ForEachField(message, where, [&](WireReader& reader, const Field& field) {
    if (field.number == 2 && !field.bytes.empty()) {
      return reader.Error("a denormalizer is not supported");
    }
    return absl::OkStatus();
  });
}

}  // namespace

absl::StatusOr<SentencePieceModel> ParseSentencePieceModel(std::string_view bytes,
                                                           const std::string& file) {
  if (bytes.size() > SentencePieceModel::kFileBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat(file, " has ", bytes.size(), " bytes, at most ",
                                                   SentencePieceModel::kFileBytesMax,
                                                   " are accepted"));
  }
  SentencePieceModel model;
  EDDY_RETURN_IF_ERROR(ForEachField(bytes, file, [&](WireReader& reader, const Field& field) {
    if (field.number < 1 || field.number > 5) return absl::OkStatus();
    EDDY_ASSIGN_OR_RETURN(const std::string_view message, reader.Bytes(field));
    switch (field.number) {
      case 1:
        return ReadPiece(message, absl::StrCat(file, ": pieces[", model.pieces.size(), "]"),
                         &model);
      case 2:
        return ReadTrainerSpec(message, absl::StrCat(file, ": trainer_spec"), &model);
      case 3:
        return ReadNormalizerSpec(message, absl::StrCat(file, ": normalizer_spec"), &model);
      case 5:
        return RefuseDenormalizer(message, absl::StrCat(file, ": denormalizer_spec"));
    }
    return absl::OkStatus();
  }));
  if (model.pieces.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(file, " has no pieces"));
  }
  return model;
}

}  // namespace eddy
