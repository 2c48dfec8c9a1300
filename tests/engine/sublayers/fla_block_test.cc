// SPDX-License-Identifier: Apache-2.0
// Settings and layouts that fla's families share; the goldens have their numbers.
#include "engine/sublayers/fla_block.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "engine/safetensors.h"
#include "engine/sublayers/linear_mixer.h"
#include "engine/sublayers/swiglu.h"
#include "tests/support/model_files.h"
#include "tests/support/model_stepper.h"

namespace eddy {
namespace {

using testing::HasSubstr;

Config Parsed(const std::string& text) { return *Config::Parse(text, "config.json"); }

TEST(FlaSettingsTest, DefaultsAreFlas) {
  const auto settings = ReadFlaSettings(
      Parsed(R"({"vocab_size": 32000, "hidden_size": 2048, "num_hidden_layers": 24})"));
  ASSERT_TRUE(settings.ok()) << settings.status();
  EXPECT_EQ(settings->feed_forward_size, 5632);
  EXPECT_EQ(settings->norm_eps, 1e-6f);
  EXPECT_FALSE(settings->tied);
  const auto retnet = ReadFlaSettings(
      Parsed(R"({"vocab_size": 32000, "hidden_size": 2048, "num_hidden_layers": 24})"), 2);
  EXPECT_EQ(retnet->feed_forward_size, 2816);
}

TEST(FlaHeadsTest, AreOfTheHiddenSizeOrOfTheirOwn) {
  const auto expanded =
      ReadExpandedHeads(Parsed(R"({"num_heads": 4, "num_kv_heads": 2})"), 2048, 16, 0.5f, 1.0f);
  ASSERT_TRUE(expanded.ok()) << expanded.status();
  EXPECT_EQ(expanded->key_size, 256);
  EXPECT_EQ(expanded->value_size, 512);
  EXPECT_EQ(expanded->stored_head_count, 2);
  EXPECT_EQ(expanded->keys(), 1024);
  const auto sized = ReadSizedHeads(Parsed(R"({"num_v_heads": 12})"), 6, 256, 2.0f);
  ASSERT_TRUE(sized.ok()) << sized.status();
  EXPECT_EQ(sized->key_head_count, 6);
  EXPECT_EQ(sized->values(), 12 * 512);
}

TEST(FlaHeadsTest, OneTebibyteOfStateIsEnough) {
  FlaSettings settings;
  settings.layer_count = 1024;
  const FlaHeads heads = {.key_head_count = 1,
                          .head_count = 1,
                          .stored_head_count = 1,
                          .key_size = 1 << 14,
                          .value_size = 1 << 14};
  const Config config = Parsed(R"({"num_heads": 1})");
  EXPECT_TRUE(CheckStateSize(config, "num_heads", settings, heads).ok());
  FlaHeads more = heads;
  more.value_size += 1;
  EXPECT_THAT(std::string(CheckStateSize(config, "num_heads", settings, more).message()),
              HasSubstr("expected at most 1099511627776"));
}

// A sublayer's output for two tokens of a model of one layer.
class SwiGluTest : public testing::Test {
 protected:
  SwiGluTest() {
    BackendOptions options;
    options.backend = "cpu";
    options.thread_count = 1;
    backend_ = *MakeBackend(options);
  }

  std::vector<float> Run(const std::string& bytes) {
    const TestFolder folder;
    WriteBytes(folder / "model.safetensors", bytes);
    const Safetensors file = *Safetensors::Open(folder / "model.safetensors");
    Weights weights(file, *backend_, DType::kF32);
    const auto layer = ReadSwiGlu(weights, "mlp.", 3, 2);
    const auto loaded = weights.Finish();
    EXPECT_TRUE(loaded.ok()) << loaded.status();
    std::vector<float> x = {1, 2, 3, -1, 0.5f, 0.25f}, y(6);
    Rows rows;
    rows.token_count = 2;
    const Shape shape = {2, 3};
    Workspace measuring;
    const StateRef pool;
    layer->Run({*backend_, rows, pool, measuring, {}, {}, {}});
    Workspace workspace(*backend_->Allocate(measuring.peak_bytes()));
    layer->Run({*backend_, rows, pool, workspace, Tensor(x.data(), DType::kF32, shape),
                Tensor(y.data(), DType::kF32, shape), Tensor()});
    return y;
  }

  std::unique_ptr<Backend> backend_;
};

TEST_F(SwiGluTest, TheOlderLayoutHasBothMatricesInOne) {
  const std::vector<float> gate = {0.5f, -1, 2, 1, 1, 1}, up = {1, 2, 3, -3, 2, -1};
  const std::vector<float> down = {1, 2, 3, 4, 5, 6};
  std::vector<float> both = gate;
  both.insert(both.end(), up.begin(), up.end());
  const std::vector<float> apart =
      Run(SafetensorsBytes({{"mlp.gate_proj.weight", {{2, 3}, gate}},
                            {"mlp.up_proj.weight", {{2, 3}, up}},
                            {"mlp.down_proj.weight", {{3, 2}, down}}}));
  const std::vector<float> fused = Run(SafetensorsBytes(
      {{"mlp.gate_proj.weight", {{4, 3}, both}}, {"mlp.down_proj.weight", {{3, 2}, down}}}));
  EXPECT_TRUE(SameBits(apart, fused));
  const auto silu = [](double x) { return x / (1 + std::exp(-x)); };
  // The first token: gate (4.5, 6), up (14, -2).
  EXPECT_NEAR(apart[0], silu(4.5) * 14 - 2 * silu(6) * 2, 1e-4);
  EXPECT_NEAR(apart[2], 5 * silu(4.5) * 14 - 6 * silu(6) * 2, 1e-3);
}

}  // namespace
}  // namespace eddy
