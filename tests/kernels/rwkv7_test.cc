// SPDX-License-Identifier: Apache-2.0
// Tests kernels/cpu/rwkv7.cc.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <tuple>
#include <vector>

#include "kernels/backend.h"
#include "tests/kernels/kernel_fixture.h"

namespace eddy {
namespace {

using Floats = std::vector<float>;
using Doubles = std::vector<double>;

double Sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }

constexpr int64_t kTokens = 17;
constexpr int64_t kHeads = 3;

// The size of a head.
class Rwkv7OpsTest : public ::testing::TestWithParam<std::tuple<std::string, int64_t>> {
 protected:
  void SetUp() override {
    size_ = std::get<1>(GetParam());
    Numbers numbers(static_cast<uint32_t>(size_));
    const int64_t count = kTokens * kHeads * size_;
    for (Floats* values : {&decay_, &rate_, &k_, &v_, &mix_, &first_v_, &y_, &r_, &gate_}) {
      *values = numbers.Normal(count, 2.0f);
    }
    for (Floats* values : {&key_scale_, &rate_scale_, &bonus_, &norm_weight_, &norm_bias_}) {
      *values = numbers.Normal(kHeads * size_);
    }
    // One head of one token whose key is zero: its kappa is zero, not NaN.
    for (int64_t i = 0; i < size_; ++i) k_[static_cast<size_t>(i)] = 0.0f;
  }

  Tensor Part(Floats& values, int64_t begin, const Shape& shape) {
    return Tensor(values.data() + begin * kHeads * size_, DType::kF32, shape);
  }
  Tensor Scale(Floats& values) { return View(values, {kHeads, size_}); }

  // decay, rate, k, v and removal of the tokens [begin, end), one after another.
  Floats Prepare(Backend& backend, int64_t begin, int64_t end, bool mixes) {
    const Shape shape = {end - begin, kHeads * size_};
    const auto copy = [&](const Floats& values) {
      return Floats(values.begin() + begin * kHeads * size_, values.begin() + end * kHeads * size_);
    };
    Floats decay = copy(decay_), rate = copy(rate_), k = copy(k_), v = copy(v_);
    Floats removal(k.size(), NAN);
    Rwkv7Projections inputs = {View(decay, shape), View(rate, shape), View(k, shape),
                               View(v, shape)};
    if (mixes) {
      inputs.value_mix = Part(mix_, begin, shape);
      inputs.first_v = Part(first_v_, begin, shape);
    }
    inputs.key_scale = Scale(key_scale_);
    inputs.rate_scale = Scale(rate_scale_);
    backend.Rwkv7Prepare(inputs, View(removal, shape));
    Floats all;
    for (const Floats* part : {&decay, &rate, &k, &v, &removal}) {
      all.insert(all.end(), part->begin(), part->end());
    }
    return all;
  }

  Doubles WantPrepared(bool mixes) const {
    const auto count = static_cast<size_t>(kTokens * kHeads * size_);
    const auto size = static_cast<size_t>(size_);
    Doubles want(5 * count);
    for (size_t i = 0; i < count; ++i) {
      const size_t head = i / size % kHeads * size, lane = i % size, first = i - lane;
      double square = 0.0;
      for (size_t j = 0; j < size; ++j) {
        square += std::pow(double{k_[first + j]} * key_scale_[head + j], 2);
      }
      const double kappa =
          double{k_[i]} * key_scale_[head + lane] / std::max(std::sqrt(square), 1e-12);
      const double a = Sigmoid(rate_[i]);
      want[i] = std::exp(-std::exp(-0.5) * Sigmoid(decay_[i]));
      want[count + i] = kappa * a;
      want[2 * count + i] = k_[i] * (1.0 + (a - 1.0) * rate_scale_[head + lane]);
      want[3 * count + i] =
          v_[i] + (mixes ? (double{first_v_[i]} - v_[i]) * Sigmoid(mix_[i]) : 0.0);
      want[4 * count + i] = -kappa;
    }
    return want;
  }

  Floats Finish(Backend& backend, int64_t begin, int64_t end) {
    const Shape shape = {end - begin, kHeads, size_};
    Floats out(static_cast<size_t>(shape.element_count()), NAN);
    backend.Rwkv7Finish({Part(y_, begin, shape), Part(r_, begin, shape), Part(k_, begin, shape),
                         Part(v_, begin, shape), Part(gate_, begin, shape), Scale(bonus_),
                         Scale(norm_weight_), Scale(norm_bias_)},
                        kEps, View(out, shape));
    return out;
  }

