// SPDX-License-Identifier: Apache-2.0
// Every kind of tokenizer against the library it comes from: tests/golden/make_tokenizers.py.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "engine/tokenizer/tokenizer.h"
#include "tests/support/model_files.h"

namespace eddy {
namespace {

using Ids = std::vector<int32_t>;

const std::string kFolder = std::string(EDDY_SOURCE_DIR) + "/tests/golden/tokenizers/";

nlohmann::json ReadJson(const std::string& name) {
  return nlohmann::json::parse(ReadBytes(kFolder + name));
}

Ids ToIds(const nlohmann::json& text) {
  std::istringstream numbers(text.get<std::string>());
  Ids ids;
  for (int32_t id = 0; numbers >> id;) ids.push_back(id);
  return ids;
}

std::vector<std::string> Texts() {
  std::vector<std::string> texts;
  for (const nlohmann::json& entry : ReadJson("texts.json")) {
    if (entry.is_string()) {
      texts.push_back(entry.get<std::string>());
      continue;
    }
    const std::string hex = entry["hex"].get<std::string>();
    std::string bytes;
    for (size_t i = 0; i < hex.size(); i += 2) {
      bytes.push_back(static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16)));
    }
    texts.push_back(std::move(bytes));
  }
  return texts;
}

// What a client sees: whole UTF-8 after each token.
std::string Streamed(const Tokenizer& tokenizer, const Ids& ids) {
  std::string text;
  Detokenizer detokenizer(tokenizer, /*at_beginning=*/true);
  for (const int32_t id : ids) {
    detokenizer.Feed(id, &text);
    EXPECT_EQ(WithReplacements(text), text) << "not whole";
  }
  detokenizer.Finish(&text);
  return text;
}

class TokenizerGoldenTest : public testing::TestWithParam<std::string> {
 protected:
  TokenizerGoldenTest() : tokenizer_(*LoadTokenizer(kFolder + GetParam())) {}

  const std::unique_ptr<Tokenizer> tokenizer_;
  const std::vector<std::string> texts_ = Texts();
  const nlohmann::json expected_ = ReadJson(GetParam() + "/expected.json");
};

TEST_P(TokenizerGoldenTest, Encodes) {
  ASSERT_EQ(expected_["encode"].size(), texts_.size());
  for (size_t i = 0; i < texts_.size(); ++i) {
    const auto ids = tokenizer_->Encode(texts_[i]);
    ASSERT_TRUE(ids.ok()) << ids.status();
    ASSERT_EQ(*ids, ToIds(expected_["encode"][i])) << testing::PrintToString(texts_[i]);
  }
}

TEST_P(TokenizerGoldenTest, EncodesWithoutSpecialTokens) {
  const auto prefix = tokenizer_->prefix_token_count();
  const auto frame = tokenizer_->Encode("")->size();
  for (size_t i = 0; i < texts_.size(); ++i) {
    Ids expected = ToIds(expected_["encode"][i]);
    if (expected_["plain"][i].is_null()) {
      expected.erase(expected.begin(), expected.begin() + prefix);
      expected.resize(expected.size() - (frame - static_cast<size_t>(prefix)));
    } else {
      expected = ToIds(expected_["plain"][i]);
    }
    ASSERT_EQ(*tokenizer_->EncodePlain(texts_[i], /*at_beginning=*/true), expected)
        << testing::PrintToString(texts_[i]);
  }
}

TEST_P(TokenizerGoldenTest, DecodesAtOnceAndAsAStream) {
  for (size_t i = 0; i < texts_.size(); ++i) {
    const Ids ids = ToIds(expected_["encode"][i]);
    const std::string expected = expected_["decode"][i].is_null()
                                     ? WithReplacements(texts_[i])
                                     : expected_["decode"][i].get<std::string>();
    ASSERT_EQ(*tokenizer_->Decode(ids), expected);
    ASSERT_EQ(Streamed(*tokenizer_, ids), expected);
  }
  for (const nlohmann::json& pair : expected_["random"]) {
    ASSERT_EQ(*tokenizer_->Decode(ToIds(pair[0])), pair[1].get<std::string>()) << pair[0];
    ASSERT_EQ(Streamed(*tokenizer_, ToIds(pair[0])), pair[1].get<std::string>()) << pair[0];
  }
}

