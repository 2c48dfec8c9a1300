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

class TokenShiftTest : public ::testing::TestWithParam<std::tuple<std::string, int64_t>> {
 protected:
  static constexpr int32_t kSlotCount = 4;
  static constexpr int64_t kPadding = 3;  // floats of a slot before the state

  void SetUp() override {
    size_ = std::get<1>(GetParam());
    Numbers numbers(static_cast<uint32_t>(size_));
    x_ = numbers.Normal(kTokens * size_);
    state_ = numbers.Normal(kSlotCount * slot_floats());
  }

  int64_t slot_floats() const { return size_ + kPadding; }
  // Tokens from `begin` of x_ in rows of these lengths.
  std::vector<float> Run(Backend& backend, int64_t begin, const std::vector<int32_t>& lengths,
                         const std::vector<int32_t>& slots, std::vector<float>& state) {
    const RowsFixture batch(lengths, slots);
    const int64_t tokens = batch.rows().token_count;
    std::vector<float> out(static_cast<size_t>(tokens * size_), NAN);
    backend.TokenShift(
        batch.rows(), Tensor(x_.data() + begin * size_, DType::kF32, {tokens, size_}),
        {reinterpret_cast<std::byte*>(state.data()), slot_floats() * 4, kPadding * 4},
        View(out, {tokens, size_}));
    return out;
  }

  static constexpr int64_t kTokens = 20;
  int64_t size_ = 0;
  std::vector<float> x_, state_;
};

TEST_P(TokenShiftTest, EqualsTheReference) {
  const std::vector<int32_t> lengths = {1, 12, 0, 7}, slots = {2, 0, 1, 3};
  std::vector<float> want(static_cast<size_t>(kTokens * size_));
  std::vector<float> want_state = state_;
  int64_t token = 0;
  for (size_t row = 0; row < lengths.size(); ++row) {
    float* before = want_state.data() + slots[row] * slot_floats() + kPadding;
    for (int32_t i = 0; i < lengths[row]; ++i, ++token) {
      for (int64_t c = 0; c < size_; ++c) {
        const float now = x_[static_cast<size_t>(token * size_ + c)];
        want[static_cast<size_t>(token * size_ + c)] = before[c] - now;
        before[c] = now;
      }
    }
  }
  for (const int threads : {1, 3}) {
    std::vector<float> state = state_;
    const auto backend = BackendOf(std::get<0>(GetParam()), threads);
    EXPECT_TRUE(SameBits(Run(*backend, 0, lengths, slots, state), want));
    EXPECT_TRUE(SameBits(state, want_state));  // and so are the other slots and the padding
  }
}

TEST_P(TokenShiftTest, ChunksChangeNothing) {
  const auto backend = BackendOf(std::get<0>(GetParam()));
  std::vector<float> want_state = state_;
  const std::vector<float> want = Run(*backend, 0, {kTokens}, {1}, want_state);
  for (const int32_t chunk : {1, 7}) {
    std::vector<float> state = state_, out;
    for (int32_t begin = 0; begin < kTokens; begin += chunk) {
      const int32_t count = std::min(chunk, static_cast<int32_t>(kTokens) - begin);
      const std::vector<float> part = Run(*backend, begin, {count}, {1}, state);
      out.insert(out.end(), part.begin(), part.end());
    }
    EXPECT_TRUE(SameBits(out, want)) << "chunks of " << chunk;
    EXPECT_TRUE(SameBits(state, want_state));
  }
}

INSTANTIATE_TEST_SUITE_P(Cpu, TokenShiftTest,
                         ::testing::Combine(::testing::ValuesIn(MachineTargets()),
                                            ::testing::Values(1, 40, 2048, 4100)),
                         [](const auto& test) {
                           return std::get<0>(test.param) + "_" +
                                  std::to_string(std::get<1>(test.param));
                         });

}  // namespace
}  // namespace eddy
