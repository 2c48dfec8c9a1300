// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <iterator>
#include <string>
#include <tuple>
#include <vector>

#include "kernels/backend.h"
#include "tests/kernels/kernel_fixture.h"
#include "tests/kernels/reference.h"

namespace eddy {
namespace {

constexpr float kEps = 1e-5f;
constexpr int64_t kRowCount = 37;

class LayerNormTest : public ::testing::TestWithParam<std::tuple<std::string, int64_t>> {
 protected:
  void SetUp() override {
    size_ = std::get<1>(GetParam());
    Numbers numbers(static_cast<uint32_t>(size_));
    x_ = numbers.Normal(kRowCount * size_, 3.0f);
    residual_ = numbers.Normal(kRowCount * size_);
    weight_ = numbers.Normal(size_);
    bias_ = numbers.Normal(size_);
  }

  // `out` may be x or residual, given by pointer.
  void Run(Backend& backend, std::vector<float>& x, std::vector<float>* residual,
           std::vector<float>& out) {
    const Shape shape = {static_cast<int64_t>(x.size()) / size_, size_};
    backend.LayerNorm(View(x, shape), residual == nullptr ? Tensor() : View(*residual, shape),
                      View(weight_, {size_}), View(bias_, {size_}), kEps, View(out, shape));
  }

  std::vector<double> Want(const std::vector<float>& residual) {
    const reference::Norm norm = {{NormKind::kLayer, kEps}, x_, residual, weight_, bias_, {}};
    return norm.Out(static_cast<size_t>(size_));
  }

  int64_t size_ = 0;
  std::vector<float> x_, residual_, weight_, bias_;
};

TEST_P(LayerNormTest, EqualsTheReference) {
  const auto backend = BackendOf(std::get<0>(GetParam()));
  std::vector<float> out(x_.size(), NAN);
  // One element has no variance: what is left of rounding is multiplied by 1 / sqrt(eps).
  const double tolerance = 5e-6;
  Run(*backend, x_, nullptr, out);
  EXPECT_TRUE(Near(out, Want({}), tolerance));
  Run(*backend, x_, &residual_, out);
  EXPECT_TRUE(Near(out, Want(residual_), tolerance));
}

TEST_P(LayerNormTest, MayWriteOverItsInputs) {
  const auto backend = BackendOf(std::get<0>(GetParam()));
  std::vector<float> want(x_.size());
  Run(*backend, x_, &residual_, want);
  std::vector<float> x = x_;
  Run(*backend, x, &residual_, x);
  EXPECT_TRUE(SameBits(x, want));
  std::vector<float> residual = residual_;
  Run(*backend, x_, &residual, residual);
  EXPECT_TRUE(SameBits(residual, want));
  Run(*backend, x_, nullptr, want);
  x = x_;
  Run(*backend, x, nullptr, x);
  EXPECT_TRUE(SameBits(x, want));
}

TEST_P(LayerNormTest, EveryTargetThreadCountAndRowCountGivesTheSameBits) {
  std::vector<float> want(x_.size());
  Run(*BackendOf("v2"), x_, &residual_, want);
  for (const int threads : {1, 2, 3}) {
    const auto backend = BackendOf(std::get<0>(GetParam()), threads);
    std::vector<float> out(x_.size());
    Run(*backend, x_, &residual_, out);
    EXPECT_TRUE(SameBits(out, want)) << threads << " threads";
    std::vector<float> one_by_one;
    for (int64_t row = 0; row < kRowCount; ++row) {
      std::vector<float> x(x_.begin() + row * size_, x_.begin() + (row + 1) * size_);
      std::vector<float> r(residual_.begin() + row * size_, residual_.begin() + (row + 1) * size_);
      Run(*backend, x, &r, x);
      one_by_one.insert(one_by_one.end(), x.begin(), x.end());
    }
    EXPECT_TRUE(SameBits(one_by_one, want)) << threads << " threads";
  }
}

INSTANTIATE_TEST_SUITE_P(Cpu, LayerNormTest,
                         ::testing::Combine(::testing::ValuesIn(MachineTargets()),
                                            ::testing::Values(1, 2, 15, 17, 192, 768, 1000)),
                         [](const auto& test) {
                           return std::get<0>(test.param) + "_" +
                                  std::to_string(std::get<1>(test.param));
                         });

// ---- the other kinds, and what they can be given ----

// [T, G, N]; weights are absent, shared by the groups or each group's own.
struct NormCase {
  NormKind kind = NormKind::kRms;
  int64_t size = 0;
  int64_t group_count = 1;
  bool residual = false;
  bool weight = false;
  bool own_weights = false;
  bool bias = false;
  bool gate = false;
  Activation gate_activation = Activation::kSilu;
  bool gate_first = false;
};

const NormCase kNormCases[] = {
    {NormKind::kRms, 77, 1, false, true},
    {NormKind::kRms, 768, 1, true, true},
    {NormKind::kRms, 64, 3, false, true, false, false, true, Activation::kSilu},
    {NormKind::kRms, 40, 3, false, true, false, false, true, Activation::kSigmoid},
    {NormKind::kRms, 5, 2, true, false},
    {NormKind::kRms, 96, 1, false, true, false, false, true, Activation::kSilu, true},
    {NormKind::kRms, 37, 3, true, true, true, false, true, Activation::kSilu, true},
    {NormKind::kLayer, 20, 2, false, true, true, true, true, Activation::kSigmoid, true},
    {NormKind::kL2, 64, 4, false, false},
    {NormKind::kL2, 19, 2, true, false},
    {NormKind::kSum, 64, 4, false, false},
    {NormKind::kSum, 19, 2, true, true},
    {NormKind::kLayer, 64, 12, false, true, true, true},
    {NormKind::kLayer, 20, 2, true, true, true, true, true},
    {NormKind::kLayer, 48, 1, true, true, false, false},
    {NormKind::kLayer, 16, 1, false, false, false, true},
};

class NormaliseTest : public ::testing::TestWithParam<std::tuple<std::string, size_t>> {
 protected:
  static constexpr int64_t kTokens = 23;

