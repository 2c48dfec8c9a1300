// SPDX-License-Identifier: Apache-2.0
#include "engine/synthetic.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <memory>
#include <numeric>

#include "engine/model.h"
#include "engine/tokenizer/tokenizer.h"
#include "kernels/backend.h"
#include "kernels/workspace.h"

namespace eddy {
namespace {

using testing::HasSubstr;

std::vector<float> Values(const StoredTensor& tensor) {
  std::vector<float> values(static_cast<size_t>(tensor.shape.element_count()));
  if (tensor.type == StoredType::kF32) {
    std::memcpy(values.data(), tensor.data.data(), tensor.data.size());
    return values;
  }
  std::vector<uint16_t> halves(values.size());
  std::memcpy(halves.data(), tensor.data.data(), tensor.data.size());
  for (size_t i = 0; i < values.size(); ++i) {
    values[i] = std::bit_cast<float>(static_cast<uint32_t>(halves[i]) << 16);
  }
  return values;
}

std::vector<float> Made(const std::string& name, const Shape& shape, const ValueRange& range = {}) {
  const SyntheticTensors tensors("synthetic:test", 256);
  MadeTensor made;
  const StoredTensor* tensor = tensors.Provide(name, shape, range, &made);
  EXPECT_EQ(tensor->shape, shape);
  EXPECT_EQ(static_cast<int64_t>(tensor->data.size()),
            shape.element_count() * StoredTypeBytes(tensor->type));
  return Values(*tensor);
}

double Variance(const std::vector<float>& values) {
  double sum = 0, squares = 0;
  for (const float value : values) sum += value, squares += double{value} * value;
  const auto count = static_cast<double>(values.size());
  return squares / count - sum / count * (sum / count);
}

TEST(SyntheticTensors, AreAFunctionOfNameAndIndex) {
  const std::vector<float> once = Made("layers.0.a.weight", {30, 50});
  EXPECT_EQ(once, Made("layers.0.a.weight", {30, 50}));
  EXPECT_NE(once, Made("layers.1.a.weight", {30, 50}));
  // Of the index alone, not of the shape, but for the scale.
  const std::vector<float> longer = Made("layers.0.a.weight", {31, 50});
  EXPECT_TRUE(std::equal(once.begin(), once.end(), longer.begin()));
  // Recorded figures of a model stay comparable only as long as its weights do.
  EXPECT_THAT(Made("x", {3}),
              testing::ElementsAre(-5145.0f / 131072, -31121.0f / 131072, -65029.0f / 131072));
}

TEST(SyntheticTensors, HaveScalesThatKeepActivationsWhereTheyAre) {
  EXPECT_NEAR(Variance(Made("a.weight", {128, 300})), 1.0 / 300, 0.05 / 300);
  EXPECT_NEAR(Variance(Made("head.weight", {256, 300})), 9.0 / 300, 0.45 / 300);
  for (const float one : Made("norm.weight", {9})) EXPECT_EQ(one, 1.0f);
  const std::vector<float> bias = Made("norm.bias", {1001});
  EXPECT_NEAR(Variance(bias), 1.0 / 12, 0.01);
  EXPECT_NEAR(Variance(Made("conv.weight", {500, 1, 4})), 1.0 / 4, 0.02);
}

TEST(SyntheticTensors, LieInTheRangeAskedFor) {
  for (const float decay : Made("decay", {5000}, {0.0f, 1.0f})) {
    EXPECT_GT(decay, 0.4999f);
    EXPECT_LE(decay, 1.0f);
  }
  for (const float positive : Made("decay", {5000}, {0.0f})) EXPECT_GT(positive, 0.0f);
}

TEST(SyntheticConfig, IsThereForEveryName) {
  ASSERT_GE(SyntheticModelNames().size(), 2u);
  for (const std::string& name : SyntheticModelNames()) {
    EXPECT_TRUE(IsSyntheticModel(name));
    const auto config = SyntheticConfig(name);
    ASSERT_TRUE(config.ok()) << config.status();
    EXPECT_EQ(config->file(), name);
    EXPECT_TRUE(config->Has("model_type"));
  }
}

TEST(SyntheticConfig, TellsTheNamesWhenThereIsNoSuch) {
  const auto backend = MakeBackend({});
  const auto model = LoadModel("synthetic:gpt", **backend, {});
  EXPECT_EQ(model.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(model.status().message()), HasSubstr("synthetic:gpt"));
  for (const std::string& name : SyntheticModelNames()) {
    EXPECT_THAT(std::string(model.status().message()), HasSubstr(name));
  }
  EXPECT_FALSE(IsSyntheticModel("models/shakespeare"));
}

TEST(SyntheticModel, HasNoTokenizer) {
  EXPECT_EQ(LoadTokenizer("synthetic:mnist").status().code(), absl::StatusCode::kNotFound);
}

// Outputs of the last token after reading `tokens` in steps of at most 64.
std::vector<float> LogitsAfter(Model& model, Backend& backend, int token_count) {
  const int32_t vocabulary_size = model.info().vocabulary_size;
  Workspace workspace;
  std::vector<int32_t> tokens(64);
  std::vector<int32_t> begin = {0, 64};
  const int32_t slot = 0, last = 63;
  int64_t position = 0;
  const Rows rows = {1, 64, 1, tokens.data(), begin.data(), &slot, &position, &last};
  model.Forward(rows, {}, workspace, Tensor(nullptr, DType::kF32, {1, model.info().output_size()}));
  Workspace scratch(*backend.Allocate(workspace.peak_bytes()));
  const Buffer state = *backend.Allocate(model.state_layout().bytes());
  std::vector<float> logits(static_cast<size_t>(model.info().output_size()));
  for (; position < token_count; position += 64) {
    for (int i = 0; i < 64; ++i) {
      tokens[static_cast<size_t>(i)] =
          static_cast<int32_t>((position + i) * 7919 % vocabulary_size);
    }
    scratch.Reset();
    model.Forward(backend.BeginStep(rows),
                  {static_cast<std::byte*>(state.data()), model.state_layout().bytes(), 0}, scratch,
                  Tensor(logits.data(), DType::kF32, {1, model.info().output_size()}));
    EXPECT_TRUE(backend.Synchronize().ok());
  }
  return logits;
}

class SyntheticModelTest : public testing::TestWithParam<const char*> {};

TEST_P(SyntheticModelTest, StaysFiniteAndSensibleOverALongRun) {
  const auto backend = MakeBackend({});
  const auto model = LoadModel(GetParam(), **backend, {});
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ((*model)->info().name, GetParam());
  EXPECT_TRUE((*model)->info().end_of_text_ids.empty());
  const std::vector<float> early = LogitsAfter(**model, **backend, 64);
  const std::vector<float> late = LogitsAfter(**model, **backend, 8192);
  for (const auto& logits : {early, late}) {
    EXPECT_TRUE(
        std::all_of(logits.begin(), logits.end(), [](float l) { return std::isfinite(l); }));
    EXPECT_GT(Variance(logits), 0.3);
    EXPECT_LT(Variance(logits), 100.0);
  }
  EXPECT_NE(early, late);
  // Made again they are the same.
  const auto again = LoadModel(GetParam(), **backend, {});
  EXPECT_EQ(early, LogitsAfter(**again, **backend, 64));
}

INSTANTIATE_TEST_SUITE_P(Small, SyntheticModelTest,
                         testing::Values("synthetic:mnist", "synthetic:cifar10"));

}  // namespace
}  // namespace eddy
