// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
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

  int64_t size_ = 0;
  std::vector<float> x_, residual_, weight_, bias_;
};

TEST_P(LayerNormTest, EqualsTheReference) {
  const auto backend = BackendOf(std::get<0>(GetParam()));
  std::vector<float> out(x_.size(), NAN);
  // One element has no variance: what is left of rounding is multiplied by 1 / sqrt(eps).
  const double tolerance = 5e-6;
  Run(*backend, x_, nullptr, out);
  EXPECT_TRUE(Near(out, reference::LayerNorm(x_, {}, weight_, bias_, kEps), tolerance));
  Run(*backend, x_, &residual_, out);
  EXPECT_TRUE(Near(out, reference::LayerNorm(x_, residual_, weight_, bias_, kEps), tolerance));
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

}  // namespace
}  // namespace eddy
