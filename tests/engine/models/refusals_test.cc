// SPDX-License-Identifier: Apache-2.0
// Configurations of fla's families that are refused, and the sentences that say why: each a golden
// with a changed config.json.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/support/model_files.h"
#include "tests/support/model_stepper.h"

namespace eddy {
namespace {

struct Refusal {
  const char* name;
  const char* golden;
  const char* patch;  // merged into config.json
  const char* message;
  absl::StatusCode code = absl::StatusCode::kInvalidArgument;
};

const Refusal kRefusals[] = {
    {"hybrid", "retnet/plain", R"({"attn": {"layers": [1, 3]}})",
     "attn is {\"layers\":[1,3]}, expected null: the layers it names are softmax attention",
     absl::StatusCode::kUnimplemented},
    {"kv_heads", "retnet/plain", R"({"num_heads": 4, "num_kv_heads": 3})",
     "num_kv_heads is 3, expected a divisor of num_heads 4"},
    {"expand_k", "retnet/plain", R"({"expand_k": 0.3})",
     "expand_k is 0.3, expected a whole number of values times hidden_size 24, in 2 heads"},
    {"odd_heads", "retnet/plain", R"({"num_heads": 8})", "which makes heads of an odd size"},
    {"retnet_map", "retnet/plain", R"({"feature_map": "gelu"})",
     "feature_map is \"gelu\", expected one of \"relu\", "},
    {"values_other", "retnet/plain", R"({"expand_v": 1.0})",
     "attn.v_proj.weight is F16 [48, 24], expected [24, 24]"},
    {"gk", "gla/plain", R"({"use_gk": false})", "use_gk is false, expected true"},
    {"gv", "gla/plain", R"({"use_gv": true})", "use_gv is true, expected false"},
    {"clamp", "gla/plain", R"({"clamp_min": 0.5})", "clamp_min is 0.5, expected a number above"},
    {"gla_convolved_groups", "gla/convolved", R"({"num_heads": 4, "num_kv_heads": 2})",
     "num_kv_heads is 2, expected num_heads or null with use_short_conv"},
    {"lower_bounds", "hgrn2/plain", R"({"use_lower_bound": false})",
     "\"model.lower_bounds\" (F32 [3, 24]) has no place"},
    {"no_lower_bounds", "hgrn2/no_bound", R"({"use_lower_bound": true})",
     "model.lower_bounds is missing, expected [2, 16]"},
    {"hgrn2_convolution", "hgrn2/plain", R"({"use_short_conv": true})",
     "use_short_conv is true, expected false"},
    {"hgrn2_heads", "hgrn2/plain", R"({"num_heads": 5})",
     "hidden_size is 24, expected a multiple of the 5 heads"},
    {"delta_norm", "delta_net/plain", R"({"qk_norm": "sum"})", "qk_norm is \"sum\", expected"},
    {"delta_activation", "delta_net/plain", R"({"qk_activation": "relu"})",
     "qk_activation is \"relu\", expected \"silu\" with use_short_conv"},
    {"delta_groups", "delta_net/plain", R"({"num_kv_heads": 1})",
     "num_kv_heads is 1, expected num_heads or null"},
    {"delta_no_norm", "delta_net/plain", R"({"use_output_norm": false})",
     "use_output_norm is false, expected true"},
    {"kda_bound", "kda/plain", R"({"lower_bound": 1.0})", "lower_bound is 1.0, expected a number"},
    {"kda_convolution", "kda/plain", R"({"use_short_conv": false})",
     "use_short_conv is false, expected true"},
    {"map", "linear_attn/product", R"({"feature_map": "dpfp"})",
     "feature_map is \"dpfp\", expected one of \"elementwise_product\", \"hedgehog\", \"t2r\", "},
    {"map_other", "linear_attn/product", R"({"feature_map": "t2r"})",
     "attn.feature_map_q.layer.weight is missing, expected [12, 12]"},
    {"tied", "linear_attn/product", R"({"tie_word_embeddings": 1})",
     "tie_word_embeddings is 1, expected"},
    {"state", "linear_attn/product",
     R"({"hidden_size": 65536, "num_hidden_layers": 1024, "num_heads": 1, "expand_k": 64,
         "expand_v": 64})",
     "bytes of state per session, expected at most 1099511627776"},
};

TEST(RefusalsTest, SayWhatIsWrong) {
  BackendOptions options;
  options.backend = "cpu";
  options.thread_count = 1;
  const auto backend = *MakeBackend(options);
  for (const Refusal& refusal : kRefusals) {
    const TestFolder folder;
    const std::string golden = GoldenFolder(refusal.golden);
    nlohmann::json config = nlohmann::json::parse(ReadBytes(golden + "/config.json"));
    config.merge_patch(nlohmann::json::parse(refusal.patch));
    WriteBytes(folder / "config.json", config.dump());
    std::filesystem::copy_file(golden + "/model.safetensors", folder / "model.safetensors");
    const absl::Status status = LoadModel(folder.path(), *backend, LoadOptions()).status();
    EXPECT_EQ(status.code(), refusal.code) << refusal.name << ": " << status;
    EXPECT_THAT(std::string(status.message()), testing::HasSubstr(refusal.message)) << refusal.name;
  }
}

}  // namespace
}  // namespace eddy
