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
  const char* path;
  double tolerance;  // against the numbers as stored: only the sums err, whatever the storage
};

constexpr WeightShape kShapes[] = {{1, 1},    {1, 7},     {16, 16},   {17, 33},   {65, 192},
                                   {31, 2},   {130, 5},   {192, 192}, {768, 192}, {192, 768},
                                   {65, 257}, {256, 256}, {33, 1100}};
constexpr Storage kStorages[] = {{DType::kF32, "fma", 3e-5},      {DType::kBF16, "fma", 3e-5},
                                 {DType::kI8, "fma", 3e-5},       {DType::kI4, "fma", 3e-5},
                                 {DType::kBF16, "bf16dot", 3e-5}, {DType::kI8, "int8dot", 3e-5}};

bool IsFma(const Storage& storage) { return std::string(storage.path) == "fma"; }

using Case = std::tuple<std::string, Storage, WeightShape>;
std::vector<Case> Cases() {
  std::vector<Case> cases;
  for (const std::string& target : MachineTargets()) {
    for (const Storage& storage : kStorages) {
      if (!IsFma(storage) && target != "v4dot") continue;
      for (const WeightShape& shape : kShapes) cases.emplace_back(target, storage, shape);
    }
  }
  return cases;
}

class MatMulTest : public ::testing::TestWithParam<Case> {
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
    Packed packed = {BackendOf(target, thread_count, storage_.path), {}};
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

  std::vector<float> StoredWeights() const {
    const auto out = static_cast<size_t>(shape_.out), in = static_cast<size_t>(shape_.in);
    if (storage_.dtype == DType::kI8) return reference::RoundToInt8(weight_, out, in);
    if (storage_.dtype == DType::kI4) return reference::RoundToInt4(weight_, out, in);
    std::vector<float> stored = weight_;
    if (storage_.dtype == DType::kBF16) {
      for (float& value : stored) value = reference::RoundToBf16(value);
    }
    return stored;
  }
  // The first rows of x as the products take them.
  std::vector<float> StoredInputs(int64_t rows) const {
    std::vector<float> x(x_.begin(), x_.begin() + rows * shape_.in);
    const auto in = static_cast<size_t>(shape_.in);
    if (storage_.dtype == DType::kI8 || storage_.dtype == DType::kI4) {
      return reference::RoundToIntegers(x, in, IsFma(storage_) ? 32767.0f : 127.0f);
    }
    if (!IsFma(storage_)) {
      for (float& value : x) value = reference::RoundToBf16(value);
    }
    return x;
  }

  static constexpr int64_t kRowsMax = 100;
  std::string target_;
  Storage storage_ = {};
  WeightShape shape_ = {};
  std::vector<float> weight_, bias_, x_;
};

TEST_P(MatMulTest, EqualsTheReference) {
  const std::vector<float> stored = StoredWeights();
  const Packed packed = Pack(target_);
  for (const int64_t rows : {1, 5, 19}) {
    for (const bool with_bias : {false, true}) {
      const std::vector<double> want =
          reference::MatMul(StoredInputs(rows), stored, with_bias ? bias_ : std::vector<float>(),
                            static_cast<size_t>(rows), static_cast<size_t>(shape_.out),
                            static_cast<size_t>(shape_.in));
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
    const std::vector<float> want = Run(Pack(IsFma(storage_) ? "v2" : target_), 0, rows, true);
    for (const int threads : {1, 2, 3}) {
      EXPECT_TRUE(SameBits(Run(Pack(target_, threads), 0, rows, true), want))
          << rows << " rows, " << threads << " threads";
    }
  }
}

std::string Name(const ::testing::TestParamInfo<MatMulTest::ParamType>& test) {
  const auto& [target, storage, shape] = test.param;
  return target + "_" + DTypeName(storage.dtype) + "_" + storage.path + "_" +
         std::to_string(shape.out) + "x" + std::to_string(shape.in);
}

INSTANTIATE_TEST_SUITE_P(Cpu, MatMulTest, ::testing::ValuesIn(Cases()), Name);

TEST(MatMulGroupTest, HasTheBitsOfItsProductsAlone) {
  Numbers numbers(7);
  std::vector<float> x = numbers.Normal(9 * 70), other_x = numbers.Normal(9 * 33);
  std::vector<float> w[3] = {numbers.Normal(40 * 70), numbers.Normal(17 * 70),
                             numbers.Normal(90 * 33)};
  const Shape shapes[3] = {{40, 70}, {17, 70}, {90, 33}};
  std::vector<float> bias = numbers.Normal(17);
  for (const std::string& target : MachineTargets()) {
    for (const DType dtype : {DType::kF32, DType::kBF16, DType::kI8, DType::kI4}) {
      const auto backend = BackendOf(target, 2);
      std::vector<Matrix> matrices;
      for (size_t i = 0; i < 3; ++i) {
        matrices.push_back(*backend->PackMatrix(View(w[i], shapes[i]), dtype));
      }
      std::vector<float> out[3], alone[3];
      std::vector<Product> products;
      for (size_t i = 0; i < 3; ++i) {
        const int64_t size = shapes[i][0];
        out[i].resize(static_cast<size_t>(9 * size));
        alone[i].resize(out[i].size());
        products.push_back({i < 2 ? View(x, {9, 70}) : View(other_x, {9, 33}), &matrices[i],
                            i == 1 ? View(bias, {17}) : Tensor(), View(out[i], {9, size})});
        backend->MatMul(products[i].x, matrices[i], products[i].bias, View(alone[i], {9, size}));
      }
      backend->MatMulGroup(products);
      for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(SameBits(out[i], alone[i])) << target << i;
    }
  }
}

TEST(MatMulTest, ARowThatIsNotFiniteSpoilsItselfOnly) {
  Numbers numbers(8);
  std::vector<float> weight = numbers.Normal(20 * 30);
  std::vector<float> x = numbers.Normal(3 * 30);
  const auto backend = BackendOf("auto", 1, "auto");
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kI8, DType::kI4}) {
    const Matrix matrix = *backend->PackMatrix(View(weight, {20, 30}), dtype);
    std::vector<float> clean(3 * 20), out(3 * 20);
    backend->MatMul(View(x, {3, 30}), matrix, Tensor(), View(clean, {3, 20}));
    for (const float bad : {NAN, INFINITY, -INFINITY}) {
      std::vector<float> spoilt = x;
      spoilt[30 + 4] = spoilt[30 + 5] = bad;
      backend->MatMul(View(spoilt, {3, 30}), matrix, Tensor(), View(out, {3, 20}));
      for (size_t i = 0; i < 20; ++i) {
        EXPECT_EQ(out[i], clean[i]);
        EXPECT_FALSE(std::isfinite(out[20 + i])) << DTypeName(dtype);
        EXPECT_EQ(out[40 + i], clean[40 + i]);
      }
    }
  }
}

