// SPDX-License-Identifier: Apache-2.0
#include "engine/tokenizer/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "tests/support/model_files.h"

namespace eddy {
namespace {

using testing::HasSubstr;

std::unique_ptr<Tokenizer> ByteTokenizer() {
  const TestFolder folder;
  WriteBytes(folder / "tokenizer_config.json", R"({"tokenizer_class": "ByteTokenizer"})");
  auto tokenizer = LoadTokenizer(folder.path());
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return *std::move(tokenizer);
}

TEST(ByteTokenizerTest, ATokenIsAByte) {
  const auto tokenizer = ByteTokenizer();
  EXPECT_EQ(tokenizer->vocabulary_size(), 256);
  std::string all(256, '\0');
  std::iota(all.begin(), all.end(), '\0');
  const auto tokens = tokenizer->Encode(all);
  ASSERT_TRUE(tokens.ok());
  ASSERT_EQ(tokens->size(), 256u);
  for (int32_t id = 0; id < 256; ++id) {
    EXPECT_EQ((*tokens)[static_cast<size_t>(id)], id);
    EXPECT_EQ(tokenizer->TokenBytes(id), std::string(1, static_cast<char>(id)));
  }
  EXPECT_EQ(tokenizer->TokenBytes(-1), "");
  EXPECT_EQ(tokenizer->TokenBytes(256), "");
  EXPECT_TRUE(tokenizer->Encode("")->empty());
}

TEST(ByteTokenizerTest, DecodesWhatItEncodes) {
  const auto tokenizer = ByteTokenizer();
  const std::string text = "To be, or not: \u00e9 \u20ac \U0001F600";
  EXPECT_EQ(*tokenizer->Decode(*tokenizer->Encode(text)), text);
  EXPECT_EQ(*tokenizer->Decode({}), "");
  EXPECT_EQ(*tokenizer->Decode(std::vector<int32_t>{'a', 0xE2, 0x82}), "a\uFFFD");
}

TEST(ByteTokenizerTest, DecodeNamesAnIdOutOfRange) {
  const auto tokenizer = ByteTokenizer();
  for (const int32_t id : {-1, 256, INT32_MAX, INT32_MIN}) {
    const auto text = tokenizer->Decode(std::vector<int32_t>{65, id});
    EXPECT_EQ(text.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(text.status().message()),
                HasSubstr("token id " + std::to_string(id) + " at index 1"));
    EXPECT_THAT(std::string(text.status().message()), HasSubstr("expected 0 to 255"));
  }
}

TEST(CharacterTokenizerTest, ATokenIsACharacter) {
  const TestFolder folder;
  WriteBytes(
      folder / "tokenizer_config.json",
      R"({"tokenizer_class": "CharacterTokenizer", "eddy_characters": "ab\n\u00e9\ud83d\ude00"})");
  const auto tokenizer = LoadTokenizer(folder.path());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->vocabulary_size(), 5);
  EXPECT_EQ(*(*tokenizer)->Encode("\U0001F600b\n\u00e9a"), (std::vector<int32_t>{4, 1, 2, 3, 0}));
  EXPECT_EQ(*(*tokenizer)->Decode(std::vector<int32_t>{4, 1, 2, 3, 0}), "\U0001F600b\n\u00e9a");
  const auto unknown = (*tokenizer)->Encode("abc");
  EXPECT_EQ(unknown.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(unknown.status().message()), HasSubstr("character \"c\" at byte 2"));
  EXPECT_FALSE((*tokenizer)->Encode("a\xff").ok());
}

TEST(CharacterTokenizerTest, RefusesACharacterThatIsThereTwice) {
  const TestFolder folder;
  WriteBytes(folder / "tokenizer_config.json",
             R"({"tokenizer_class": "CharacterTokenizer", "eddy_characters": "aba"})");
  EXPECT_THAT(std::string(LoadTokenizer(folder.path()).status().message()),
              HasSubstr("eddy_characters is \"aba\", expected each character once: \"a\""));
  WriteBytes(folder / "tokenizer_config.json", R"({"tokenizer_class": "CharacterTokenizer"})");
  EXPECT_THAT(std::string(LoadTokenizer(folder.path()).status().message()),
              HasSubstr("eddy_characters is missing"));
}

TEST(LoadTokenizerTest, SaysWhatIsMissingOrUnknown) {
  const TestFolder folder;
  EXPECT_EQ(LoadTokenizer(folder.path()).status().code(), absl::StatusCode::kNotFound);
  WriteBytes(folder / "tokenizer_config.json", R"({"tokenizer_class": "LlamaTokenizer"})");
  const auto unknown = LoadTokenizer(folder.path());
  EXPECT_EQ(unknown.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(unknown.status().message()),
              HasSubstr("tokenizer_class is \"LlamaTokenizer\", expected \"ByteTokenizer\" or "));
  EXPECT_THAT(std::string(unknown.status().message()), HasSubstr("none of rwkv_vocab"));
  WriteBytes(folder / "tokenizer_config.json", "{}");
  EXPECT_THAT(std::string(LoadTokenizer(folder.path()).status().message()),
              HasSubstr("tokenizer_class is missing"));
  WriteBytes(folder / "tokenizer_config.json", "ByteTokenizer");
  EXPECT_THAT(std::string(LoadTokenizer(folder.path()).status().message()),
              HasSubstr("is not valid JSON"));
  WriteBytes(folder / "tokenizer_config.json", R"({"add_bos_token": "yes"})");
  EXPECT_THAT(std::string(LoadTokenizer(folder.path()).status().message()),
              HasSubstr("add_bos_token is \"yes\", expected true or false"));
  WriteBytes(folder / "tokenizer_config.json", R"({"bos_token": 3})");
  EXPECT_THAT(std::string(LoadTokenizer(folder.path()).status().message()),
              HasSubstr("bos_token is 3, expected a token"));
}

}  // namespace
}  // namespace eddy