// A turn that goes on with a session: the blank before its first word is the text's.
TEST_P(TokenizerGoldenTest, KeepsTheLeadingBlankInTheMiddle) {
  const Ids ids = *tokenizer_->EncodePlain("x speak", /*at_beginning=*/true);
  for (size_t cut = 1; cut < ids.size(); ++cut) {
    std::string text;
    Detokenizer first(*tokenizer_, /*at_beginning=*/true), second(*tokenizer_, false);
    for (size_t i = 0; i < ids.size(); ++i) (i < cut ? first : second).Feed(ids[i], &text);
    second.Finish(&text);
    ASSERT_EQ(text, *tokenizer_->Decode(ids)) << cut;
  }
}

TEST_P(TokenizerGoldenTest, EveryIdHasSomeText) {
  for (const int32_t id : {-1, tokenizer_->vocabulary_size(), INT32_MIN, INT32_MAX}) {
    EXPECT_EQ(tokenizer_->TokenBytes(id), "");
    EXPECT_EQ(tokenizer_->FirstTokenBytes(id), "");
    EXPECT_FALSE(tokenizer_->Decode(Ids{id}).ok());
  }
  size_t bytes = 0;
  for (int32_t id = 0; id < tokenizer_->vocabulary_size(); ++id) {
    bytes += tokenizer_->TokenBytes(id).size();
  }
  EXPECT_GT(bytes, 500u);
}

INSTANTIATE_TEST_SUITE_P(Layouts, TokenizerGoldenTest,
                         testing::Values("gpt_neox", "gpt2", "qwen2", "llama3", "llama2", "mistral",
                                         "metaspace", "sentencepiece_bpe",
                                         "sentencepiece_bpe_rules", "sentencepiece_unigram",
                                         "sentencepiece_suffix", "world"),
                         [](const auto& test) { return test.param; });

// Special tokens: by name, and without text.
TEST(TokenizerGoldenFilesTest, SpecialTokens) {
  const auto qwen = *LoadTokenizer(kFolder + "qwen2");
  const auto end = qwen->SpecialToken("<|im_end|>");
  ASSERT_TRUE(end.has_value());
  EXPECT_EQ(qwen->TokenBytes(*end), "");
  EXPECT_EQ(*qwen->Encode("<|im_end|>"), Ids{*end});
  EXPECT_GT(qwen->EncodePlain("<|im_end|>", true)->size(), 1u);
  EXPECT_FALSE(qwen->SpecialToken("<|im_end|> ").has_value());
  const auto llama = *LoadTokenizer(kFolder + "llama2");
  EXPECT_EQ(llama->prefix_token_count(), 1);
  EXPECT_EQ(llama->SpecialToken("</s>"), 2);
  const auto pieces = *LoadTokenizer(kFolder + "sentencepiece_bpe");
  EXPECT_EQ(pieces->prefix_token_count(), 0);
  EXPECT_EQ(pieces->SpecialToken("<s>"), 1);
  EXPECT_FALSE(pieces->SpecialToken("the").has_value());
}

// A word of 200,000 characters, and marks in the worst order, take a moment, not minutes.
TEST(TokenizerGoldenFilesTest, LongWordsAreNoTrouble) {
  std::string letters, marks = "a";
  for (size_t i = 0; i < 200000; ++i) letters += "abcde"[i * i % 5];
  for (size_t i = 0; i < 100000; ++i) marks += i % 2 == 0 ? "\u0301" : "\u0323";
  for (const char* const name : {"gpt_neox", "qwen2", "llama2", "mistral", "metaspace",
                                 "sentencepiece_bpe", "sentencepiece_unigram"}) {
    const auto tokenizer = *LoadTokenizer(kFolder + name);
    for (const std::string& text : {letters, marks, std::string(200000, ' ')}) {
      const auto ids = tokenizer->Encode(text);
      ASSERT_TRUE(ids.ok()) << ids.status();
    }
  }
}

}  // namespace
}  // namespace eddy
