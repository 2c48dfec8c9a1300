// SPDX-License-Identifier: Apache-2.0
// Names, sizes and low ranks that the RWKV families share; the goldens have their numbers.
#include "engine/sublayers/rwkv_block.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/safetensors.h"
#include "tests/support/model_files.h"

namespace eddy {
namespace {

using testing::HasSubstr;

const RwkvNames kNames = {"emb.weight", "head.weight", "ln_out", "blocks.", "ln0",
                          "ln1",        "ln2",         "att.",   "ffn."};

class RwkvBlockTest : public testing::Test {
 protected:
  RwkvBlockTest() {
    BackendOptions options;
    options.backend = "cpu";
    options.thread_count = 1;
    backend_ = *MakeBackend(options);
  }

  static TestTensor Zeros(std::vector<int64_t> shape) {
    int64_t count = 1;
    for (const int64_t size : shape) count *= size;
    return {std::move(shape), std::vector<float>(static_cast<size_t>(count))};
  }
  Weights Hold(const std::map<std::string, TestTensor>& tensors) {
    bytes_ = SafetensorsBytes(tensors);
    file_ = std::make_unique<Safetensors>(*Safetensors::Parse(Bytes(bytes_), "m.safetensors"));
    return Weights(*file_, *backend_, DType::kF32);
  }

  std::unique_ptr<Backend> backend_;
  std::string bytes_;
  std::unique_ptr<Safetensors> file_;
};

TEST_F(RwkvBlockTest, NamesAreMadeOfTheirParts) {
  EXPECT_EQ(kNames.Layer(12), "blocks.12.");
  EXPECT_EQ(kNames.Time(0), "blocks.0.att.");
  EXPECT_EQ(kNames.Channel(3), "blocks.3.ffn.");
}

TEST_F(RwkvBlockTest, SizesComeFromTheTensorsWhereTheConfigurationIsSilent) {
  const Weights weights = Hold({{"emb.weight", Zeros({7, 6})},
                                {"blocks.0.ln1.weight", Zeros({6})},
                                {"blocks.1.ln1.weight", Zeros({6})},
                                {"blocks.3.ln1.weight", Zeros({6})},
                                {"blocks.0.ffn.key.weight", Zeros({9, 6})}});
  const auto found = ReadRwkvSettings(*Config::Parse("{}", "c"), weights, kNames, "key.weight");
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->vocabulary_size, 7);
  EXPECT_EQ(found->hidden_size, 6);
  EXPECT_EQ(found->layer_count, 2);  // those without a gap
  EXPECT_EQ(found->feed_forward_size, 9);
  EXPECT_EQ(found->norm_eps, 1e-5f);
  EXPECT_TRUE(found->first_norm);
  const auto told =
      ReadRwkvSettings(*Config::Parse(R"({"vocab_size": 8, "hidden_size": 5, "num_hidden_layers": 3,
                         "intermediate_size": 4, "layer_norm_epsilon": 0.5, "norm_bias": false})",
                                      "c"),
                       weights, kNames, "key.weight");
  ASSERT_TRUE(told.ok()) << told.status();
  EXPECT_EQ(told->vocabulary_size, 8);
  EXPECT_EQ(told->hidden_size, 5);
  EXPECT_EQ(told->layer_count, 3);
  EXPECT_EQ(told->feed_forward_size, 4);
  EXPECT_EQ(told->norm_eps, 0.5f);
  EXPECT_FALSE(told->norm_bias);
}

TEST_F(RwkvBlockTest, StoredSizesAreCountedFromTheLastAxis) {
  const Weights weights = Hold({{"cube", Zeros({2, 3, 5})}});
  EXPECT_EQ(StoredSize(weights, "cube", 0), 5);
  EXPECT_EQ(StoredSize(weights, "cube", 2), 2);
  EXPECT_EQ(StoredSize(weights, "cube", 3), 0);
  EXPECT_EQ(StoredSize(weights, "none", 0), 0);
  const Config config = *Config::Parse(R"({"rank": 4})", "c");
  EXPECT_EQ(*StoredSizeOr(config, "rank", 8, 5), 5);  // the tensors go first
  EXPECT_EQ(*StoredSizeOr(config, "rank", 8, 0), 4);
  EXPECT_EQ(*StoredSizeOr(config, "rank", 8, 9), 4);
  EXPECT_THAT(std::string(StoredSizeOr(config, "other", 8, 0).status().message()),
              HasSubstr("other is missing, expected a whole number from 1 to 8"));
}

TEST_F(RwkvBlockTest, OneTebibyteOfStateIsEnough) {
  const Config config = *Config::Parse("{}", "c");
  RwkvSettings settings;
  settings.layer_count = 1024;
  settings.hidden_size = 1 << 16;
  const int64_t largest = (int64_t{1} << 28) - 2 * settings.hidden_size;
  EXPECT_TRUE(CheckRwkvState(config, settings, largest).ok());
  EXPECT_THAT(std::string(CheckRwkvState(config, settings, largest + 1).message()),
              HasSubstr("expected at most 1099511627776"));
}

// Two tokens through a down and an up matrix of numbers that f32 holds.
TEST_F(RwkvBlockTest, LowRanksAreTheSameHoweverTheyLie) {
  const TestTensor down = {{2, 3}, {1, 2, 3, 4, 5, 6}}, up = {{4, 2}, {1, 0, 0, 1, 2, 2, -1, 1}};
  const TestTensor down_turned = {{3, 2}, {1, 4, 2, 5, 3, 6}};
  const TestTensor up_turned = {{2, 4}, {1, 0, 2, -1, 0, 1, 2, 1}};
  for (const bool transposed : {false, true}) {
    Weights weights =
        Hold({{"w1", transposed ? down_turned : down}, {"w2", transposed ? up_turned : up}});
    const LowRank low_rank = ReadLowRank(weights, {3, 2, 4, transposed}, "w1", "w2");
    ASSERT_TRUE(weights.Finish().ok());
    std::vector<float> x = {1, 0, 0, 0, 1, -1}, inner(4), out(8);
    const auto view = [](std::vector<float>& values, Shape shape) {
      return Tensor(values.data(), DType::kF32, shape);
    };
    backend_->MatMul(view(x, {2, 3}), low_rank.down, Tensor(), view(inner, {2, 2}));
    backend_->MatMul(view(inner, {2, 2}), low_rank.up, Tensor(), view(out, {2, 4}));
    EXPECT_EQ(inner, (std::vector<float>{1, 4, -1, -1}));
    EXPECT_EQ(out, (std::vector<float>{1, 4, 10, 3, -1, -1, -4, 0}));
  }
}

TEST_F(RwkvBlockTest, RefusesAttention) {
  const Weights weights = Hold({{"emb.weight", Zeros({7, 6})}, {"blocks.0.qkv.q", Zeros({1})}});
  absl::Status status =
      ReadRwkvSettings(*Config::Parse("{}", "c"), weights, kNames, "key.weight").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("m.safetensors: blocks.0.qkv.q is part of an attention branch"));
  const Weights sound = Hold({{"emb.weight", Zeros({7, 6})}});
  status = ReadRwkvSettings(*Config::Parse(R"({"attn": {}})", "c"), sound, kNames, "key.weight")
               .status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
}

}  // namespace
}  // namespace eddy
