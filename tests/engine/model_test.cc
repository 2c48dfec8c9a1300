// SPDX-License-Identifier: Apache-2.0
#include "engine/model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/support/model_files.h"

namespace eddy {
namespace {

using testing::AllOf;
using testing::HasSubstr;

TEST(StateLayoutTest, TensorsFollowOneAnotherAligned) {
  StateLayout layout;
  EXPECT_EQ(layout.bytes(), 0);
  EXPECT_EQ(layout.Add("layers.0.s", DType::kF32, {1, 3, 5}), 0);
  EXPECT_EQ(layout.Add("layers.0.z", DType::kF32, {16}), 64);
  EXPECT_EQ(layout.Add("layers.1.s", DType::kBF16, {33}), 128);
  EXPECT_EQ(layout.bytes(), 256);
  ASSERT_EQ(layout.tensors().size(), 3u);
  EXPECT_EQ(layout.tensors()[1].name, "layers.0.z");
  EXPECT_EQ(layout.tensors()[1].offset_bytes, 64);
  EXPECT_EQ(layout.tensors()[2].dtype, DType::kBF16);
  EXPECT_EQ(layout.tensors()[2].shape, Shape({33}));
}

std::string Golden(const std::string& variant) {
  return std::string(EDDY_SOURCE_DIR) + "/tests/golden/linear_transformer/" + variant;
}

class LoadModelTest : public testing::Test {
 protected:
  LoadModelTest() {
    BackendOptions options;
    options.backend = "cpu";
    options.thread_count = 1;
    backend_ = *MakeBackend(options);
  }

  absl::StatusOr<std::unique_ptr<Model>> Load(const std::string& folder) {
    return LoadModel(folder, *backend_, LoadOptions());
  }
  // The plain golden model with another config.json.
  absl::Status LoadWith(const std::string& config) {
    const TestFolder folder;
    WriteBytes(folder / "config.json", config);
    std::filesystem::copy_file(Golden("plain") + "/model.safetensors",
                               folder / "model.safetensors");
    return Load(folder.path()).status();
  }

