// SPDX-License-Identifier: Apache-2.0
#include "kernels/backend.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/kernels/kernel_fixture.h"

namespace eddy {
namespace {

absl::Status Refusal(const BackendOptions& options) { return MakeBackend(options).status(); }

TEST(MakeBackendTest, AutoSaysWhatItChose) {
  auto backend = MakeBackend(BackendOptions());
  ASSERT_TRUE(backend.ok()) << backend.status();
  const BackendInfo& info = (*backend)->info();
  EXPECT_EQ(info.name, "cpu");
  EXPECT_EQ(info.target, MachineTargets().back());
  EXPECT_EQ(info.numeric_path, info.target == "v4dot" ? "bf16dot" : "fma");
  EXPECT_GE(info.thread_count, 1);
}

TEST(MakeBackendTest, RefusesNamesThatDoNotExist) {
  BackendOptions options;
  options.backend = "tpu";
  EXPECT_EQ(Refusal(options).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Refusal(options).message(), "backend is \"tpu\"; it must be one of auto, cpu");
  options = BackendOptions();
  options.cpu_target = "avx2";
  EXPECT_EQ(Refusal(options).code(), absl::StatusCode::kInvalidArgument);
  options = BackendOptions();
  options.numeric_path = "int4dot";
  EXPECT_EQ(Refusal(options).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Refusal(options).message(),
            "numeric_path is \"int4dot\"; it must be one of auto, fma, bf16dot, int8dot");
}

TEST(MakeBackendTest, ADotProductsPathNeedsItsTarget) {
  for (const char* path : {"bf16dot", "int8dot"}) {
    BackendOptions options;
    options.cpu_target = "v2";
    options.numeric_path = path;
    EXPECT_EQ(Refusal(options).code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_NE(Refusal(options).message().find("needs cpu_target v4dot"), std::string::npos);
  }
}

TEST(MakeBackendTest, RefusesThreadCountsOutOfRange) {
  for (const int thread_count : {-1, 1025}) {
    BackendOptions options;
    options.thread_count = thread_count;
    EXPECT_EQ(Refusal(options).code(), absl::StatusCode::kInvalidArgument);
    EXPECT_NE(Refusal(options).message().find(std::to_string(thread_count)), std::string::npos);
  }
}

TEST(BufferTest, IsZeroedAlignedAndMovable) {
  const auto backend = BackendOf("auto");
  for (const int64_t bytes : {int64_t{0}, int64_t{1}, int64_t{100}, int64_t{5} << 20}) {
    auto made = backend->Allocate(bytes);
    ASSERT_TRUE(made.ok()) << made.status();
    Buffer buffer = *std::move(made);
    EXPECT_EQ(buffer.bytes(), bytes);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer.data()) % 64, 0u);
    const auto* data = static_cast<const uint8_t*>(buffer.data());
    EXPECT_EQ(std::count(data, data + bytes, 0), bytes);
    Buffer moved = std::move(buffer);
    EXPECT_EQ(moved.data(), data);
    EXPECT_EQ(buffer.data(), nullptr);  // NOLINT: what a moved-from buffer is, is its contract
    moved = Buffer();
    EXPECT_EQ(moved.data(), nullptr);
  }
}

TEST(BufferTest, MoreThanTheMachineHasIsRefused) {
  const auto buffer = BackendOf("auto")->Allocate(int64_t{1} << 60);
  EXPECT_EQ(buffer.status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_NE(buffer.status().message().find(std::to_string(int64_t{1} << 60)), std::string::npos);
}

TEST(BackendTest, CopiesAndFills) {
  const auto backend = BackendOf("auto");
  Buffer a = *backend->Allocate(64);
  Buffer b = *backend->Allocate(64);
  const std::string text = "sixteen letters!";
  backend->CopyIn(text.data(), a.data(), 16);
  backend->CopyOnDevice(a.data(), b.data(), 16);
  backend->FillBytes(b.data(), 'x', 3);
  std::string back(16, ' ');
  backend->CopyOut(b.data(), back.data(), 16);
  EXPECT_TRUE(backend->Synchronize().ok());
  EXPECT_EQ(back, "xxxteen letters!");
}

TEST(BackendTest, BeginStepHandsTheRowsBack) {
  const auto backend = BackendOf("auto");
  RowsFixture batch({2, 1}, {5, 3});
  batch.logits_tokens() = {1, 2};
  const Rows& rows = backend->BeginStep(batch.rows());
  EXPECT_EQ(rows.row_count, 2);
  EXPECT_EQ(rows.token_count, 3);
  EXPECT_EQ(rows.token_begin[2], 3);
  EXPECT_EQ(rows.slot[1], 3);
  EXPECT_EQ(rows.logits_token[1], 2);
  EXPECT_EQ(backend->BeginStep(RowsFixture({}, {}).rows()).token_count, 0);
}

TEST(BackendTest, AMatrixPackedInPartsIsTheSame) {
  Numbers numbers(3);
  const int64_t out_size = 53, in_size = 70;
  std::vector<float> weight = numbers.Normal(out_size * in_size);
  const auto bytes_of = [](const Matrix& matrix) {
    return std::string(static_cast<const char*>(matrix.buffer.data()),
                       static_cast<size_t>(matrix.buffer.bytes()));
  };
  for (const int threads : {1, 2}) {
    const auto backend = BackendOf("auto", threads);
    for (const DType dtype : {DType::kF32, DType::kBF16, DType::kI8, DType::kI4}) {
      const Matrix whole = *backend->PackMatrix(View(weight, {out_size, in_size}), dtype);
      const Matrix parts = *backend->AllocateMatrix(out_size, in_size, dtype);
      EXPECT_EQ(parts.out_size, out_size);
      EXPECT_EQ(parts.in_size, in_size);
      const std::pair<int64_t, int64_t> rows[] = {{48, 5}, {0, 16}, {16, 32}};  // in any order
      for (const auto& [begin, count] : rows) {
        backend->PackRows(Tensor(weight.data() + begin * in_size, DType::kF32, {count, in_size}),
                          begin, parts);
      }
      EXPECT_EQ(bytes_of(parts), bytes_of(whole)) << DTypeName(dtype);
    }
  }
}

TEST(BackendDeathTest, PartsOfAMatrixAreWholePanels) {
  const auto backend = BackendOf("auto");
  std::vector<float> weight(64 * 3);
  const auto rows = [&](int64_t count, int64_t in_size) {
    return Tensor(weight.data(), DType::kF32, {count, in_size});
  };
  const Matrix matrix = *backend->AllocateMatrix(40, 3, DType::kF32);
  EXPECT_DEATH(backend->PackRows(rows(16, 3), 8, matrix), "16 rows from 8 of 40");
  EXPECT_DEATH(backend->PackRows(rows(8, 3), 16, matrix), "8 rows from 16 of 40");
  EXPECT_DEATH(backend->PackRows(rows(16, 3), 32, matrix), "16 rows from 32 of 40");
  EXPECT_DEATH(backend->PackRows(rows(16, 4), 0, matrix), "4 vs 3");
  const QuantisedMatrix quantised = {DType::kI8, 16, 3, nullptr, nullptr};
  EXPECT_DEATH(backend->PackQuantisedRows(quantised, 0, matrix), "f32");
}

TEST(BackendDeathTest, WrongRowsAbort) {
  const auto backend = BackendOf("auto");
  RowsFixture batch({2, 1}, {5, -1});
  EXPECT_DEATH(backend->BeginStep(batch.rows()), "slot -1");
  RowsFixture outside({2}, {0});
  outside.logits_tokens() = {2};
  EXPECT_DEATH(backend->BeginStep(outside.rows()), "check failed");
}

TEST(BackendDeathTest, WrongShapesAbortWithBoth) {
  const auto backend = BackendOf("auto");
  std::vector<float> weight(6);
  Matrix matrix = *backend->PackMatrix(View(weight, {2, 3}), DType::kF32);
  std::vector<float> x(8), out(4);
  EXPECT_DEATH(backend->MatMul(View(x, {2, 4}), matrix, Tensor(), View(out, {2, 2})),
               "x is f32 \\[2, 4\\], wanted f32 \\[2, 3\\]");
  RowsFixture batch({1}, {0});
  batch.tokens() = {9};
  EXPECT_DEATH(backend->Embed(batch.rows(), View(weight, {2, 3}), 0,
                              Tensor(out.data(), DType::kF32, {1, 3})),
               "9 of 2");
  SampleRow row;
  row.temperature = NAN;
  SampleResult result;
  EXPECT_DEATH(backend->Sample(View(out, {1, 4}), {&row, 1}, {&result, 1}), "nan");
}

}  // namespace
}  // namespace eddy
