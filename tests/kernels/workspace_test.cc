// SPDX-License-Identifier: Apache-2.0
#include "kernels/workspace.h"

#include <gtest/gtest.h>

#include "tests/kernels/kernel_fixture.h"

namespace eddy {
namespace {

TEST(WorkspaceTest, MeasuresThenServesTheSameCuts) {
  const auto cut = [](Workspace& workspace) {
    workspace.Reset();
    workspace.Take(DType::kF32, {3, 5});
    const int64_t mark = workspace.Mark();
    workspace.Take(DType::kBF16, {1});
    workspace.Release(mark);
    return workspace.Take(DType::kI64, {9});
  };
  Workspace measuring;
  EXPECT_TRUE(measuring.measuring());
  EXPECT_FALSE(cut(measuring).present());
  EXPECT_EQ(measuring.peak_bytes(), 64 + 128);

  const auto backend = BackendOf("auto");
  auto buffer = backend->Allocate(measuring.peak_bytes());
  ASSERT_TRUE(buffer.ok());
  auto* base = static_cast<std::byte*>(buffer->data());
  Workspace workspace(*std::move(buffer));
  for (int step = 0; step < 2; ++step) {
    const Tensor tensor = cut(workspace);
    EXPECT_EQ(static_cast<std::byte*>(tensor.data()), base + 64);
    EXPECT_EQ(tensor.shape(), (Shape{9}));
  }
}

TEST(WorkspaceDeathTest, AbortsWhenAStepOutgrowsTheDryRun) {
  const auto backend = BackendOf("auto");
  Workspace workspace(*backend->Allocate(64));
  workspace.Take(DType::kF32, {16});
  EXPECT_DEATH(workspace.Take(DType::kF32, {1}), "check failed");
}

TEST(TensorTest, ViewsShareTheirData) {
  std::vector<float> values(12);
  const Tensor tensor = View(values, {4, 3});
  EXPECT_EQ(tensor.First(2).shape(), (Shape{2, 3}));
  EXPECT_EQ(tensor.First(2).data(), values.data());
  EXPECT_EQ(tensor.As({2, 2, 3}).shape().ToString(), "[2, 2, 3]");
  EXPECT_EQ(tensor.bytes(), 48);
  EXPECT_FALSE(Tensor().present());
}

TEST(TensorDeathTest, WrongViewsAbort) {
  std::vector<float> values(12);
  const Tensor tensor = View(values, {4, 3});
  EXPECT_DEATH(tensor.First(5), "check failed");
  EXPECT_DEATH(tensor.As({5, 3}), "check failed");
  EXPECT_DEATH(Tensor(values.data(), DType::kI32, {12}).f32(), "i32");
}

}  // namespace
}  // namespace eddy
