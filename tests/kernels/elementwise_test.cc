// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "kernels/backend.h"
#include "tests/kernels/kernel_fixture.h"
#include "tests/kernels/reference.h"

namespace eddy {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Near the smallest normal number factors of a result may be subnormal: less is asked there.
constexpr double kTiny = 1e-36;

struct Accuracy {
  Activation f;
  const char* name;
  double relative;  // where the result is above kTiny
};
constexpr Accuracy kAccuracies[] = {
    {Activation::kSquaredRelu, "squared_relu", 6e-8},
    {Activation::kRelu, "relu", 0.0},
    {Activation::kGelu, "gelu", 1e-6},
    {Activation::kSilu, "silu", 3e-7},
    {Activation::kSigmoid, "sigmoid", 2e-7},
    {Activation::kTanh, "tanh", 2e-7},
    {Activation::kEluPlusOne, "elu_plus_one", 1.5e-7},
    {Activation::kExp, "exp", 1.5e-7},
    {Activation::kIdentity, "identity", 0.0},
    {Activation::kTwiceSigmoid, "twice_sigmoid", 2e-7},
    // An exponent of up to 83 with a relative error of 1.5e-7.
    {Activation::kExpMinusExp, "exp_minus_exp", 1.3e-5},
};

class ElementwiseTest : public ::testing::TestWithParam<std::string> {
 protected:
  std::vector<float> Activate(Activation f, std::vector<float> x, int threads = 1,
                              bool in_place = false) {
    const Shape shape = {static_cast<int64_t>(x.size())};
    std::vector<float> out(x.size(), NAN);
    BackendOf(GetParam(), threads)
        ->Activate(f, View(x, shape), in_place ? View(x, shape) : View(out, shape));
    return in_place ? x : out;
  }

