// SPDX-License-Identifier: Apache-2.0
// Which RWKV-7 checkpoints load, and what is said of those that do not.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/support/changed_golden.h"

namespace eddy {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class Rwkv7LoadTest : public ChangedGoldenTest {};

TEST_F(Rwkv7LoadTest, TellsWhatItLoaded) {
  const auto model = Load(GoldenFolder("rwkv7/official"));
  ASSERT_TRUE(model.ok()) << model.status();
  const ModelInfo& info = (*model)->info();
  EXPECT_EQ(info.family, "rwkv7");
  EXPECT_EQ(info.vocabulary_size, 29);
  EXPECT_EQ(info.position_max, 0);
  EXPECT_TRUE(info.end_of_text_ids.empty());
  const StateLayout& layout = (*model)->state_layout();
  ASSERT_EQ(layout.tensors().size(), 9u);
  EXPECT_EQ(layout.tensors()[3].name, "layers.1.time_shift");
  EXPECT_EQ(layout.tensors()[3].shape, Shape({40}));
  EXPECT_EQ(layout.tensors()[4].name, "layers.1.s");
  EXPECT_EQ(layout.tensors()[4].shape, Shape({2, 20, 20}));
  EXPECT_EQ(layout.tensors()[5].name, "layers.1.channel_shift");
  EXPECT_EQ(layout.bytes(), 3 * (192 + 3200 + 192));
}

TEST_F(Rwkv7LoadTest, TakesTheEndOfTextFromTheConfiguration) {
  const auto model = Load(GoldenFolder("rwkv7/fla"));
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_THAT((*model)->info().end_of_text_ids, testing::ElementsAre(2));
}

// Configurations are known to be wrong about these; the tensors tell.
TEST_F(Rwkv7LoadTest, RanksAndHeadsComeFromTheTensors) {
  EXPECT_TRUE(LoadChanged("rwkv7/fla", R"({"decay_low_rank_dim": 64, "gate_low_rank_dim": 128,
                          "v_low_rank_dim": 16, "num_heads": 99, "head_dim": 64})")
                  .ok());
}

const Refusal kRefusals[] = {
    {"hybrid", R"({"attn": {"layers": [1], "num_heads": 3}})",
     "attn: some layers are softmax attention, whose memory grows with every token",
     absl::StatusCode::kUnimplemented},
    {"activation", R"({"hidden_act": "relu"})", "hidden_act is \"relu\", expected \"sqrelu\""},
    {"tied", R"({"tie_word_embeddings": true})", "tie_word_embeddings is true, expected false"},
    {"vocabulary", R"({"vocab_size": 32})",
     "model.embeddings.weight is F32 [31, 36], expected [32, 36]"},
    {"no_vocabulary_but_a_tensor", R"({"vocab_size": null, "hidden_size": 35})",
     "hidden_size is 35, expected a multiple of the head size 12"},
    {"width", R"({"hidden_size": 24})",
     "model.layers.0.attn.r_proj.weight is F32 [36, 36], "
     "expected [24, 24]"},
    {"feed_forward", R"({"intermediate_size": 49})",
     "model.layers.0.ffn.key.weight is F32 [50, 36], expected [49, 36]"},
    {"layers_too_many", R"({"num_hidden_layers": 4})",
     "model.layers.3.attn.w_lora.lora.0.weight is missing, expected [7, 36]"},
    {"layers_too_few", R"({"num_hidden_layers": 2})",
     "\"model.layers.2.attn.g_norm.bias\" (F32 [36]) has no place"},
    {"layers_zero", R"({"num_hidden_layers": 0})", "num_hidden_layers is 0, expected a whole"},
    {"no_biases", R"({"norm_bias": false})", "\"model.norm.bias\" (F32 [36]) has no place"},
    {"no_first_norm", R"({"norm_first": false})", "\"model.layers.0.pre_norm.bias\""},
    {"eps", R"({"norm_eps": 0})", "norm_eps is 0, expected a number above 0"},
    {"end_of_text", R"({"eos_token_id": 31})", "eos_token_id is 31, expected a token id"},
};

TEST_F(Rwkv7LoadTest, RefusesWhatDoesNotFit) { ExpectRefusals("rwkv7/fla", kRefusals); }

TEST_F(Rwkv7LoadTest, TransposedMatricesAreNamedAsStored) {
  const absl::Status status = LoadChanged("rwkv7/official", "{}", Replace("[40,5]", "[5,40]"));
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("blocks.0.att.w1 is F32 [5, 40], expected [40, 40]")));
}

TEST_F(Rwkv7LoadTest, VariantsThatGrowAreRefused) {
  const absl::Status status =
      LoadChanged("rwkv7/official", "{}", Replace("blocks.1.ffn.x_k", "blocks.1.qkv.x_k"));
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("blocks.1.qkv.x_k is part of an attention branch (RWKV-7b), whose memory "
                        "grows with every token"));
}

TEST_F(Rwkv7LoadTest, ADeepEmbeddingIsWhole) {
  EXPECT_TRUE(Load(GoldenFolder("rwkv7/deep_embedding")).ok());
  absl::Status status = LoadChanged("rwkv7/deep_embedding", R"({"norm_first": false})");
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(status.message()), HasSubstr("deep embedding (RWKV-7a), expected with"));
  status = LoadChanged("rwkv7/deep_embedding", "{}",
                       Replace("blocks.1.ffn.s_emb_x.weight", "blocks.1.ffn.s_emb_y.weight"));
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("blocks.1.ffn.s_emb_x.weight is missing, expected [25, 24]"),
                    HasSubstr("\"blocks.1.ffn.s_emb_y.weight\" (BF16 [25, 24]) has no place")));
  status = LoadChanged("rwkv7/deep_embedding", "{}", Replace("[19,25]", "[25,19]"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("s_emb.weight is BF16 [25, 19]"));
}

// What is left out of a configuration comes from the tensors, or is asked for.
TEST_F(Rwkv7LoadTest, WithoutConfigurationTheTensorsMustTell) {
  EXPECT_TRUE(LoadChanged("rwkv7/official", R"({"vocab_size": 29, "num_hidden_layers": 3})").ok());
  const absl::Status status =
      LoadChanged("rwkv7/official", "{}", Replace("emb.weight", "emb.weighs"));
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("vocab_size is missing, expected a whole"));
}

}  // namespace
}  // namespace eddy
