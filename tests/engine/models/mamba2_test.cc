// SPDX-License-Identifier: Apache-2.0
// Which Mamba-2 checkpoints load, and what is said of those that do not.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/support/changed_golden.h"

namespace eddy {
namespace {

using testing::HasSubstr;

class Mamba2LoadTest : public ChangedGoldenTest {};

TEST_F(Mamba2LoadTest, TellsWhatItLoaded) {
  const auto model = Load(GoldenFolder("mamba2/groups"));
  ASSERT_TRUE(model.ok()) << model.status();
  const ModelInfo& info = (*model)->info();
  EXPECT_EQ(info.family, "mamba2");
  EXPECT_EQ(info.vocabulary_size, 53);
  EXPECT_EQ(info.position_max, 0);
  // The embedding once, and per layer in_proj, the convolution with its bias, A_log, dt_bias, D and
  // three norms and matrices more.
  const int64_t channels = 64 + 2 * 2 * 10;
  const int64_t layer = (64 + channels + 8) * 32 + 5 * channels + 3 * 8 + 64 + 32 + 32 * 64;
  EXPECT_EQ(info.parameter_count, 53 * 32 + 2 * layer + 32);
  const StateLayout& layout = (*model)->state_layout();
  ASSERT_EQ(layout.tensors().size(), 8u);
  EXPECT_EQ(layout.tensors()[4].name, "layers.1.convolution_x");
  EXPECT_EQ(layout.tensors()[4].shape, Shape({3, 64}));
  EXPECT_EQ(layout.tensors()[6].name, "layers.1.convolution_c");
  EXPECT_EQ(layout.tensors()[6].shape, Shape({3, 20}));
  EXPECT_EQ(layout.tensors()[7].name, "layers.1.s");
  EXPECT_EQ(layout.tensors()[7].shape, Shape({8, 10, 8}));
}

TEST_F(Mamba2LoadTest, StateSpacesAreKnownWithoutModelType) {
  const auto model = Load(GoldenFolder("mamba2/state_spaces"));
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ((*model)->info().family, "mamba2");
  EXPECT_EQ((*model)->info().vocabulary_size, 48);  // 35 padded to a multiple of 16
  EXPECT_TRUE(LoadChanged("mamba2/state_spaces", R"({"model_type": "mamba2"})").ok());
}

TEST_F(Mamba2LoadTest, WithoutAWordOnItTheHeadIsTiedWhereThereIsNone) {
  EXPECT_TRUE(LoadChanged("mamba2/groups", R"({"tie_word_embeddings": null})").ok());
  const absl::Status status = LoadChanged("mamba2/groups", R"({"tie_word_embeddings": false})");
  EXPECT_THAT(std::string(status.message()), HasSubstr("lm_head.weight is missing"));
}

const Refusal kRefusals[] = {
    {"hybrid", R"({"attention_layers_idx": [1]})",
     "attention_layers_idx: some layers are softmax attention, whose memory grows",
     absl::StatusCode::kUnimplemented},
    {"fla_hybrid", R"({"attn": {"layers": [1]}})", "attn: some layers are softmax attention",
     absl::StatusCode::kUnimplemented},
    {"feed_forward", R"({"mlp_intermediate_size": 64})", "mlp_intermediate_size is 64, expected"},
    {"activation", R"({"hidden_act": "gelu"})", "hidden_act is \"gelu\", expected one of"},
    {"layer_norm", R"({"rms_norm": false})", "rms_norm is false, expected true"},
    {"vocabulary", R"({"vocab_size": 54})",
     "backbone.embeddings.weight is BF16 [53, 32], expected [54, 32]"},
    {"heads", R"({"num_heads": 4})",
     "num_heads is 4, expected num_heads head_dim (32) to be expand hidden_size (64)"},
    {"expand", R"({"expand": 0})", "expand is 0, expected a whole number from 1"},
    {"groups", R"({"n_groups": 3})", "there are 3 groups, expected a divisor of the 8 heads"},
    {"groups_other", R"({"n_groups": 4})",
     "backbone.layers.0.mixer.in_proj.weight is BF16 [176, 32], expected [216, 32]"},
    {"no_groups", R"({"n_groups": null})", "n_groups is missing"},
    {"state_size", R"({"state_size": 11})", "in_proj.weight is BF16 [176, 32], expected [180, 32]"},
    {"convolution", R"({"conv_kernel": 3})", "conv1d.weight is BF16 [104, 1, 4], expected"},
    {"no_convolution_bias", R"({"use_conv_bias": false})",
     "\"backbone.layers.0.mixer.conv1d.bias\" (BF16 [104]) has no place"},
    {"bias", R"({"use_bias": true})", "backbone.layers.0.mixer.in_proj.bias is missing"},
    {"limit", R"({"time_step_limit": [1, 0.5]})", "time_step_limit is [1,0.5], expected a list"},
    {"limit_number", R"({"time_step_limit": 1})", "time_step_limit is 1, expected a list"},
    {"layers_too_many", R"({"num_hidden_layers": 3})", "backbone.layers.2.norm.weight is missing"},
    {"layers_too_few", R"({"num_hidden_layers": 1})", "\"backbone.layers.1.mixer.A_log\""},
    {"eps", R"({"layer_norm_epsilon": 0})", "layer_norm_epsilon is 0, expected a number above 0"},
    {"end_of_text", R"({"eos_token_id": 53})", "eos_token_id is 53, expected a token id"},
    {"state", R"({"hidden_size": 65536, "num_heads": 4096, "head_dim": 32, "state_size": 4096,
                  "num_hidden_layers": 1024})",
     "bytes of state per session, expected at most 1099511627776"},
};