  Doubles WantFinished() const {
    const auto size = static_cast<size_t>(size_);
    Doubles want(y_.size());
    for (size_t first = 0; first < want.size(); first += size) {
      const size_t head = first / size % kHeads * size;
      double mean = 0.0, variance = 0.0, bonus = 0.0;
      for (size_t j = 0; j < size; ++j) {
        mean += y_[first + j] / static_cast<double>(size);
        bonus += double{r_[first + j]} * k_[first + j] * bonus_[head + j];
      }
      for (size_t j = 0; j < size; ++j) {
        variance += std::pow(y_[first + j] - mean, 2) / static_cast<double>(size);
      }
      for (size_t j = 0; j < size; ++j) {
        const double normal = (y_[first + j] - mean) / std::sqrt(variance + kEps);
        const double read = normal * norm_weight_[head + j] + norm_bias_[head + j];
        want[first + j] = (read + bonus * v_[first + j]) * gate_[first + j];
      }
    }
    return want;
  }

  static constexpr float kEps = 64e-5f;
  int64_t size_ = 0;
  Floats decay_, rate_, k_, v_, mix_, first_v_, y_, r_, gate_;
  Floats key_scale_, rate_scale_, bonus_, norm_weight_, norm_bias_;
};

TEST_P(Rwkv7OpsTest, PrepareEqualsTheReference) {
  const auto backend = BackendOf(std::get<0>(GetParam()));
  for (const bool mixes : {false, true}) {
    EXPECT_TRUE(Near(Prepare(*backend, 0, kTokens, mixes), WantPrepared(mixes), 1e-6));
  }
}

TEST_P(Rwkv7OpsTest, FinishEqualsTheReference) {
  const auto backend = BackendOf(std::get<0>(GetParam()));
  // Terms of up to some hundreds cancel.
  EXPECT_TRUE(Near(Finish(*backend, 0, kTokens), WantFinished(), 5e-5));
}

TEST_P(Rwkv7OpsTest, FinishMayWriteOverItsInput) {
  const auto backend = BackendOf(std::get<0>(GetParam()));
  const Floats want = Finish(*backend, 0, kTokens);
  const Shape shape = {kTokens, kHeads, size_};
  backend->Rwkv7Finish({View(y_, shape), View(r_, shape), View(k_, shape), View(v_, shape),
                        View(gate_, shape), Scale(bonus_), Scale(norm_weight_), Scale(norm_bias_)},
                       kEps, View(y_, shape));
  EXPECT_TRUE(SameBits(y_, want));
}

TEST_P(Rwkv7OpsTest, EveryTargetThreadCountAndTokenCountGivesTheSameBits) {
  const auto v2 = BackendOf("v2");
  const Floats prepared = Prepare(*v2, 0, kTokens, true), finished = Finish(*v2, 0, kTokens);
  for (const int threads : {1, 3}) {
    const auto backend = BackendOf(std::get<0>(GetParam()), threads);
    EXPECT_TRUE(SameBits(Prepare(*backend, 0, kTokens, true), prepared)) << threads;
    EXPECT_TRUE(SameBits(Finish(*backend, 0, kTokens), finished)) << threads;
    const int64_t count = kTokens * kHeads * size_, token_size = kHeads * size_;
    Floats prepared_apart(prepared.size()), finished_apart(finished.size());
    for (int64_t t = 0; t < kTokens; ++t) {
      const Floats part = Prepare(*backend, t, t + 1, true);
      for (int64_t i = 0; i < 5; ++i) {
        std::copy(part.begin() + i * token_size, part.begin() + (i + 1) * token_size,
                  prepared_apart.begin() + i * count + t * token_size);
      }
      const Floats one = Finish(*backend, t, t + 1);
      std::copy(one.begin(), one.end(), finished_apart.begin() + t * token_size);
    }
    EXPECT_TRUE(SameBits(prepared_apart, prepared)) << threads;
    EXPECT_TRUE(SameBits(finished_apart, finished)) << threads;
  }
}

INSTANTIATE_TEST_SUITE_P(Cpu, Rwkv7OpsTest,
                         ::testing::Combine(::testing::ValuesIn(MachineTargets()),
                                            ::testing::Values(1, 20, 64, 96)),
                         [](const auto& test) {
                           return std::get<0>(test.param) + "_" +
                                  std::to_string(std::get<1>(test.param));
                         });

}  // namespace
}  // namespace eddy
