// SPDX-License-Identifier: Apache-2.0
#include "engine/tokenizer/sentencepiece.h"

#include <array>
#include <cstdlib>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "engine/json.h"
#include "engine/mapped_file.h"
#include "engine/tokenizer/post_processor.h"
#include "engine/tokenizer/sentencepiece_cut.h"
#include "engine/tokenizer/sentencepiece_model.h"
#include "engine/tokenizer/sentencepiece_normaliser.h"
#include "engine/tokenizer/token_texts.h"
#include "kernels/status_macros.h"

namespace eddy {
namespace {

class SentencePieceTokenizer : public Tokenizer {
 public:
  static absl::StatusOr<std::unique_ptr<SentencePieceTokenizer>> Make(SentencePieceModel model,
                                                                      const std::string& file,
                                                                      const TextRules& rules);

  int32_t vocabulary_size() const override { return texts_.size(); }
  absl::StatusOr<std::vector<int32_t>> Encode(std::string_view text) const override;
  int32_t prefix_token_count() const override { return static_cast<int32_t>(frame_.prefix.size()); }
  absl::StatusOr<std::vector<int32_t>> EncodePlain(std::string_view text,
                                                   bool at_beginning) const override;
  std::optional<int32_t> SpecialToken(std::string_view name) const override;
  std::string_view TokenBytes(int32_t token) const override { return texts_.Bytes(token); }
  std::string_view FirstTokenBytes(int32_t token) const override {
    return texts_.FirstBytes(token);
  }
  DecodingRules decoding_rules() const override {
    return {Utf8Stream::Invalid::kByte, model_.remove_extra_whitespaces, true};
  }

 private:
  SentencePieceTokenizer(SentencePieceModel model, SentencePieceNormaliser normaliser)
      : model_(std::move(model)), normaliser_(std::move(normaliser)) {}

  absl::Status FillTable(const std::string& file);
  void FillTexts();
  absl::Status Append(std::string_view text, std::vector<int32_t>* tokens) const;