  // Dense around zero and out to where everything saturates.
  static std::vector<float> Arguments() {
    std::vector<float> x;
    for (int i = -40000; i <= 40000; ++i) x.push_back(static_cast<float>(i) * 2.5e-3f);
    for (float v = 1e-30f; v < 1.0f; v *= 1.7f) {
      x.push_back(v);
      x.push_back(-v);
    }
    return x;
  }
};

TEST_P(ElementwiseTest, ActivationsAreAccurate) {
  const std::vector<float> x = Arguments();
  for (const Accuracy& accuracy : kAccuracies) {
    const std::vector<float> y = Activate(accuracy.f, x);
    double worst = 0.0;
    float worst_at = 0.0f;
    for (size_t i = 0; i < x.size(); ++i) {
      const double want = reference::Activate(accuracy.f, x[i]);
      if (want > 3e38) {
        EXPECT_GT(y[i], 3e38f) << accuracy.name << " at " << x[i];
      } else if (std::abs(want) < kTiny) {
        EXPECT_LT(std::abs(y[i] - want), kTiny) << accuracy.name << " at " << x[i];
      } else {
        const double error = std::abs(y[i] - want) / std::abs(want);
        if (!(error <= worst)) {
          worst = error;
          worst_at = x[i];
        }
      }
    }
    EXPECT_LE(worst, accuracy.relative) << accuracy.name << " at " << worst_at;
  }
}

TEST_P(ElementwiseTest, ActivationsAtTheEdges) {
  EXPECT_EQ(Activate(Activation::kExp, {0.0f, -0.0f, -kInfinity, kInfinity, 200.0f, -200.0f}),
            (std::vector<float>{1.0f, 1.0f, 0.0f, kInfinity, kInfinity, 0.0f}));
  EXPECT_EQ(Activate(Activation::kExpMinusExp, {-kInfinity, -200.0f, 200.0f, kInfinity}),
            (std::vector<float>{1.0f, 1.0f, 0.0f, 0.0f}));
  EXPECT_EQ(Activate(Activation::kTanh, {0.0f, kInfinity, -kInfinity}),
            (std::vector<float>{0.0f, 1.0f, -1.0f}));
  EXPECT_EQ(Activate(Activation::kSigmoid, {0.0f, kInfinity, -kInfinity}),
            (std::vector<float>{0.5f, 1.0f, 0.0f}));
  EXPECT_EQ(Activate(Activation::kEluPlusOne, {0.0f, 2.0f, -kInfinity}),
            (std::vector<float>{1.0f, 3.0f, 0.0f}));
  EXPECT_EQ(Activate(Activation::kGelu, {0.0f, 1e20f, -1e20f, kInfinity}),
            (std::vector<float>{0.0f, 1e20f, 0.0f, kInfinity}));
  EXPECT_EQ(Activate(Activation::kSilu, {0.0f, 1e20f, -1e20f, kInfinity}),
            (std::vector<float>{0.0f, 1e20f, 0.0f, kInfinity}));
  for (const Accuracy& accuracy : kAccuracies) {
    EXPECT_TRUE(std::isnan(Activate(accuracy.f, {NAN})[0])) << accuracy.name;
  }
}

TEST_P(ElementwiseTest, ActivationsHaveTheSameBitsEverywhere) {
  for (const Accuracy& accuracy : kAccuracies) {
    for (const size_t count : {size_t{1}, size_t{15}, size_t{17}, Arguments().size()}) {
      std::vector<float> x = Arguments();
      x.resize(count);
      std::vector<float> want = x;
      const Shape shape = {static_cast<int64_t>(count)};
      BackendOf("v2")->Activate(accuracy.f, View(x, shape), View(want, shape));
      for (const int threads : {1, 2, 3}) {
        EXPECT_TRUE(SameBits(Activate(accuracy.f, x, threads), want))
            << accuracy.name << " of " << count << ", " << threads << " threads";
        EXPECT_TRUE(SameBits(Activate(accuracy.f, x, threads, true), want)) << accuracy.name;
      }
    }
  }
}

TEST_P(ElementwiseTest, EmbedCopiesRowsIntoTheirColumns) {
  const auto backend = BackendOf(GetParam());
  std::vector<float> table = {1, 2, 3, 10, 20, 30, 100, 200, 300};
  std::vector<uint16_t> bf16_table;
  for (const float value : table) {
    bf16_table.push_back(static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16));
  }
  RowsFixture batch({2, 1}, {0, 1});
  batch.tokens() = {2, 0, 1};
  for (const Tensor& view : {View(table, {3, 3}), View(bf16_table, {3, 3})}) {
    std::vector<float> out(15, -1.0f);
    backend->Embed(batch.rows(), view, 1, View(out, {3, 5}));
    EXPECT_EQ(out, (std::vector<float>{-1, 100, 200, 300, -1,  //
                                       -1, 1, 2, 3, -1,        //
                                       -1, 10, 20, 30, -1}));
  }
}

TEST_P(ElementwiseTest, SinusoidFollowsEachRowsPosition) {
  const int64_t size = 64;
  RowsFixture batch({3, 0, 2, 1}, {0, 1, 2, 3});
  batch.positions() = {0, 5, 1000000, int64_t{1} << 40};
  const std::vector<int64_t> positions = {0, 1, 2, 1000000, 1000001, int64_t{1} << 40};
  std::vector<float> first;
  for (const int threads : {1, 2}) {
    std::vector<float> out(6 * 67, -1.0f);
    BackendOf(GetParam(), threads)->Sinusoid(batch.rows(), 2, size, View(out, {6, 67}));
    for (size_t t = 0; t < positions.size(); ++t) {
      const std::vector<float> got(out.begin() + static_cast<int64_t>(t) * 67 + 2,
                                   out.begin() + static_cast<int64_t>(t) * 67 + 2 + size);
      // The frequency itself is a double: its error is multiplied by the position.
      const double tolerance = 6e-8 + static_cast<double>(positions[t]) * 1e-16;
      EXPECT_TRUE(Near(got, reference::Sinusoid(positions[t], size), tolerance)) << positions[t];
      EXPECT_EQ(out[t * 67], -1.0f);
      EXPECT_EQ(out[t * 67 + 66], -1.0f);
    }
    if (first.empty()) first = out;
    EXPECT_TRUE(SameBits(out, first));
  }
  std::vector<float> scalar(6 * 67, -1.0f);
  BackendOf("v2")->Sinusoid(batch.rows(), 2, size, View(scalar, {6, 67}));
  EXPECT_TRUE(SameBits(first, scalar));
}

