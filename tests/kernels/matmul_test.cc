// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "kernels/backend.h"
#include "tests/kernels/kernel_fixture.h"
#include "tests/kernels/reference.h"

namespace eddy {
namespace {

struct WeightShape {
  int64_t out;
  int64_t in;
};
struct Storage {
  DType dtype;
  double tolerance;  // against the weights as stored: only the f32 sum errs, whatever the storage
};

constexpr WeightShape kShapes[] = {{1, 1},     {1, 7},     {16, 16},  {17, 33},
                                   {65, 192},  {31, 2},    {130, 5},  {192, 192},
                                   {768, 192}, {192, 768}, {65, 257}, {256, 256}};
constexpr Storage kStorages[] = {{DType::kF32, 3e-5}, {DType::kBF16, 3e-5}};

class MatMulTest : public ::testing::TestWithParam<std::tuple<std::string, Storage, WeightShape>> {
 protected:
  void SetUp() override {
    const auto& [target, storage, shape] = GetParam();
    target_ = target;
    storage_ = storage;
    shape_ = shape;
    Numbers numbers(static_cast<uint32_t>(shape.out * 1000 + shape.in));
    weight_ = numbers.Normal(shape.out * shape.in);
    bias_ = numbers.Normal(shape.out);
    x_ = numbers.Normal(kRowsMax * shape.in);
  }

  // A backend that has the weights.
  struct Packed {
    std::unique_ptr<Backend> backend;
    Matrix matrix;
  };
  Packed Pack(const std::string& target, int thread_count = 1) {
    Packed packed = {BackendOf(target, thread_count), {}};
    packed.matrix =
        *packed.backend->PackMatrix(View(weight_, {shape_.out, shape_.in}), storage_.dtype);
    return packed;
  }

  // Rows [begin, begin + count) of x.
  std::vector<float> Run(const Packed& packed, int64_t begin, int64_t count, bool with_bias) {
    std::vector<float> x(x_.begin() + begin * shape_.in, x_.begin() + (begin + count) * shape_.in);
    std::vector<float> out(static_cast<size_t>(count * shape_.out), NAN);
    packed.backend->MatMul(View(x, {count, shape_.in}), packed.matrix,
                           with_bias ? View(bias_, {shape_.out}) : Tensor(),
                           View(out, {count, shape_.out}));
    return out;
  }

  static constexpr int64_t kRowsMax = 100;
  std::string target_;
  Storage storage_ = {};
  WeightShape shape_ = {};
  std::vector<float> weight_, bias_, x_;
};

TEST_P(MatMulTest, EqualsTheReference) {
  std::vector<float> stored = weight_;
  if (storage_.dtype == DType::kBF16) {
    for (float& value : stored) value = reference::RoundToBf16(value);
  }
  const Packed packed = Pack(target_);
  for (const int64_t rows : {1, 5, 19}) {
    for (const bool with_bias : {false, true}) {
      const std::vector<float> x(x_.begin(), x_.begin() + rows * shape_.in);
      const std::vector<double> want = reference::MatMul(
          x, stored, with_bias ? bias_ : std::vector<float>(), static_cast<size_t>(rows),
          static_cast<size_t>(shape_.out), static_cast<size_t>(shape_.in));
      EXPECT_TRUE(Near(Run(packed, 0, rows, with_bias), want, storage_.tolerance))
          << rows << " rows";
    }
  }
}

TEST_P(MatMulTest, ARowAloneHasTheBitsItHasAmongOthers) {
  const Packed packed = Pack(target_);
  std::vector<float> alone;
  for (int64_t row = 0; row < kRowsMax; ++row) {
    const std::vector<float> y = Run(packed, row, 1, true);
    alone.insert(alone.end(), y.begin(), y.end());
  }
  for (const int64_t rows : {2, 3, 4, 5, 6, 7, 8, 9, 13, 16, 64, 97, 100}) {
    const std::vector<float> want(alone.begin(), alone.begin() + rows * shape_.out);
    EXPECT_TRUE(SameBits(Run(packed, 0, rows, true), want)) << rows << " rows";
  }
}

TEST_P(MatMulTest, EveryTargetAndThreadCountGivesTheSameBits) {
  for (const int64_t rows : {int64_t{1}, kRowsMax}) {
    const std::vector<float> want = Run(Pack("v2"), 0, rows, true);
    for (const int threads : {1, 2, 3}) {
      EXPECT_TRUE(SameBits(Run(Pack(target_, threads), 0, rows, true), want))
          << rows << " rows, " << threads << " threads";
    }
  }
}

std::string Name(const ::testing::TestParamInfo<MatMulTest::ParamType>& test) {
  const auto& [target, storage, shape] = test.param;
  return target + "_" + DTypeName(storage.dtype) + "_" + std::to_string(shape.out) + "x" +
         std::to_string(shape.in);
}

INSTANTIATE_TEST_SUITE_P(Cpu, MatMulTest,
                         ::testing::Combine(::testing::ValuesIn(MachineTargets()),
                                            ::testing::ValuesIn(kStorages),
                                            ::testing::ValuesIn(kShapes)),
                         Name);

TEST(PackMatrixTest, TakesWeightsStoredAsBf16) {
  const auto backend = BackendOf("auto");
  std::vector<uint16_t> weight = {0x3f80, 0xc000, 0x4040,
                                  0x3e80, 0x0000, 0x40a0};  // 1 -2 3 / .25 0 5
  std::vector<float> x = {1.0f, 10.0f, 100.0f};
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    auto matrix = backend->PackMatrix(View(weight, {2, 3}), dtype);
    ASSERT_TRUE(matrix.ok()) << matrix.status();
    std::vector<float> out(2);
    backend->MatMul(View(x, {1, 3}), *matrix, Tensor(), View(out, {1, 2}));
    EXPECT_EQ(out, (std::vector<float>{281.0f, 500.25f}));
  }
}

TEST(PackMatrixTest, RefusesOtherTypes) {
  const auto backend = BackendOf("auto");
  std::vector<float> weight(6);
  const auto matrix = backend->PackMatrix(View(weight, {2, 3}), DType::kI32);
  EXPECT_EQ(matrix.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(matrix.status().message().find("i32"), matrix.status().message().npos);
}

TEST(PackMatrixTest, PadsOutputsWithoutTouchingTheirNeighbours) {
  const auto backend = BackendOf("auto");
  std::vector<float> weight(17, 1.0f);
  auto matrix = backend->PackMatrix(View(weight, {17, 1}), DType::kBF16);
  ASSERT_TRUE(matrix.ok());
  std::vector<float> x = {3.0f};
  std::vector<float> out(18, -1.0f);
  backend->MatMul(View(x, {1, 1}), *matrix, Tensor(), Tensor(out.data(), DType::kF32, {1, 17}));
  EXPECT_EQ(std::vector<float>(out.begin(), out.begin() + 17), std::vector<float>(17, 3.0f));
  EXPECT_EQ(out[17], -1.0f);
}

}  // namespace
}  // namespace eddy
