// SPDX-License-Identifier: Apache-2.0
#include "engine/tokenizer/sentencepiece_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "engine/tokenizer/sentencepiece.h"

namespace eddy {
namespace {

using testing::HasSubstr;

// ---- the wire format ----

std::string Varint(uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes.push_back(static_cast<char>(value | 0x80));
  bytes.push_back(static_cast<char>(value));
  return bytes;
}
std::string Number(uint32_t field, uint64_t value) { return Varint(field << 3) + Varint(value); }
std::string Text(uint32_t field, const std::string& text) {
  return Varint(field << 3 | 2) + Varint(text.size()) + text;
}
std::string Float(uint32_t field, float value) {
  std::string bytes(4, '\0');
  std::memcpy(bytes.data(), &value, 4);
  return Varint(field << 3 | 5) + bytes;
}
std::string Piece(const std::string& text, float score, int type) {
  return Text(1, Text(1, text) + Float(2, score) + Number(3, static_cast<uint64_t>(type)));
}

std::string Sound() {
  return Piece("<unk>", 0, 2) + Piece("<s>", 0, 3) + Piece("\u2581a", -1, 1) + Piece("b", -2, 1) +
         Text(2, Number(3, 2));
}

std::string Message(const std::string& bytes) {
  const auto tokenizer = ParseSentencePiece(bytes, "m", {});
  EXPECT_EQ(tokenizer.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(tokenizer.status().message());
}

TEST(SentencePieceModelTest, ReadsWhatItNeedsAndSkipsTheRest) {
  const auto model = ParseSentencePieceModel(
      Sound() + Text(3, Number(4, 0) + Text(1, "nfkc") + Number(3, 0)) + Text(77, "other") +
          Text(2, Text(44, "?") + Number(35, 1) + Float(10, 0.5f)),
      "m");
  ASSERT_TRUE(model.ok()) << model.status();
  ASSERT_EQ(model->pieces.size(), 4u);
  EXPECT_EQ(model->pieces[2].text, "\u2581a");
  EXPECT_EQ(model->pieces[3].score, -2.0f);
  EXPECT_EQ(model->pieces[1].type, SentencePiece::Type::kControl);
  EXPECT_EQ(model->type, SentencePieceModel::Type::kBpe);
  EXPECT_EQ(model->unknown_surface, "?");
  EXPECT_TRUE(model->byte_fallback);
  EXPECT_FALSE(model->add_dummy_prefix);
  EXPECT_FALSE(model->remove_extra_whitespaces);
  EXPECT_TRUE(model->escape_whitespaces);
}

TEST(SentencePieceModelTest, NamesWhatIsWrong) {
  EXPECT_THAT(Message(""), HasSubstr("m has no pieces"));
  EXPECT_THAT(Message(std::string("\x0a\x7f", 2)), HasSubstr("m: field 1 is cut off"));
  EXPECT_THAT(Message("\xff"), HasSubstr("m: a broken tag"));
  EXPECT_THAT(Message(std::string("\x0b", 1)), HasSubstr("wire type 3"));
  EXPECT_THAT(Message(Number(1, 5)), HasSubstr("field 1 has wire type 0, expected 2"));
  EXPECT_THAT(Message(Sound() + Piece("", 0, 1)), HasSubstr("pieces[4]: the piece has 0 bytes"));
  EXPECT_THAT(Message(Sound() + Piece(std::string(2000, 'a'), 0, 1)), HasSubstr("has 2000 bytes"));
  EXPECT_THAT(Message(Sound() + Piece("x", 0, 5)), HasSubstr("unused pieces are not supported"));
  EXPECT_THAT(Message(Sound() + Piece("x", 0, 9)), HasSubstr("field 3 is 9, expected 1 to 6"));
  EXPECT_THAT(Message(Sound() + Piece("x", std::nanf(""), 1)), HasSubstr("expected -1e9 to 1e9"));
  EXPECT_THAT(Message(Sound() + Piece("b", 0, 1)), HasSubstr("pieces[4] is \"b\", which occurs"));
  EXPECT_THAT(Message(Sound() + Piece("u", 0, 2)), HasSubstr("has 2 unknown pieces"));
  EXPECT_THAT(Message(Piece("x", 0, 1)), HasSubstr("has 0 unknown pieces"));
  EXPECT_THAT(Message(Sound() + Text(2, Number(3, 3))), HasSubstr("model_type is WORD"));
  EXPECT_THAT(Message(Sound() + Text(2, Number(35, 1))), HasSubstr("no byte piece <0x00>"));
  EXPECT_THAT(Message(Sound() + Text(5, Text(2, "x"))), HasSubstr("denormalizer"));
  EXPECT_THAT(Message(Sound() + Text(3, Text(2, "x"))), HasSubstr("precompiled_charsmap"));
}

TEST(SentencePieceModelTest, RulesOfTheFolderAddTokens) {
  TextRules rules;
  rules.file = "config";
  rules.adds_bos = true;
  rules.bos_token = "<s>";
  const auto tokenizer = ParseSentencePiece(Sound(), "m", rules);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->prefix_token_count(), 1);
  EXPECT_EQ((*tokenizer)->Encode("ab")->front(), 1);
  rules.bos_token = "<none>";
  EXPECT_FALSE(ParseSentencePiece(Sound(), "m", rules).ok());
}

}  // namespace
}  // namespace eddy