TEST_F(Mamba2LoadTest, RefusesWhatDoesNotFit) { ExpectRefusals("mamba2/groups", kRefusals); }

const Refusal kStateSpacesRefusals[] = {
    {"hybrid", R"({"attn_layer_idx": [9]})", "attn_layer_idx: some layers are softmax attention",
     absl::StatusCode::kUnimplemented},
    {"mamba1", R"({"ssm_cfg": {"layer": "Mamba1"}})",
     "ssm_cfg: layer is \"Mamba1\", expected \"Mamba2\""},
    {"mamba1_by_default", R"({"ssm_cfg": {"layer": null}})", "ssm_cfg: layer is missing"},
    {"no_object", R"({"ssm_cfg": 5})", "ssm_cfg is 5, expected an object"},
    {"feed_forward", R"({"d_intermediate": 10})", "d_intermediate is 10, expected"},
    {"layer_norm", R"({"rms_norm": false})", "rms_norm is false, expected true"},
    {"wide_skip", R"({"ssm_cfg": {"D_has_hdim": true}})", "D_has_hdim is true, expected false"},
    {"gate", R"({"ssm_cfg": {"norm_before_gate": true}})", "norm_before_gate is true, expected"},
    {"no_norm", R"({"ssm_cfg": {"rmsnorm": false}})", "rmsnorm is false, expected true"},
    {"d_ssm", R"({"ssm_cfg": {"d_ssm": 16}})", "d_ssm is 16, expected none"},
    {"heads", R"({"ssm_cfg": {"headdim": 7}})", "headdim is 7, expected a divisor of expand"},
    {"groups", R"({"ssm_cfg": {"ngroups": 4}})", "there are 4 groups, expected a divisor of the 6"},
    {"padding", R"({"pad_vocab_size_multiple": 8})",
     "backbone.embedding.weight is F16 [48, 24], expected [40, 24]"},
    {"untied", R"({"tie_embeddings": false})", "lm_head.weight is missing, expected [48, 24]"},
    {"limit", R"({"ssm_cfg": {"dt_limit": "all"}})", "dt_limit is \"all\", expected a list"},
};

TEST_F(Mamba2LoadTest, RefusesWhatDoesNotFitOfStateSpaces) {
  ExpectRefusals("mamba2/state_spaces", kStateSpacesRefusals);
}

}  // namespace
}  // namespace eddy