TEST_P(ElementwiseTest, GatherTakesTheRowsWhoseLogitsAreWanted) {
  std::vector<float> x = {1, 2, 3, 4, 5, 6};
  RowsFixture batch({2, 1}, {0, 1});
  batch.logits_tokens() = {2, 0};
  std::vector<float> out(4);
  BackendOf(GetParam())->GatherLogitsRows(batch.rows(), View(x, {3, 2}), View(out, {2, 2}));
  EXPECT_EQ(out, (std::vector<float>{5, 6, 1, 2}));
}

TEST_P(ElementwiseTest, GateIsTheActivationTimesTheOther) {
  std::vector<float> x = Arguments();
  std::vector<float> y = Numbers(5).Normal(static_cast<int64_t>(x.size()));
  const Shape shape = {static_cast<int64_t>(x.size())};
  for (const Accuracy& accuracy : kAccuracies) {
    std::vector<float> want = Activate(accuracy.f, x);
    for (size_t i = 0; i < want.size(); ++i) want[i] *= y[i];
    for (const int threads : {1, 3}) {
      std::vector<float> out = x;  // over x
      BackendOf(GetParam(), threads)
          ->Gate(accuracy.f, View(out, shape), View(y, shape), View(out, shape));
      EXPECT_TRUE(SameBits(out, want)) << accuracy.name << ", " << threads << " threads";
      out = y;  // over y
      BackendOf(GetParam(), threads)
          ->Gate(accuracy.f, View(x, shape), View(out, shape), View(out, shape));
      EXPECT_TRUE(SameBits(out, want)) << accuracy.name << ", " << threads << " threads";
    }
  }
}

TEST_P(ElementwiseTest, TokenMatMulEqualsTheReferenceHoweverItIsCut) {
  for (const auto& shape : {std::pair(size_t{32}, size_t{32}), {1, 1}, {5, 19}}) {
    const size_t in = shape.first, out_size = shape.second;
    constexpr size_t kTokens = 40;
    Numbers numbers(static_cast<uint32_t>(out_size));
    const auto size = [](size_t count) { return static_cast<int64_t>(count); };
    std::vector<float> x = numbers.Normal(size(kTokens * in));
    std::vector<float> a = numbers.Normal(size(kTokens * in * out_size)),
                       b = numbers.Normal(size(a.size()));
    std::vector<double> want;
    for (size_t t = 0; t < kTokens; ++t) {
      for (size_t j = 0; j < out_size; ++j) {
        double sum = 0.0;
        for (size_t i = 0; i < in; ++i) {
          const size_t at = (t * in + i) * out_size + j;
          sum += x[t * in + i] * (double{a[at]} + b[at]);
        }
        want.push_back(sum);
      }
    }
    const auto run = [&](const std::string& target, int threads, size_t begin, size_t end) {
      const auto part = [&](std::vector<float>& values, size_t width) {
        return Tensor(values.data() + begin * width, DType::kF32, {size(end - begin), size(width)});
      };
      std::vector<float> out((end - begin) * out_size, NAN);
      BackendOf(target, threads)
          ->TokenMatMul(part(x, in), part(a, in * out_size), part(b, in * out_size),
                        View(out, {size(end - begin), size(out_size)}));
      return out;
    };
    const std::vector<float> v2 = run("v2", 1, 0, kTokens);
    EXPECT_TRUE(Near(v2, want, 2e-6)) << in;
    for (const int threads : {1, 3}) {
      EXPECT_TRUE(SameBits(run(GetParam(), threads, 0, kTokens), v2)) << in;
    }
    std::vector<float> one_by_one;
    for (size_t t = 0; t < kTokens; ++t) {
      const std::vector<float> part = run(GetParam(), 1, t, t + 1);
      one_by_one.insert(one_by_one.end(), part.begin(), part.end());
    }
    EXPECT_TRUE(SameBits(one_by_one, v2)) << in;
  }
}

INSTANTIATE_TEST_SUITE_P(Cpu, ElementwiseTest, ::testing::ValuesIn(MachineTargets()),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace eddy
