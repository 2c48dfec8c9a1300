// SPDX-License-Identifier: Apache-2.0
// The ops between a mixer's projections and its recurrence.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "tests/kernels/kernel_fixture.h"
#include "tests/kernels/reference.h"

namespace eddy {
namespace {

using Floats = std::vector<float>;

constexpr int64_t kTokens = 41;

// Runs `op` on copies of `x` by the scalar target and by `target`, whole, in threads and token by
// token, and expects the same bits. op(backend, token_begin, token_count, x) works on those tokens
// of x, whose rows it finds itself. Returns x as the op left it.
Floats SameEverywhere(const std::string& target, const Floats& x,
                      const std::function<void(Backend&, int64_t, int64_t, Floats&)>& op) {
  Floats want = x;
  op(*BackendOf("v2"), 0, kTokens, want);
  for (const int threads : {1, 3}) {
    Floats got = x;
    op(*BackendOf(target, threads), 0, kTokens, got);
    EXPECT_TRUE(SameBits(got, want)) << threads << " threads";
  }
  Floats one_by_one = x;
  const auto backend = BackendOf(target);
  for (int64_t t = 0; t < kTokens; ++t) op(*backend, t, 1, one_by_one);
  EXPECT_TRUE(SameBits(one_by_one, want)) << "one by one";
  return want;
}

// Tokens [begin, begin + count) of numbers of the shape `row` each.
Tensor Tokens(Floats& x, int64_t begin, int64_t count, Shape row) {
  float* data = x.data() + begin * row.element_count();
  return row.rank() == 1 ? Tensor(data, DType::kF32, {count, row[0]})
                         : Tensor(data, DType::kF32, {count, row[0], row[1]});
}

class LinearPrepareTest : public ::testing::TestWithParam<std::string> {};

TEST_P(LinearPrepareTest, DecaysEqualTheReference) {
  const DecayOptions kOptions[] = {{DecayMap::kSoftplus, 1.0f},
                                   {DecayMap::kSoftplusOfMinus, 0.0625f},
                                   {DecayMap::kSoftplusOfMinus, 0.0625f, -0.1f},
                                   {DecayMap::kBounded, 5.0f}};
  for (const DecayOptions& options : kOptions) {
    for (const int64_t heads : {1, 6, 33}) {
      for (const int64_t key_size : {1, 7, 32}) {
        for (const bool has_vectors : {false, true}) {
          const int64_t size = heads * key_size;
          Numbers numbers(static_cast<uint32_t>(size));
          const Floats x = numbers.Uniform(kTokens * size, -30.0f, 30.0f);
          Floats rate = numbers.Uniform(heads, -6.0f, 3.0f), bias = numbers.Normal(size);
          const Shape row = key_size == 1 ? Shape{heads} : Shape{heads, key_size};
          const Floats got =
              SameEverywhere(GetParam(), x, [&](Backend& backend, int64_t t, int64_t n, Floats& y) {
                backend.MakeDecay(options, Tokens(y, t, n, row),
                                  has_vectors ? View(rate, {heads}) : Tensor(),
                                  has_vectors ? View(bias, row) : Tensor());
              });
          std::vector<double> want;
          for (size_t i = 0; i < x.size(); ++i) {
            const size_t column = i % static_cast<size_t>(size);
            const size_t head = column / static_cast<size_t>(key_size);
            want.push_back(has_vectors ? reference::MakeDecay(options, double{x[i]} + bias[column],
                                                              std::exp(double{rate[head]}))
                                       : reference::MakeDecay(options, x[i], 1.0));
          }
          // The exponent of up to 600 has 24 bits: where it is that large, the result is 0.
          EXPECT_TRUE(Near(got, want, 2e-6)) << heads << " heads of " << key_size;
        }
      }
    }
  }
}

TEST_P(LinearPrepareTest, Hgrn2KeysAreWhatTheDecayForgets) {
  for (const int64_t size : {1, 16, 37}) {
    for (const bool has_floor : {false, true}) {
      Numbers numbers(static_cast<uint32_t>(size));
      const Floats x = numbers.Uniform(kTokens * size, -20.0f, 20.0f);
      Floats floor = numbers.Uniform(size, 0.0f, 0.9f);
      Floats key(x.size());
      const Floats decay =
          SameEverywhere(GetParam(), x, [&](Backend& backend, int64_t t, int64_t n, Floats& y) {
            backend.Hgrn2Prepare(has_floor ? View(floor, {size}) : Tensor(),
                                 Tokens(y, t, n, {size}), Tokens(key, t, n, {size}));
          });
      std::vector<double> want_decay;
      for (size_t i = 0; i < x.size(); ++i) {
        const double low = has_floor ? floor[i % static_cast<size_t>(size)] : 0.0;
        want_decay.push_back(low + (1 - low) / (1 + std::exp(-double{x[i]})));
        const double want_key = (1 - low) / (1 + std::exp(double{x[i]}));
        // Relative: a key is small where almost nothing is forgotten, but it is written.
        EXPECT_LE(std::abs(key[i] - want_key), 5e-7 * want_key) << x[i];
      }
      EXPECT_TRUE(Near(decay, want_decay, 3e-7)) << size;
    }
  }
}

TEST_P(LinearPrepareTest, Mamba2StepsStayInTheirRange) {
  for (const int64_t heads : {1, 19, 48}) {
    for (const StepRange& range : {StepRange{0.25f, 3.0f}, StepRange()}) {
      Numbers numbers(static_cast<uint32_t>(heads));
      const Floats x = numbers.Uniform(kTokens * heads, -30.0f, 30.0f);
      Floats rate = numbers.Uniform(heads, -6.0f, 3.0f), bias = numbers.Normal(heads);
      Floats decay(x.size());
      const Floats step =
          SameEverywhere(GetParam(), x, [&](Backend& backend, int64_t t, int64_t n, Floats& y) {
            backend.Mamba2Prepare(range, View(rate, {heads}), View(bias, {heads}),
                                  Tokens(y, t, n, {heads}), Tokens(decay, t, n, {heads}));
          });
      const Floats decay_one_by_one = decay;
      Floats again = x;
      BackendOf("v2")->Mamba2Prepare(range, View(rate, {heads}), View(bias, {heads}),
                                     Tokens(again, 0, kTokens, {heads}),
                                     Tokens(decay, 0, kTokens, {heads}));
      EXPECT_TRUE(SameBits(decay_one_by_one, decay));
      std::vector<double> want_step, want_decay;
      for (size_t i = 0; i < x.size(); ++i) {
        const size_t head = i % static_cast<size_t>(heads);
        const double y = double{x[i]} + bias[head];
        const double free = std::fmax(y, 0.0) + std::log1p(std::exp(-std::abs(y)));
        want_step.push_back(std::fmin(std::fmax(free, double{range.min}), double{range.max}));
        want_decay.push_back(std::exp(-std::exp(double{rate[head]}) * want_step.back()));
      }
      EXPECT_TRUE(Near(step, want_step, 5e-7)) << heads;
      // The exponent of up to 600 has 24 bits: where it is that large, the result is 0.
      EXPECT_TRUE(Near(decay, want_decay, 2e-6)) << heads;
    }
  }
}

TEST_P(LinearPrepareTest, RotateTurnsThePairsOfHalves) {
  for (const int64_t key_size : {2, 10, 64}) {
    constexpr int64_t kHeads = 3;
    Numbers numbers(static_cast<uint32_t>(key_size));
    const Floats x = numbers.Normal(kTokens * kHeads * key_size);
    RowsFixture batch({static_cast<int32_t>(kTokens)}, {0});
    batch.positions() = {1000};
    Floats angles(static_cast<size_t>(kTokens * key_size));
    BackendOf("v2")->Sinusoid(batch.rows(), 0, key_size, View(angles, {kTokens, key_size}));
    const Floats got =
        SameEverywhere(GetParam(), x, [&](Backend& backend, int64_t t, int64_t n, Floats& y) {
          backend.Rotate(Tokens(angles, t, n, {key_size}), Tokens(y, t, n, {kHeads, key_size}));
        });
    std::vector<double> want(x.begin(), x.end());
    const auto half = static_cast<size_t>(key_size / 2);
    for (size_t head = 0; head < static_cast<size_t>(kTokens * kHeads); ++head) {
      const double position = 1000.0 + static_cast<double>(head / kHeads);
      for (size_t i = 0; i < half; ++i) {
        const double angle =
            position * std::pow(10000.0, -static_cast<double>(i) / static_cast<double>(half));
        const size_t low = head * half * 2 + i, high = low + half;
        want[low] = x[low] * std::cos(angle) - x[high] * std::sin(angle);
        want[high] = x[high] * std::cos(angle) + x[low] * std::sin(angle);
      }
    }
    EXPECT_TRUE(Near(got, want, 2e-7)) << key_size;
  }
}

TEST_P(LinearPrepareTest, SignedSoftmaxIsOverBothSigns) {
  for (const int64_t size : {1, 8, 16, 37}) {
    Numbers numbers(static_cast<uint32_t>(size));
    Floats x = numbers.Normal(kTokens * size, 3.0f);
    x[0] = 200.0f;  // exp(400) is no float
    const Floats got = SameEverywhere(
        GetParam(), Floats(x.size() * 2), [&](Backend& backend, int64_t t, int64_t n, Floats& y) {
          backend.SignedSoftmax(Tokens(x, t, n, {size}), Tokens(y, t, n, {size * 2}));
        });
    std::vector<double> want(x.size() * 2);
    const auto width = static_cast<size_t>(size);
    for (size_t t = 0; t < static_cast<size_t>(kTokens); ++t) {
      double largest = 0.0, sum = 0.0;
      for (size_t i = 0; i < width; ++i) largest = std::fmax(largest, std::abs(x[t * width + i]));
      for (size_t i = 0; i < width; ++i) {
        for (const int sign : {1, -1}) {
          const double e = std::exp(2 * (sign * double{x[t * width + i]} - largest));
          want[t * width * 2 + i + (sign < 0 ? width : 0)] = e;
          sum += e;
        }
      }
      for (size_t i = 0; i < width * 2; ++i) want[t * width * 2 + i] /= sum;
    }
    EXPECT_TRUE(Near(got, want, 1e-6)) << size;
  }
}

INSTANTIATE_TEST_SUITE_P(Cpu, LinearPrepareTest, ::testing::ValuesIn(MachineTargets()),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace eddy