  // Constant after Make.
  const SentencePieceModel model_;
  const SentencePieceNormaliser normaliser_;
  PieceTable table_;
  std::array<int32_t, 256> byte_pieces_ = {};
  std::unique_ptr<SentencePieceCut> cut_;
  TextFrame frame_;
  TokenTexts texts_;
};

absl::StatusOr<std::unique_ptr<SentencePieceTokenizer>> SentencePieceTokenizer::Make(
    SentencePieceModel model, const std::string& file, const TextRules& rules) {
  std::vector<std::pair<std::string, int32_t>> user_defined;
  for (const SentencePiece& piece : model.pieces) {
    if (piece.type == SentencePiece::Type::kUserDefined) user_defined.emplace_back(piece.text, 0);
  }
  EDDY_ASSIGN_OR_RETURN(
      SentencePieceNormaliser normaliser,
      SentencePieceNormaliser::Make(model, ByteTrie(std::move(user_defined)), file));
  std::unique_ptr<SentencePieceTokenizer> tokenizer(
      new SentencePieceTokenizer(std::move(model), std::move(normaliser)));
  EDDY_RETURN_IF_ERROR(tokenizer->FillTable(file));
  tokenizer->FillTexts();
  tokenizer->cut_ = tokenizer->model_.type == SentencePieceModel::Type::kBpe
                        ? MakeBpeCut(tokenizer->table_)
                        : MakeUnigramCut(tokenizer->table_);
  EDDY_RETURN_IF_ERROR(ApplyRules(
      rules, [&](std::string_view name) { return tokenizer->SpecialToken(name); },
      &tokenizer->frame_));
  return tokenizer;
}

absl::Status SentencePieceTokenizer::FillTable(const std::string& file) {
  table_.pieces = &model_.pieces;
  table_.user_defined = &normaliser_.user_defined();
  byte_pieces_.fill(-1);
  int unknown_count = 0;
  for (size_t i = 0; i < model_.pieces.size(); ++i) {
    const SentencePiece& piece = model_.pieces[i];
    const auto id = static_cast<int32_t>(i);
    const bool normal = piece.type == SentencePiece::Type::kNormal ||
                        piece.type == SentencePiece::Type::kUserDefined;
    if (!(normal ? table_.normal : table_.reserved).emplace(piece.text, id).second) {
      return absl::InvalidArgumentError(
          absl::StrCat(file, ": pieces[", i, "] is ", Quoted(piece.text), ", which occurs twice"));
    }
    if (piece.type == SentencePiece::Type::kUnknown) {
      ++unknown_count;
      table_.unknown = id;
    }
  }
  if (unknown_count != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat(file, " has ", unknown_count, " unknown pieces, expected one"));
  }
  for (size_t byte = 0; byte < 256; ++byte) {
    const std::string name = absl::StrFormat("<0x%02X>", byte);
    const auto found = table_.reserved.find(name);
    if (found != table_.reserved.end() &&
        model_.pieces[static_cast<size_t>(found->second)].type == SentencePiece::Type::kByte) {
      byte_pieces_[byte] = found->second;
    } else if (model_.byte_fallback) {
      return absl::InvalidArgumentError(
          absl::StrCat(file, " has byte_fallback, but no byte piece ", name));
    }
  }
  return absl::OkStatus();
}

void SentencePieceTokenizer::FillTexts() {
  const bool drops_blank = model_.add_dummy_prefix || model_.remove_extra_whitespaces;
  for (size_t i = 0; i < model_.pieces.size(); ++i) {
    const SentencePiece& piece = model_.pieces[i];
    const auto id = static_cast<int32_t>(i);
    texts_.Grow(id);
    if (piece.type == SentencePiece::Type::kUnknown) {
      texts_.Set(id, model_.unknown_surface);
    } else if (piece.type != SentencePiece::Type::kControl) {
      const auto text = [](std::string_view escaped) {
        return absl::StrReplaceAll(
            absl::string_view(escaped.data(), escaped.size()),
            {{absl::string_view(kSpaceSymbol.data(), kSpaceSymbol.size()), " "}});
      };
      std::string_view first = piece.text;
      if (drops_blank && first.starts_with(kSpaceSymbol)) first.remove_prefix(kSpaceSymbol.size());
      texts_.Set(id, text(piece.text), text(first));
    }
  }
  for (size_t byte = 0; byte < 256; ++byte) {
    if (byte_pieces_[byte] >= 0) {
      texts_.Set(byte_pieces_[byte], std::string(1, static_cast<char>(byte)));
    }
  }
}

absl::Status SentencePieceTokenizer::Append(std::string_view text,
                                            std::vector<int32_t>* tokens) const {
  EDDY_ASSIGN_OR_RETURN(const std::string normalised, normaliser_.Apply(text));
  bool after_unknown = false;
  for (const CutPiece& piece : cut_->Cut(normalised)) {
    const bool unknown = piece.id == table_.unknown;
    if (unknown && model_.byte_fallback) {
      for (const char c : piece.text) tokens->push_back(byte_pieces_[static_cast<uint8_t>(c)]);
    } else if (!unknown || !after_unknown) {  // a run of unknown characters is one token
      tokens->push_back(piece.id);
    }
    after_unknown = unknown;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<int32_t>> SentencePieceTokenizer::Encode(std::string_view text) const {
  std::vector<int32_t> tokens = frame_.prefix;
  EDDY_RETURN_IF_ERROR(Append(text, &tokens));
  tokens.insert(tokens.end(), frame_.suffix.begin(), frame_.suffix.end());
  return tokens;
}

absl::StatusOr<std::vector<int32_t>> SentencePieceTokenizer::EncodePlain(std::string_view text,
                                                                         bool) const {
  std::vector<int32_t> tokens;
  EDDY_RETURN_IF_ERROR(Append(text, &tokens));
  return tokens;
}

std::optional<int32_t> SentencePieceTokenizer::SpecialToken(std::string_view name) const {
  const auto found = table_.reserved.find(name);
  if (found == table_.reserved.end()) return std::nullopt;
  return found->second;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> ParseSentencePiece(std::string_view bytes,
                                                              const std::string& file,
                                                              const TextRules& rules) {
  EDDY_ASSIGN_OR_RETURN(SentencePieceModel model, ParseSentencePieceModel(bytes, file));
  return SentencePieceTokenizer::Make(std::move(model), file, rules);
}

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadSentencePiece(const std::string& path,
                                                             const TextRules& rules) {
  EDDY_ASSIGN_OR_RETURN(const MappedFile mapping, MappedFile::Open(path));
  const auto bytes = mapping.bytes();
  return ParseSentencePiece({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path,
                            rules);
}

}  // namespace eddy