  void SetUp() override {
    case_ = kNormCases[std::get<1>(GetParam())];
    const int64_t count = kTokens * case_.group_count * case_.size;
    const int64_t weights = case_.size * (case_.own_weights ? case_.group_count : 1);
    Numbers numbers(static_cast<uint32_t>(std::get<1>(GetParam()) + 1));
    norm_.options = {case_.kind, kEps, case_.gate_activation, case_.gate_first};
    norm_.x = numbers.Normal(count, 3.0f);
    if (case_.kind == NormKind::kSum) {  // no sum near zero
      for (float& x : norm_.x) x = std::abs(x);
    }
    if (case_.residual) norm_.residual = numbers.Normal(count);
    if (case_.weight) norm_.weight = numbers.Normal(weights);
    if (case_.bias) norm_.bias = numbers.Normal(weights);
    if (case_.gate) norm_.gate = numbers.Normal(count, 2.0f);
  }

  // The tokens [begin, end).
  std::vector<float> Run(Backend& backend, int64_t begin, int64_t end,
                         std::vector<float>* sum = nullptr) {
    const int64_t token_size = case_.group_count * case_.size;
    const Shape shape = {end - begin, case_.group_count, case_.size};
    const auto part = [&](std::vector<float>& values) {
      return values.empty() ? Tensor()
                            : Tensor(values.data() + begin * token_size, DType::kF32, shape);
    };
    const Shape weight_shape =
        case_.own_weights ? Shape{case_.group_count, case_.size} : Shape{case_.size};
    NormInputs inputs = {part(norm_.x), part(norm_.residual)};
    if (case_.weight) inputs.weight = View(norm_.weight, weight_shape);
    if (case_.bias) inputs.bias = View(norm_.bias, weight_shape);
    inputs.gate = part(norm_.gate);
    std::vector<float> out(static_cast<size_t>((end - begin) * token_size), NAN);
    if (sum != nullptr) sum->assign(out.size(), NAN);
    backend.Normalise(norm_.options, inputs, sum == nullptr ? Tensor() : View(*sum, shape),
                      View(out, shape));
    return out;
  }

  NormCase case_;
  reference::Norm norm_;
};

TEST_P(NormaliseTest, EqualsTheReference) {
  const auto backend = BackendOf(std::get<0>(GetParam()));
  EXPECT_TRUE(Near(Run(*backend, 0, kTokens), norm_.Out(static_cast<size_t>(case_.size)), 5e-6));
}

TEST_P(NormaliseTest, MayWriteOverItsGate) {
  if (!case_.gate || (case_.residual && !case_.gate_first)) return;  // the rest may not
  const auto backend = BackendOf(std::get<0>(GetParam()));
  const std::vector<float> want = Run(*backend, 0, kTokens);
  const Shape shape = {kTokens, case_.group_count, case_.size};
  NormInputs inputs = {View(norm_.x, shape)};
  inputs.residual = norm_.residual.empty() ? Tensor() : View(norm_.residual, shape);
  const Shape own = {case_.group_count, case_.size};
  const Shape weight_shape = case_.own_weights ? own : Shape{case_.size};
  inputs.weight = View(norm_.weight, weight_shape);
  if (case_.bias) inputs.bias = View(norm_.bias, weight_shape);
  inputs.gate = View(norm_.gate, shape);
  backend->Normalise(norm_.options, inputs, Tensor(), inputs.gate);
  EXPECT_TRUE(SameBits(norm_.gate, want));
}

TEST_P(NormaliseTest, KeepsTheSum) {
  if (case_.gate_first) return;  // which has none
  const auto backend = BackendOf(std::get<0>(GetParam()));
  std::vector<float> sum;
  EXPECT_TRUE(SameBits(Run(*backend, 0, kTokens, &sum), Run(*backend, 0, kTokens)));
  std::vector<float> want = norm_.x;
  for (size_t i = 0; i < norm_.residual.size(); ++i) want[i] += norm_.residual[i];
  EXPECT_TRUE(SameBits(sum, want));
}

TEST_P(NormaliseTest, EveryTargetThreadCountAndRowCountGivesTheSameBits) {
  const std::vector<float> want = Run(*BackendOf("v2"), 0, kTokens);
  for (const int threads : {1, 3}) {
    const auto backend = BackendOf(std::get<0>(GetParam()), threads);
    EXPECT_TRUE(SameBits(Run(*backend, 0, kTokens), want)) << threads << " threads";
    std::vector<float> one_by_one;
    for (int64_t token = 0; token < kTokens; ++token) {
      const std::vector<float> part = Run(*backend, token, token + 1);
      one_by_one.insert(one_by_one.end(), part.begin(), part.end());
    }
    EXPECT_TRUE(SameBits(one_by_one, want)) << threads << " threads";
  }
}

INSTANTIATE_TEST_SUITE_P(Cpu, NormaliseTest,
                         ::testing::Combine(::testing::ValuesIn(MachineTargets()),
                                            ::testing::Range(size_t{0}, std::size(kNormCases))),
                         [](const auto& test) {
                           return std::get<0>(test.param) + "_" +
                                  std::to_string(std::get<1>(test.param));
                         });

}  // namespace
}  // namespace eddy
