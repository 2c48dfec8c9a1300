// SPDX-License-Identifier: Apache-2.0
// Tests kernels/cpu/token_shift.cc.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <tuple>
#include <vector>

#include "kernels/backend.h"
#include "tests/kernels/kernel_fixture.h"

namespace eddy {
namespace {

// Width and number of mixes.
class TokenShiftTest
    : public ::testing::TestWithParam<std::tuple<std::string, std::tuple<int64_t, int64_t>>> {
 protected:
  static constexpr int32_t kSlotCount = 4;
  static constexpr int64_t kPadding = 3;  // floats of a slot before the state

  void SetUp() override {
    std::tie(size_, mix_count_) = std::get<1>(GetParam());
    Numbers numbers(static_cast<uint32_t>(size_));
    x_ = numbers.Normal(kTokens * size_);
    mix_ = numbers.Uniform(mix_count_ * size_, 0.0f, 1.0f);
    state_ = numbers.Normal(kSlotCount * slot_floats());
  }

  int64_t slot_floats() const { return size_ + kPadding; }
  // Tokens [begin, end) of x_ in rows of these lengths; out [mix, token, size].
  std::vector<float> Run(Backend& backend, int64_t begin, const std::vector<int32_t>& lengths,
                         const std::vector<int32_t>& slots, std::vector<float>& state) {
    const RowsFixture batch(lengths, slots);
    const int64_t tokens = batch.rows().token_count;
    std::vector<float> out(static_cast<size_t>(mix_count_ * tokens * size_), NAN);
    backend.TokenShift(
        batch.rows(), Tensor(x_.data() + begin * size_, DType::kF32, {tokens, size_}),
        View(mix_, {mix_count_, size_}),
        {reinterpret_cast<std::byte*>(state.data()), slot_floats() * 4, kPadding * 4},
        View(out, {mix_count_, tokens, size_}));
    return out;
  }

  static constexpr int64_t kTokens = 20;
  int64_t size_ = 0;
  int64_t mix_count_ = 0;
  std::vector<float> x_, mix_, state_;
};

TEST_P(TokenShiftTest, EqualsTheReference) {
  const std::vector<int32_t> lengths = {1, 12, 0, 7}, slots = {2, 0, 1, 3};
  std::vector<double> want(static_cast<size_t>(mix_count_ * kTokens * size_));
  std::vector<float> want_state = state_;
  int64_t token = 0;
  for (size_t row = 0; row < lengths.size(); ++row) {
    float* before = want_state.data() + slots[row] * slot_floats() + kPadding;
    for (int32_t i = 0; i < lengths[row]; ++i, ++token) {
      for (int64_t c = 0; c < size_; ++c) {
        const float now = x_[static_cast<size_t>(token * size_ + c)];
        for (int64_t m = 0; m < mix_count_; ++m) {
          want[static_cast<size_t>((m * kTokens + token) * size_ + c)] =
              now + (double{before[c]} - now) * mix_[static_cast<size_t>(m * size_ + c)];
        }
        before[c] = now;
      }
    }
  }
  const auto backend = BackendOf(std::get<0>(GetParam()));
  EXPECT_TRUE(Near(Run(*backend, 0, lengths, slots, state_), want, 2e-7));
  EXPECT_TRUE(SameBits(state_, want_state));  // and so are the other slots and the padding
}

TEST_P(TokenShiftTest, TargetsThreadsChunksAndCompanyChangeNothing) {
  std::vector<float> want_state = state_;
  const std::vector<float> want = Run(*BackendOf("v2"), 0, {kTokens}, {1}, want_state);
  for (const int threads : {1, 3}) {
    const auto backend = BackendOf(std::get<0>(GetParam()), threads);
    for (const int32_t chunk : {1, 7, static_cast<int32_t>(kTokens)}) {
      std::vector<float> state = state_, out(want.size());
      for (int32_t begin = 0; begin < kTokens; begin += chunk) {
        const int32_t count = std::min(chunk, static_cast<int32_t>(kTokens) - begin);
        // Another session's row goes first where there is room for it.
        const bool company = begin > 0;
        const std::vector<float> part = company
                                            ? Run(*backend, begin - 1, {1, count}, {3, 1}, state)
                                            : Run(*backend, begin, {count}, {1}, state);
        const int64_t skipped = company ? 1 : 0;
        for (int64_t m = 0; m < mix_count_; ++m) {
          const auto from = part.begin() + (m * (count + skipped) + skipped) * size_;
          std::copy(from, from + count * size_, out.begin() + (m * kTokens + begin) * size_);
        }
      }
      EXPECT_TRUE(SameBits(out, want)) << threads << " threads, chunks of " << chunk;
      const auto ours = [&](const std::vector<float>& all) {
        return std::vector<float>(all.begin() + slot_floats(), all.begin() + 2 * slot_floats());
      };
      EXPECT_TRUE(SameBits(ours(state), ours(want_state)));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Cpu, TokenShiftTest,
    ::testing::Combine(::testing::ValuesIn(MachineTargets()),
                       ::testing::Values(std::tuple{int64_t{1}, int64_t{1}},
                                         std::tuple{int64_t{40}, int64_t{6}},
                                         std::tuple{int64_t{2048}, int64_t{6}},
                                         std::tuple{int64_t{4100}, int64_t{1}})),
    [](const auto& test) {
      return std::get<0>(test.param) + "_" + std::to_string(std::get<0>(std::get<1>(test.param)));
    });

}  // namespace
}  // namespace eddy
