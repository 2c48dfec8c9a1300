// SPDX-License-Identifier: Apache-2.0
// Tests kernels/cpu/short_convolution.cc.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <tuple>
#include <vector>

#include "kernels/backend.h"
#include "tests/kernels/kernel_fixture.h"

namespace eddy {
namespace {

struct ConvolutionCase {
  int64_t channel_count = 0;
  int64_t width = 0;
  bool has_bias = false;
};
constexpr ConvolutionCase kCases[] = {{1, 4},    {40, 4},       {100, 2},       {33, 1},
                                      {3072, 4}, {50, 4, true}, {2304, 3, true}};

class ShortConvolutionTest : public ::testing::TestWithParam<std::tuple<std::string, size_t>> {
 protected:
  static constexpr int32_t kTokens = 20;
  static constexpr int32_t kSlotCount = 3;
  static constexpr int64_t kPadding = 5;  // floats of a slot before the state

  void SetUp() override {
    channels_ = kCases[std::get<1>(GetParam())].channel_count;
    width_ = kCases[std::get<1>(GetParam())].width;
    Numbers numbers(static_cast<uint32_t>(channels_));
    x_ = numbers.Normal(kTokens * channels_, 2.0f);
    weight_ = numbers.Normal(width_ * channels_);
    state_ = numbers.Normal(kSlotCount * slot_floats());
    if (kCases[std::get<1>(GetParam())].has_bias) bias_ = numbers.Normal(channels_);
  }

  int64_t state_floats() const { return (width_ - 1) * channels_; }
  int64_t slot_floats() const { return state_floats() + kPadding; }
  // Tokens from `begin` on in rows of these lengths.
  std::vector<float> Run(Backend& backend, int64_t begin, const std::vector<int32_t>& lengths,
                         const std::vector<int32_t>& slots, std::vector<float>& state) {
    const RowsFixture batch(lengths, slots);
    const Shape shape = {batch.rows().token_count, channels_};
    std::vector<float> out(static_cast<size_t>(shape.element_count()), NAN);
    backend.ShortConvolution(
        batch.rows(), Tensor(x_.data() + begin * channels_, DType::kF32, shape),
        View(weight_, {width_, channels_}), bias_.empty() ? Tensor() : View(bias_, {channels_}),
        {reinterpret_cast<std::byte*>(state.data()), slot_floats() * 4, kPadding * 4},
        View(out, shape));
    return out;
  }

  int64_t channels_ = 0;
  int64_t width_ = 0;
  std::vector<float> x_, weight_, bias_, state_;  // no bias_: absent
};

TEST_P(ShortConvolutionTest, EqualsTheReference) {
  const std::vector<int32_t> lengths = {2, 0, 18}, slots = {2, 1, 0};
  std::vector<double> want;
  std::vector<float> want_state = state_;
  int64_t token = 0;
  for (size_t row = 0; row < lengths.size(); ++row) {
    float* state = want_state.data() + slots[row] * slot_floats() + kPadding;
    std::vector<float> inputs(state, state + state_floats());  // and then the row's
    for (int32_t i = 0; i < lengths[row]; ++i, ++token) {
      const auto from = x_.begin() + token * channels_;
      inputs.insert(inputs.end(), from, from + channels_);
      for (int64_t c = 0; c < channels_; ++c) {
        double sum = bias_.empty() ? 0.0 : bias_[static_cast<size_t>(c)];
        for (int64_t w = 0; w < width_; ++w) {
          sum += double{inputs[static_cast<size_t>((i + w) * channels_ + c)]} *
                 weight_[static_cast<size_t>(w * channels_ + c)];
        }
        want.push_back(sum / (1.0 + std::exp(-sum)));
      }
    }
    std::copy(inputs.end() - state_floats(), inputs.end(), state);
  }
  const auto backend = BackendOf(std::get<0>(GetParam()));
  EXPECT_TRUE(Near(Run(*backend, 0, lengths, slots, state_), want, 2e-6));
  EXPECT_TRUE(SameBits(state_, want_state));  // and so are the padding and what no row touches
}

TEST_P(ShortConvolutionTest, TargetsThreadsChunksAndCompanyChangeNothing) {
  std::vector<float> want_state = state_;
  const std::vector<float> want = Run(*BackendOf("v2"), 0, {kTokens}, {1}, want_state);
  const auto ours = [&](const std::vector<float>& all) {
    return std::vector<float>(all.begin() + slot_floats(), all.begin() + 2 * slot_floats());
  };
  for (const int threads : {1, 3}) {
    const auto backend = BackendOf(std::get<0>(GetParam()), threads);
    for (const int32_t chunk : {1, 2, 7, kTokens}) {
      std::vector<float> state = state_, out;
      for (int32_t begin = 0; begin < kTokens; begin += chunk) {
        const int32_t count = std::min(chunk, kTokens - begin);
        // Another session's row goes first where there is room for it.
        const bool company = begin > 0;
        const std::vector<float> part = company
                                            ? Run(*backend, begin - 1, {1, count}, {2, 1}, state)
                                            : Run(*backend, begin, {count}, {1}, state);
        out.insert(out.end(), part.begin() + (company ? channels_ : 0), part.end());
      }
      EXPECT_TRUE(SameBits(out, want)) << threads << " threads, chunks of " << chunk;
      EXPECT_TRUE(SameBits(ours(state), ours(want_state)));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cpu, ShortConvolutionTest,
                         ::testing::Combine(::testing::ValuesIn(MachineTargets()),
                                            ::testing::Range(size_t{0}, std::size(kCases))),
                         [](const auto& test) {
                           return std::get<0>(test.param) + "_" +
                                  std::to_string(std::get<1>(test.param));
                         });

}  // namespace
}  // namespace eddy
