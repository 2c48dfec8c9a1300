// SPDX-License-Identifier: Apache-2.0
#include "engine/tokenizer/json_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace eddy {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

json Sound() {
  return json::parse(R"({
    "added_tokens": [
      {"id": 5, "content": "<e>", "special": true, "normalized": false},
      {"id": 6, "content": "<l>", "lstrip": true, "rstrip": true, "normalized": false},
      {"id": 7, "content": "<e><w>", "normalized": false},
      {"id": 8, "content": "ww", "single_word": true, "normalized": false}],
    "decoder": {"type": "Sequence", "decoders": [{"type": "Fuse"}]},
    "model": {"type": "BPE", "merges": [],
              "vocab": {"a": 0, "b": 1, "w": 2, " ": 3, "<": 4}}})");
}

absl::StatusOr<std::unique_ptr<Tokenizer>> Make(const json& values, const TextRules& rules = {}) {
  return ParseJsonTokenizer(values.dump(), "t.json", rules);
}

TEST(JsonTokenizerTest, AddedTokens) {
  const auto tokenizer = *Make(Sound());
  EXPECT_EQ(tokenizer->vocabulary_size(), 9);
  EXPECT_THAT(*tokenizer->Encode("a<e>b"), ElementsAre(0, 5, 1));
  EXPECT_THAT(*tokenizer->Encode("a  <l>  b <l>"), ElementsAre(0, 6, 1, 6));  // takes the blanks
  EXPECT_THAT(*tokenizer->Encode("<e><w>"), ElementsAre(7));                  // the longest
  EXPECT_THAT(*tokenizer->Encode("ww aww ww"), ElementsAre(8, 3, 0, 2, 2, 3, 8));
  // As text: none of these but "<" has a token.
  EXPECT_THAT(*tokenizer->EncodePlain("a<e>b", true), ElementsAre(0, 4, 1));
  EXPECT_THAT(*tokenizer->EncodePlain("<e><w>", true), ElementsAre(7));  // not special
  EXPECT_EQ(*tokenizer->Decode(std::vector<int32_t>{0, 5, 7, 1}), "a<e><w>b");
}

TEST(JsonTokenizerTest, NamesWhatIsWrong) {
  const std::pair<const char*, const char*> kCases[] = {
      {R"({"added_tokens": 5})", "added_tokens is 5, expected a list"},
      {R"({"added_tokens": [{"content": "x"}]})", "added_tokens[0].id is missing"},
      {R"({"added_tokens": [{"id": 1, "content": "x"}]})", "is that of another token, too"},
      {R"({"added_tokens": [{"id": 9, "content": "a"}]})", "expected that of the vocabulary, 0"},
      {R"({"added_tokens": [{"id": 9, "content": "x"}, {"id": 10, "content": "x"}]})",
       "content is \"x\", which occurs twice"},
      {R"({"added_tokens": [{"id": 16777216, "content": "x"}]})", "from 0 to 16777215"},
      {R"({"added_tokens": [{"id": 9, "content": ""}]})", "expected 1 to 256 bytes"},
      {R"({"truncation": {"max_length": 5}})", "truncation is {\"max_length\":5}, which is not"},
      {R"({"model": {"type": "WordPiece"}})", "model.type is \"WordPiece\", which is not"},
      {R"({"normalizer": {"type": "NFKD"}})", "normalizer.type is \"NFKD\", which is not"},
      {R"({"pre_tokenizer": {"type": "BertPreTokenizer"}})", "pre_tokenizer.type is \"Bert"},
      {R"({"decoder": null})", "decoder.type is missing"},
      {R"({"post_processor": {"type": "RobertaProcessing"}})", "post_processor.type is \"Rob"},
      {R"({"post_processor": {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A"}},
          {"SpecialToken": {"id": "z"}}], "special_tokens": {"z": {"ids": [99]}}}})",
       "with an id 99 of no token"}};
  for (const auto& [patch, part] : kCases) {
    json values = Sound();
    values.update(json::parse(patch));
    const auto tokenizer = Make(values);
    ASSERT_EQ(tokenizer.status().code(), absl::StatusCode::kInvalidArgument) << patch;
    EXPECT_THAT(std::string(tokenizer.status().message()), HasSubstr("t.json")) << patch;
    EXPECT_THAT(std::string(tokenizer.status().message()), HasSubstr(part)) << patch;
  }
  EXPECT_FALSE(ParseJsonTokenizer("[1]", "t.json", {}).ok());
  EXPECT_FALSE(ParseJsonTokenizer("{", "t.json", {}).ok());
}

}  // namespace
}  // namespace eddy