  std::unique_ptr<Backend> backend_;
};

TEST_F(LoadModelTest, TellsWhatItLoaded) {
  const auto model = Load(Golden("decay") + "/");
  ASSERT_TRUE(model.ok()) << model.status();
  const ModelInfo& info = (*model)->info();
  EXPECT_EQ(info.name, "decay");
  EXPECT_EQ(info.family, "linear_transformer");
  EXPECT_EQ(info.vocabulary_size, 23);
  EXPECT_EQ(info.position_max, 0);
  EXPECT_EQ(info.weight_dtype, DType::kBF16);
  EXPECT_THAT(info.end_of_text_ids, testing::ElementsAre(3));
  // Per layer q, k [15, 12], v [21, 12], out [12, 21], decay, two linears with 19, four norm
  // vectors.
  const int64_t layer = 2 * (15 * 12 + 15) + (21 * 12 + 21) + (12 * 21 + 12) + 3 + (19 * 12 + 19) +
                        (12 * 19 + 12) + 4 * 12;
  EXPECT_EQ(info.parameter_count, 23 * 12 + 2 * layer + 2 * 12 + (23 * 12 + 23));
  EXPECT_GT(info.weight_bytes, 2 * info.parameter_count);
  const StateLayout& layout = (*model)->state_layout();
  ASSERT_EQ(layout.tensors().size(), 4u);
  EXPECT_EQ(layout.tensors()[2].name, "layers.1.s");
  EXPECT_EQ(layout.tensors()[2].shape, Shape({3, 5, 7}));
  EXPECT_EQ(layout.tensors()[3].name, "layers.1.z");
  EXPECT_EQ(layout.tensors()[3].shape, Shape({3, 5}));
  EXPECT_EQ(layout.bytes(), 2 * (448 + 64));
}

TEST_F(LoadModelTest, TakesNameAndTypeFromTheOptions) {
  LoadOptions options;
  options.name = "bard";
  options.weight_dtype = DType::kF32;
  const auto model = LoadModel(Golden("sinusoid"), *backend_, options);
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ((*model)->info().name, "bard");
  EXPECT_EQ((*model)->info().weight_dtype, DType::kF32);
  EXPECT_EQ((*model)->info().position_max, 64);
  options.weight_dtype = DType::kI32;
  EXPECT_EQ(LoadModel(Golden("sinusoid"), *backend_, options).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(LoadModelTest, SaysWhatIsMissing) {
  const TestFolder folder;
  const auto status_of = [&](const std::string& path) { return Load(path).status(); };
  EXPECT_EQ(status_of(folder / "none").code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(status_of(folder.path()).code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status_of(folder.path()).message()), HasSubstr("config.json"));
  WriteBytes(folder / "config.json", ReadBytes(Golden("plain") + "/config.json"));
  EXPECT_EQ(status_of(folder.path()).code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status_of(folder.path()).message()), HasSubstr("model.safetensors"));
  EXPECT_EQ(status_of(folder / "config.json").code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(status_of("").code(), absl::StatusCode::kNotFound);
}

TEST_F(LoadModelTest, UnknownFamiliesAreToldTheKnownOnes) {
  const absl::Status status = LoadWith(R"({"model_type": "llama"})");
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("model_type is \"llama\", expected one of \"linear_transformer\", "));
}

// ---- configurations that cannot be served ----

struct BadConfig {
  const char* name;
  const char* patch;  // merged into the plain golden's config.json; null removes a key
  const char* message;
  absl::StatusCode code = absl::StatusCode::kInvalidArgument;
};

const BadConfig kBadConfigs[] = {
    {"no_model_type", R"({"model_type": null})", "model_type is missing"},
    {"model_type_number", R"({"model_type": 3})", "model_type is 3, expected"},
    {"no_vocabulary", R"({"vocab_size": null})", "vocab_size is missing"},
    {"vocabulary_zero", R"({"vocab_size": 0})", "vocab_size is 0, expected a whole number from 1"},
    {"vocabulary_negative", R"({"vocab_size": -23})", "vocab_size is -23"},
    {"vocabulary_huge", R"({"vocab_size": 4294967319})", "vocab_size is 4294967319"},
    {"vocabulary_string", R"({"vocab_size": "23"})", "vocab_size is \"23\""},
    {"hidden_zero", R"({"hidden_size": 0})", "hidden_size is 0"},
    {"hidden_huge", R"({"hidden_size": 65537})",
     "hidden_size is 65537, expected a whole number from 1 to 65536"},
    {"hidden_fraction", R"({"hidden_size": 12.5})", "hidden_size is 12.5"},
    {"layers_zero", R"({"num_hidden_layers": 0})", "num_hidden_layers is 0"},
    {"layers_huge", R"({"num_hidden_layers": 1000000000})", "num_hidden_layers is 1000000000"},
    {"layers_too_many", R"({"num_hidden_layers": 3})",
     "transformer.layers.2.attention.query_projection.weight is missing, expected [15, 12]"},
    {"layers_too_few", R"({"num_hidden_layers": 1})",
     "\"transformer.layers.1.attention.key_projection.bias\" (F32 [15]) has no place"},
    {"heads_zero", R"({"num_heads": 0})", "num_heads is 0"},
    {"heads_huge", R"({"num_heads": 4097})", "num_heads is 4097"},
    {"query_missing", R"({"query_dimensions": null})", "query_dimensions is missing"},
    {"value_missing", R"({"value_dimensions": null})", "value_dimensions is missing"},
    {"heads_other", R"({"num_heads": 2})",
     "query_projection.weight is F32 [15, 12], expected [10, 12]"},
    {"query_zero", R"({"query_dimensions": 0})", "query_dimensions is 0"},
    {"value_huge", R"({"value_dimensions": 1e9})", "value_dimensions is 1000000000.0"},
    {"state_too_large",
     R"({"num_hidden_layers": 1024, "num_heads": 4096, "query_dimensions": 4096,
         "value_dimensions": 4096})",
     "bytes of state per session, expected at most 1099511627776"},
    {"feed_forward_missing", R"({"feed_forward_dimensions": null})",
     "feed_forward_dimensions is missing"},
    {"feed_forward_negative", R"({"feed_forward_dimensions": -1})",
     "feed_forward_dimensions is -1"},
    {"feed_forward_other", R"({"feed_forward_dimensions": 20})",
     "linear2.weight is F32 [12, 19], expected [12, 20]"},
    {"activation_unknown", R"({"activation": "swish"})",
     "activation is \"swish\", expected one of \"relu\", \"gelu\""},
    {"feature_map_unknown", R"({"feature_map": "favor"})",
     "feature_map is \"favor\", expected \"elu\""},
    {"feature_map_missing", R"({"feature_map": null})", "feature_map is missing"},
    {"position_unknown", R"({"position_embedding": "rope"})",
     "position_embedding is \"rope\", expected one of \"none\", \"sinusoid\""},
    {"position_odd_half", R"({"position_embedding": "sinusoid", "hidden_size": 14})",
     "hidden_size is 14, expected a multiple of 4"},
    {"position_other", R"({"position_embedding": "sinusoid"})",
     "value_embedding.weight is missing, expected [23, 6]"},
    {"decay_unknown", R"({"decay": "vector"})", "decay is \"vector\", expected one of"},
    {"decay_other", R"({"decay": "constant"})", "attention.decay is missing, expected [3]"},
    {"final_norm_number", R"({"final_normalization": 1})", "final_normalization is 1"},
    {"final_norm_off", R"({"final_normalization": false})",
     "\"transformer.norm.weight\" (F32 [12]) has no place"},
    {"norm_eps_zero", R"({"norm_eps": 0})", "norm_eps is 0, expected a number above 0"},
    {"norm_eps_negative", R"({"norm_eps": -1e-5})", "norm_eps is -1e-05"},
    {"norm_eps_huge", R"({"norm_eps": 1e30})", "norm_eps is 1e+30"},
    {"attention_eps_string", R"({"attention_eps": "1e-6"})", "attention_eps is \"1e-6\""},
    {"eos_out_of_range", R"({"eos_token_id": 23})",
     "eos_token_id is 23, expected a token id from 0 to 22"},
    {"eos_list_out_of_range", R"({"eos_token_id": [0, -1]})", "eos_token_id is [0,-1]"},
    {"position_max_zero", R"({"max_position_embeddings": 0})", "max_position_embeddings is 0"},
    {"position_max_huge", R"({"max_position_embeddings": 18446744073709551615})",
     "max_position_embeddings is 18446744073709551615"},
    {"mixtures_zero", R"({"mixtures": 0})", "mixtures is 0, expected a whole number from 1"},
    {"mixtures_huge", R"({"mixtures": 1025})", "mixtures is 1025"},
    {"mixtures_other", R"({"mixtures": 10})",
     "predictor.weight is F32 [23, 12], expected [30, 12]"},
    {"mixtures_eos", R"({"mixtures": 10, "eos_token_id": 3})", "eos_token_id is 3, expected null"},
    {"mixtures_one_value", R"({"mixtures": 10, "vocab_size": 1})", "vocab_size is 1, expected at"},
    {"image_height_missing", R"({"image_width": 4, "image_channels": 1})",
     "image_height is missing"},
    {"image_width_zero", R"({"image_width": 0, "image_height": 4, "image_channels": 1})",
     "image_width is 0"},
    {"image_two_channels", R"({"image_width": 4, "image_height": 4, "image_channels": 2})",
     "image_channels is 2, expected 1 or 3"},
    {"image_vocabulary", R"({"image_width": 4, "image_height": 4, "image_channels": 1})",
     "vocab_size is 23, expected 256"},
    {"image_start", R"({"image_width": 4, "image_height": 4, "image_channels": 1,
                        "vocab_size": 256, "bos_token_id": 256})",
     "bos_token_id is 256"},
};

