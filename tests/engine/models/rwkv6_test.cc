// SPDX-License-Identifier: Apache-2.0
// Which RWKV-6 checkpoints load, and what is said of those that do not.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/support/changed_golden.h"

namespace eddy {
namespace {

using testing::HasSubstr;

class Rwkv6LoadTest : public ChangedGoldenTest {};

TEST_F(Rwkv6LoadTest, TellsWhatItLoaded) {
  const auto model = Load(GoldenFolder("rwkv6/fla"));
  ASSERT_TRUE(model.ok()) << model.status();
  const ModelInfo& info = (*model)->info();
  EXPECT_EQ(info.family, "rwkv6");
  EXPECT_EQ(info.vocabulary_size, 29);
  EXPECT_EQ(info.position_max, 0);
  EXPECT_THAT(info.end_of_text_ids, testing::ElementsAre(2));
  const StateLayout& layout = (*model)->state_layout();
  ASSERT_EQ(layout.tensors().size(), 6u);
  EXPECT_EQ(layout.tensors()[3].name, "layers.1.time_shift");
  EXPECT_EQ(layout.tensors()[3].shape, Shape({32}));
  EXPECT_EQ(layout.tensors()[4].name, "layers.1.s");
  EXPECT_EQ(layout.tensors()[4].shape, Shape({2, 8, 16}));  // keys are half as large as values
  EXPECT_EQ(layout.tensors()[5].name, "layers.1.channel_shift");
  EXPECT_EQ(layout.bytes(), 2 * (128 + 1024 + 128));
}

// Every parameter counts, those that are read as numbers, too.
TEST_F(Rwkv6LoadTest, CountsTheMixes) {
  const auto model = Load(GoldenFolder("rwkv6/official"));
  ASSERT_TRUE(model.ok()) << model.status();
  const int64_t size = 24, inner = 29, ranks = 5 * 4;
  const int64_t time =
      6 * size + 2 * size * ranks + size + 2 * size * 6 + size + 5 * size * size + 2 * size;
  const int64_t channel = 2 * size + 2 * size * inner + size * size;
  EXPECT_EQ((*model)->info().parameter_count,
            2 * 31 * size + 2 * (4 * size + time + channel) + 2 * 2 * size);
}

TEST_F(Rwkv6LoadTest, RanksAndHeadsComeFromTheTensors) {
  EXPECT_TRUE(LoadChanged("rwkv6/fla", R"({"proj_low_rank_dim": 32, "gate_low_rank_dim": 64,
                          "num_heads": 99, "expand_k": 1.0})")
                  .ok());
}

TEST_F(Rwkv6LoadTest, OfficialFilesNeedNoSizes) {
  EXPECT_TRUE(LoadChanged("rwkv6/official", R"({"vocab_size": 31, "num_hidden_layers": 2})").ok());
  const absl::Status status =
      LoadChanged("rwkv6/official", "{}", Replace("emb.weight", "emb.weighs"));
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("vocab_size is missing, expected a whole"));
}

const Refusal kRefusals[] = {
    {"hybrid", R"({"attn": {"layers": [1], "num_heads": 3}})",
     "attn: some layers are softmax attention, whose memory grows with every token",
     absl::StatusCode::kUnimplemented},
    {"activation", R"({"hidden_act": "relu"})", "hidden_act is \"relu\", expected \"sqrelu\""},
    {"tied", R"({"tie_word_embeddings": true})", "tie_word_embeddings is true, expected false"},
    {"vocabulary", R"({"vocab_size": 32})",
     "model.embeddings.weight is F16 [29, 32], expected [32, 32]"},
    {"width", R"({"hidden_size": 24})",
     "model.layers.0.attn.x_proj.0.linear.weight is F16 [25, 32], expected [25, 24]"},
    {"feed_forward", R"({"intermediate_size": 35})",
     "model.layers.0.ffn.key.linear.weight is F16 [36, 32], expected [35, 32]"},
    {"layers_too_many", R"({"num_hidden_layers": 3})",
     "model.layers.2.attn.x_proj.0.linear.weight is missing, expected [25, 32]"},
    {"layers_too_few", R"({"num_hidden_layers": 1})",
     "\"model.layers.1.attn.bonus\" (F32 [2, 8]) has no place"},
    {"eps", R"({"norm_eps": 0})", "norm_eps is 0, expected a number above 0"},
    {"head_size", R"({"head_size": 64})", "head_size is 64, but the heads of"},
    {"no_biases", R"({"norm_bias": false})", "\"model.norm.bias\" (F32 [32]) has no place"},
    {"end_of_text", R"({"eos_token_id": 29})", "eos_token_id is 29, expected a token id"},
};

TEST_F(Rwkv6LoadTest, RefusesWhatDoesNotFit) { ExpectRefusals("rwkv6/fla", kRefusals); }

TEST_F(Rwkv6LoadTest, HeadsMustBeThere) {
  absl::Status status = LoadChanged("rwkv6/official", "{}",
                                    Replace("blocks.0.att.time_faaaa", "blocks.0.att.time_faaab"));
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(
      std::string(status.message()),
      HasSubstr("blocks.0.att.time_faaaa is missing or has another shape, expected [heads"));
  status = LoadChanged("rwkv6/official", "{}",
                       Replace("blocks.0.att.ln_x.weight", "blocks.0.att.ln_y.weight"));
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("ln_x.weight has 0 numbers, expected a multiple of the 2 heads"));
}

TEST_F(Rwkv6LoadTest, AttentionBranchesAreRefused) {
  const absl::Status status = LoadChanged(
      "rwkv6/official", "{}", Replace("blocks.1.att.gate.weight", "blocks.1.qkv.gate.weight"));
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(status.message()), HasSubstr("is part of an attention branch"));
}

}  // namespace
}  // namespace eddy
