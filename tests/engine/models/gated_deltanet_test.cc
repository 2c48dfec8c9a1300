// SPDX-License-Identifier: Apache-2.0
// What Gated DeltaNet says of itself, and of checkpoints that it refuses.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/support/model_files.h"
#include "tests/support/model_stepper.h"

namespace eddy {
namespace {

using testing::HasSubstr;

class GatedDeltaNetLoadTest : public testing::Test {
 protected:
  GatedDeltaNetLoadTest() {
    BackendOptions options;
    options.backend = "cpu";
    options.thread_count = 1;
    backend_ = *MakeBackend(options);
  }

  absl::Status LoadPatched(const std::string& patch) {
    const TestFolder folder;
    const std::string golden = GoldenFolder("gated_deltanet/plain");
    nlohmann::json config = nlohmann::json::parse(ReadBytes(golden + "/config.json"));
    config.merge_patch(nlohmann::json::parse(patch));
    WriteBytes(folder / "config.json", config.dump());
    std::filesystem::copy_file(golden + "/model.safetensors", folder / "model.safetensors");
    return LoadModel(folder.path(), *backend_, LoadOptions()).status();
  }

  std::unique_ptr<Backend> backend_;
};

TEST_F(GatedDeltaNetLoadTest, TellsWhatItLoaded) {
  const auto model = LoadModel(GoldenFolder("gated_deltanet/grouped"), *backend_, LoadOptions());
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ((*model)->info().family, "gated_deltanet");
  EXPECT_EQ((*model)->info().vocabulary_size, 29);
  EXPECT_EQ((*model)->info().position_max, 0);
  EXPECT_THAT((*model)->info().end_of_text_ids, testing::ElementsAre(2));
  const StateLayout& layout = (*model)->state_layout();
  ASSERT_EQ(layout.tensors().size(), 8u);
  EXPECT_EQ(layout.tensors()[4].name, "layers.1.q_inputs");
  EXPECT_EQ(layout.tensors()[4].shape, Shape({2, 24}));
  EXPECT_EQ(layout.tensors()[6].name, "layers.1.v_inputs");
  EXPECT_EQ(layout.tensors()[6].shape, Shape({2, 72}));
  EXPECT_EQ(layout.tensors()[7].name, "layers.1.s");
  EXPECT_EQ(layout.tensors()[7].shape, Shape({4, 12, 18}));
}

struct Refusal {
  const char* name;
  const char* patch;
  const char* message;
  absl::StatusCode code = absl::StatusCode::kInvalidArgument;
};

const Refusal kRefusals[] = {
    {"hybrid", R"({"attn": {"layers": [1], "num_heads": 3}})",
     "attn is {\"layers\":[1],\"num_heads\":3}, expected null: the layers it names are softmax "
     "attention, whose memory grows with every token",
     absl::StatusCode::kUnimplemented},
    {"layer_attention", R"({"attnres_block_size": 4})", "attnres_block_size is 4, expected null"},
    {"activation", R"({"hidden_act": "powlu"})", "hidden_act is \"powlu\", expected one of"},
    {"no_convolution", R"({"use_short_conv": false})", "use_short_conv is false, expected true"},
    {"negative", R"({"allow_neg_eigval": 2})", "allow_neg_eigval is 2, expected"},
    {"norm", R"({"elementwise_affine": false})", "elementwise_affine is false, expected true"},
    {"tied", R"({"tie_word_embeddings": 1})", "tie_word_embeddings is 1, expected"},
    {"vocabulary", R"({"vocab_size": 28})",
     "model.embeddings.weight is F32 [29, 36], expected [28, 36]"},
    {"heads", R"({"num_heads": 2})",
     "model.layers.0.attn.q_proj.weight is F32 [30, 36], "
     "expected [20, 36]"},
    {"value_heads", R"({"num_v_heads": 4})",
     "num_v_heads is 4, expected a multiple of num_heads 3"},
    {"values", R"({"expand_v": 1.25})", "expand_v is 1.25, expected a whole number of values"},
    {"values_other", R"({"expand_v": 3})",
     "model.layers.0.attn.o_norm.weight is F32 [20], expected [30]"},
    {"convolution", R"({"conv_size": 3})",
     "model.layers.0.attn.q_conv1d.weight is F32 [30, 1, 4], expected [30, 3]"},
    {"gate", R"({"use_gate": false})", "\"model.layers.0.attn.g_proj.weight\""},
    {"feed_forward", R"({"intermediate_size": null})",
     "model.layers.0.mlp.gate_proj.weight is F32 [50, 36], expected [256, 36]"},
    {"layers_too_many", R"({"num_hidden_layers": 3})",
     "model.layers.2.attn.A_log is missing, expected [3]"},
    {"layers_too_few", R"({"num_hidden_layers": 1})", "\"model.layers.1.attn.A_log\" (F32 [3])"},
    {"state", R"({"num_heads": 4096, "head_dim": 4096, "expand_v": 4})",
     "bytes of state per session"},
    {"eps", R"({"norm_eps": 0})", "norm_eps is 0, expected a number above 0"},
};

TEST_F(GatedDeltaNetLoadTest, RefusesWhatDoesNotFit) {
  for (const Refusal& refusal : kRefusals) {
    const absl::Status status = LoadPatched(refusal.patch);
    EXPECT_EQ(status.code(), refusal.code) << refusal.name << ": " << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(refusal.message)) << refusal.name;
  }
}

}  // namespace
}  // namespace eddy