class BadConfigTest : public LoadModelTest, public testing::WithParamInterface<BadConfig> {};

TEST_P(BadConfigTest, IsRefusedWithAReason) {
  auto config = nlohmann::json::parse(ReadBytes(Golden("plain") + "/config.json"));
  config.merge_patch(nlohmann::json::parse(GetParam().patch));
  const absl::Status status = LoadWith(config.dump());
  EXPECT_EQ(status.code(), GetParam().code);
  EXPECT_THAT(std::string(status.message()), HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(All, BadConfigTest, testing::ValuesIn(kBadConfigs),
                         [](const auto& test) { return std::string(test.param.name); });

TEST_F(LoadModelTest, KeysNobodyAsksForAreIgnored) {
  auto config = nlohmann::json::parse(ReadBytes(Golden("plain") + "/config.json"));
  config.merge_patch({{"torch_dtype", "float64"}, {"architectures", {"X"}}, {"hidden_act", 7}});
  EXPECT_TRUE(LoadWith(config.dump()).ok());
}

TEST_F(LoadModelTest, AMixtureOfLogisticsIsRecognisedByItsShape) {
  auto config = nlohmann::json::parse(ReadBytes(Golden("plain") + "/config.json"));
  config["vocab_size"] = 256;
  const TestFolder folder;
  WriteBytes(folder / "config.json", config.dump());
  WriteBytes(folder / "model.safetensors",
             SafetensorsBytes({{"predictor.bias", {{30}, std::vector<float>(30)}}}));
  const absl::Status status = Load(folder.path()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("30 numbers"), HasSubstr("\"mixtures\": 10")));
}

TEST_F(LoadModelTest, ModelsOfImagesTellTheirShapeAndEndWithAnImage) {
  const auto grey = Load(Golden("image"));
  ASSERT_TRUE(grey.ok()) << grey.status();
  const ModelInfo& info = (*grey)->info();
  EXPECT_EQ(info.mixture_size, 10);
  EXPECT_EQ(info.output_size(), 30);
  ASSERT_TRUE(info.image.has_value());
  EXPECT_EQ(info.image->width, 5);
  EXPECT_EQ(info.image->height, 8);
  EXPECT_EQ(info.image->channels, 1);
  EXPECT_EQ(info.image->start_token, 0);
  EXPECT_EQ(info.position_max, 1 + 5 * 8);
  const auto rgb = Load(Golden("image_rgb"));
  ASSERT_TRUE(rgb.ok()) << rgb.status();
  EXPECT_EQ((*rgb)->info().output_size(), 9);
  EXPECT_EQ((*rgb)->info().image->channels, 3);
  EXPECT_FALSE((*rgb)->info().image->start_token.has_value());
  EXPECT_EQ((*rgb)->info().position_max, 7 * 2 * 3);
  const auto text = Load(Golden("plain"));
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_EQ((*text)->info().mixture_size, 0);
  EXPECT_EQ((*text)->info().output_size(), 23);
  EXPECT_FALSE((*text)->info().image.has_value());
}

TEST_F(LoadModelTest, WhatIsSampledIsOfTheModelsKindOfOutput) {
  std::vector<float> outputs = {-9.0f, 9.0f, 0.0f, -1.0f, 1.0f, 0.2f, -7.0f, -7.0f, -7.0f};
  const Tensor row(outputs.data(), DType::kF32, {1, 9});
  SampleRow sample;
  sample.temperature = 0.0f;
  SampleResult result;
  ModelInfo info;
  info.vocabulary_size = 256;
  info.mixture_size = 3;
  SampleOutputs(*backend_, info, row, {&sample, 1}, {&result, 1});
  EXPECT_EQ(result.token, 255);  // the mean of the second logistic
  info.vocabulary_size = 9;
  info.mixture_size = 0;
  SampleOutputs(*backend_, info, row, {&sample, 1}, {&result, 1});
  EXPECT_EQ(result.token, 1);  // the largest logit
}

}  // namespace
}  // namespace eddy