TEST(MatMulTest, AMixedInputIsWhatItsSumWouldBe) {
  Numbers numbers(9);
  std::vector<float> weight = numbers.Normal(20 * 45), x = numbers.Normal(5 * 45);
  std::vector<float> difference = numbers.Normal(5 * 45), mix = numbers.Uniform(45, 0.0f, 1.0f);
  std::vector<float> own_mixes = numbers.Uniform(5 * 45, 0.0f, 1.0f);  // each token's
  std::vector<float> mixed(x.size()), own_mixed(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    mixed[i] = std::fma(difference[i], mix[i % 45], x[i]);
    own_mixed[i] = std::fma(difference[i], own_mixes[i], x[i]);
  }
  for (const std::string& target : MachineTargets()) {
    const auto backend = BackendOf(target, 2, "auto");
    for (const DType dtype : {DType::kF32, DType::kBF16, DType::kI8, DType::kI4}) {
      const Matrix matrix = *backend->PackMatrix(View(weight, {20, 45}), dtype);
      std::vector<float> want(5 * 20), plain(5 * 20), out(5 * 20), own_want(5 * 20), own(5 * 20);
      backend->MatMul(View(mixed, {5, 45}), matrix, Tensor(), View(want, {5, 20}));
      backend->MatMul(View(own_mixed, {5, 45}), matrix, Tensor(), View(own_want, {5, 20}));
      // Beside a product of the same x that is not mixed.
      const Product products[] = {{View(x, {5, 45}), &matrix, Tensor(), View(plain, {5, 20})},
                                  {View(x, {5, 45}), &matrix, Tensor(), View(out, {5, 20}),
                                   View(difference, {5, 45}), View(mix, {45})},
                                  {View(x, {5, 45}), &matrix, Tensor(), View(own, {5, 20}),
                                   View(difference, {5, 45}), View(own_mixes, {5, 45})}};
      backend->MatMulGroup(products);
      EXPECT_TRUE(SameBits(out, want)) << target << " " << DTypeName(dtype);
      EXPECT_TRUE(SameBits(own, own_want)) << target << " " << DTypeName(dtype);
      EXPECT_FALSE(SameBits(plain, want));
    }
  }
}

TEST(MatMulTest, ARowOfZerosGivesTheBias) {
  std::vector<float> weight(5 * 9, 2.0f), bias = {1, 2, 3, 4, 5}, x(9), out(5);
  const auto backend = BackendOf("auto", 1, "auto");
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kI8, DType::kI4}) {
    const Matrix matrix = *backend->PackMatrix(View(weight, {5, 9}), dtype);
    backend->MatMul(View(x, {1, 9}), matrix, View(bias, {5}), View(out, {1, 5}));
    EXPECT_EQ(out, bias);
  }
}

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
