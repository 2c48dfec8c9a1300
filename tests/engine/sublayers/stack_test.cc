// SPDX-License-Identifier: Apache-2.0
// The residual stream of a Stack, with sublayers whose sums can be done by hand.
#include "engine/sublayers/stack.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "engine/safetensors.h"
#include "tests/support/model_files.h"

namespace eddy {
namespace {

using testing::ElementsAre;

constexpr int64_t kWidth = 2;

// change = factor * normal, and counts the tokens of each slot in the state; leaves its input for
// those above in `shared` if it is the lowest.
class Scaled : public Sublayer {
 public:
  Scaled(float factor, StatePart count, bool lowest)
      : factor_(factor), count_(count), lowest_(lowest) {}

  void Run(const Step& step) const override {
    const Tensor scratch = step.Take(kWidth);
    if (step.workspace.measuring()) return;
    EXPECT_TRUE(scratch.present());
    const int64_t numbers = step.rows.token_count * kWidth;
    for (int64_t i = 0; i < numbers; ++i) {
      const float x = step.normal.f32()[i];
      if (lowest_) step.shared.f32()[i] = x;
      EXPECT_EQ(step.shared.f32()[i] == x, lowest_ || x == step.shared.f32()[i]);
      step.change.f32()[i] = factor_ * x;
    }
    const StateRef state = count_.In(step.pool);
    for (int32_t r = 0; r < step.rows.row_count; ++r) {
      auto* count = reinterpret_cast<float*>(state.base + step.rows.slot[r] * state.slot_bytes +
                                             state.offset_bytes);
      *count += static_cast<float>(step.rows.token_begin[r + 1] - step.rows.token_begin[r]);
    }
  }

 private:
  const float factor_;
  const StatePart count_;
  const bool lowest_;
};

class StackTest : public testing::Test {
 protected:
  StackTest() {
    BackendOptions options;
    options.backend = "cpu";
    options.cpu_target = "v2";
    options.numeric_path = "fma";
    options.thread_count = 1;
    backend_ = *MakeBackend(options);
    const TestFolder folder;
    WriteBytes(folder / "model.safetensors",
               SafetensorsBytes({{"table", {{3, kWidth}, {1, 0, 0, 2, 3, 4}}},
                                 {"head", {{1, kWidth}, {1, 10}}},
                                 {"two", {{kWidth}, {2, 2}}}}));
    file_ = std::make_unique<Safetensors>(*Safetensors::Open(folder / "model.safetensors"));
    weights_ = std::make_unique<Weights>(*file_, *backend_, DType::kF32);
  }

  // x <- x + 2 norm(x), x <- x + 3 norm(x), each norm a multiplication by 2 of x / |x|.
  StackParts Parts() {
    StackParts parts;
    parts.hidden_size = parts.shared_size = kWidth;
    parts.embedding = weights_->ReadTable("table", {3, kWidth});
    const Tensor two = weights_->ReadVector("two", {kWidth});
    parts.head = weights_->ReadMatrix("head", {1, kWidth});
    const NormOptions unit = {NormKind::kL2, 0.0f};
    parts.final_norm = {unit, Tensor(), Tensor()};
    for (const float factor : {2.0f, 3.0f}) {
      const StatePart count = parts.AddVectors("count", {1});
      parts.parts.push_back(
          {{unit, two, Tensor()}, std::make_unique<Scaled>(factor, count, factor == 2.0f)});
    }
    return parts;
  }

  std::vector<float> Logits(Model& model, const std::vector<int32_t>& tokens,
                            const std::vector<int32_t>& logits_token) {
    const int32_t token_begin[] = {0, static_cast<int32_t>(tokens.size())};
    const int32_t slot[] = {1};
    const int64_t position[] = {0};
    Rows rows;
    rows.row_count = 1;
    rows.token_count = token_begin[1];
    rows.logits_count = static_cast<int32_t>(logits_token.size());
    rows.tokens = tokens.data();
    rows.token_begin = token_begin;
    rows.slot = slot;
    rows.position = position;
    rows.logits_token = logits_token.data();
    Workspace measuring;
    model.Forward(rows, {}, measuring, {});
    Workspace workspace(*backend_->Allocate(measuring.peak_bytes()));
    pool_ = *backend_->Allocate(2 * model.state_layout().bytes());
    std::vector<float> logits(logits_token.size());
    model.Forward(backend_->BeginStep(rows),
                  {static_cast<std::byte*>(pool_.data()), model.state_layout().bytes(), 0},
                  workspace, Tensor(logits.data(), DType::kF32, {rows.logits_count, 1}));
    EXPECT_TRUE(backend_->Synchronize().ok());
    return logits;
  }

  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Safetensors> file_;
  std::unique_ptr<Weights> weights_;
  Buffer pool_;
};

TEST_F(StackTest, SublayersAddToTheStream) {
  const auto model = MakeStack(Parts(), *weights_, *backend_);
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ((*model)->info().parameter_count, 3 * 2 + 2 + 2);
  // Along one axis every norm is 2: x = 1 + 4 + 6; along a diagonal it is the same direction.
  const std::vector<float> logits = Logits(**model, {0, 1, 2}, {0, 1, 2});
  EXPECT_FLOAT_EQ(logits[0], 1.0f);
  EXPECT_FLOAT_EQ(logits[1], 10.0f);
  EXPECT_FLOAT_EQ(logits[2], 0.6f + 8.0f);
  const auto* counts = static_cast<const float*>(pool_.data());
  const int64_t slot_numbers = (*model)->state_layout().bytes() / 4;
  EXPECT_EQ(counts[0], 0.0f);
  EXPECT_EQ(counts[slot_numbers], 3.0f);
}

TEST_F(StackTest, OnlyTheWantedTokensArePredicted) {
  const auto model = MakeStack(Parts(), *weights_, *backend_);
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_THAT(Logits(**model, {0, 1, 2}, {1}), ElementsAre(testing::FloatEq(10.0f)));
  EXPECT_TRUE(Logits(**model, {0, 1}, {}).empty());
}

TEST_F(StackTest, TheFirstNormIsOfTheEmbedding) {
  StackParts parts = Parts();
  parts.first_norm = Norm{{NormKind::kL2, 0.0f}, Tensor(), Tensor()};
  parts.parts.clear();
  parts.parts.push_back({{{NormKind::kL2, 0.0f}, Tensor(), Tensor()},
                         std::make_unique<Scaled>(0.0f, parts.AddVectors("count", {1}), true)});
  parts.final_norm = {{NormKind::kSum, 0.0f}, Tensor(), Tensor()};
  const auto model = MakeStack(std::move(parts), *weights_, *backend_);
  ASSERT_TRUE(model.ok()) << model.status();
  // (3, 4) / 5, divided by its sum.
  EXPECT_FLOAT_EQ(Logits(**model, {2}, {0})[0], 3.0f / 7.0f + 10.0f * 4.0f / 7.0f);
}

TEST_F(StackTest, WhatTheWeightsSayIsPassedOn) {
  StackParts parts = Parts();
  weights_->ReadVector("three", {kWidth});
  const auto model = MakeStack(std::move(parts), *weights_, *backend_);
  EXPECT_EQ(model.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(model.status().message()), testing::HasSubstr("three is missing"));
}

}  // namespace
}  // namespace eddy
