// SPDX-License-Identifier: Apache-2.0
// Mutates the files of every kind of tokenizer, by a fixed seed: each is read or refused, and what
// is read encodes and decodes without a crash. EDDY_FUZZ_ITERATIONS: files for each kind, default
// 300.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "engine/tokenizer/json_tokenizer.h"
#include "engine/tokenizer/sentencepiece.h"
#include "engine/tokenizer/tokenizer.h"
#include "tests/fuzz/mutator.h"
#include "tests/support/model_files.h"

namespace eddy {
namespace {

const char* const kText =
    "  The <|im_end|><strip>\tfamish'd  fox\xff 1234 e\u0301x \u4f60\u597d \U0001F600 </s> \n\n";

void Use(const Tokenizer& tokenizer, const std::string& name) {
  ASSERT_GT(tokenizer.vocabulary_size(), 0);
  ASSERT_LE(tokenizer.vocabulary_size(), 1 << 24);
  for (const bool plain : {false, true}) {
    const auto ids = plain ? tokenizer.EncodePlain(kText, false) : tokenizer.Encode(kText);
    if (!ids.ok()) {
      ASSERT_EQ(ids.status().code(), absl::StatusCode::kInvalidArgument) << name;
      continue;
    }
    for (const int32_t id : *ids) {
      ASSERT_GE(id, 0);
      ASSERT_LT(id, tokenizer.vocabulary_size());
    }
    const auto text = tokenizer.Decode(*ids);
    ASSERT_TRUE(text.ok()) << text.status();
    ASSERT_EQ(WithReplacements(*text), *text);
  }
}

class TokenizerFilesFuzzTest : public testing::TestWithParam<std::string> {};

TEST_P(TokenizerFilesFuzzTest, IsReadOrRefused) {
  const std::string name = GetParam();
  const std::string bytes =
      ReadBytes(std::string(EDDY_SOURCE_DIR) + "/tests/golden/tokenizers/" + name);
  const std::string file = name.substr(name.find('/') + 1);
  const TestFolder folder;
  Mutator mutator(11);
  int accepted = 0;
  for (int i = 0; i < FuzzIterations(300); ++i) {
    // Half of the changes begin in the last part: what a long vocabulary stands before or behind.
    std::string mutated = mutator.Mutated(bytes, bytes.size());
    if (i % 2 == 0) {
      const size_t head = bytes.size() - std::min<size_t>(bytes.size(), 2500);
      mutated = i % 4 == 0 ? mutator.Mutated(bytes, 2500)
                           : bytes.substr(0, head) + mutator.Mutated(bytes.substr(head), 2500);
    }
    WriteBytes(folder / file, mutated);
    const auto tokenizer = LoadTokenizer(folder.path());
    if (!tokenizer.ok()) {
      ASSERT_EQ(tokenizer.status().code(), absl::StatusCode::kInvalidArgument);
      ASSERT_LT(tokenizer.status().message().size(), 1500u);
      continue;
    }
    ++accepted;
    Use(**tokenizer, name);
  }
  EXPECT_GT(accepted, 0);
  EXPECT_LT(accepted, FuzzIterations(300));
}

INSTANTIATE_TEST_SUITE_P(
    Kinds, TokenizerFilesFuzzTest,
    testing::Values("qwen2/tokenizer.json", "llama2/tokenizer.json", "gpt_neox/tokenizer.json",
                    "metaspace/tokenizer.json", "sentencepiece_bpe/tokenizer.model",
                    "sentencepiece_unigram/tokenizer.model", "world/rwkv_vocab_v20230424.txt"),
    [](const auto& test) { return test.param.substr(0, test.param.find('/')); });

}  // namespace
}  // namespace eddy
