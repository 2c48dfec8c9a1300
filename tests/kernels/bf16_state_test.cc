// SPDX-License-Identifier: Apache-2.0
// A state kept as bf16 must be what an f32 state is when it is rounded after every token, bit for
// bit, however the tokens are cut and whoever runs them. (recurrence_test.cc holds the f32 one.)
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "tests/kernels/kernel_fixture.h"
#include "tests/kernels/reference.h"

namespace eddy {
namespace {

constexpr int64_t kTokens = 7;

struct Sizes {
  int64_t heads, key, value;
};

class Bf16StateTest : public ::testing::TestWithParam<std::string> {
 protected:
  struct Outcome {
    std::vector<float> out;       // [T, H, V]
    std::vector<uint16_t> state;  // [H, K, V]
  };

  void Make(const RecurrenceOptions& options, const Sizes& sizes) {
    options_ = options;
    sizes_ = sizes;
    Numbers numbers(31);
    const int64_t keys = kTokens * sizes.heads * sizes.key;
    for (std::vector<float>* x : {&q_, &k_, &a_, &b_}) *x = numbers.Normal(keys, 0.3f);
    v_ = numbers.Normal(kTokens * sizes.heads * sizes.value);
    decay_ = numbers.Uniform(keys, 0.7f, 1.0f);
    beta_ = numbers.Uniform(kTokens * sizes.heads, 0.0f, 1.0f);
    initial_.clear();
    for (const float value : numbers.Normal(sizes.heads * sizes.key * sizes.value)) {
      initial_.push_back(static_cast<uint16_t>(Bits(reference::RoundToBf16(value)) >> 16));
    }
  }

  static uint32_t Bits(float value) {
    uint32_t bits = 0;
    std::memcpy(&bits, &value, sizeof(bits));
    return bits;
  }

  // Tokens [begin, end) of the stream, the state at `state`.
  void Run(Backend& backend, int64_t begin, int64_t end, DType dtype, void* state, float* out) {
    const int64_t count = end - begin;
    const int64_t heads = sizes_.heads;
    const auto part = [&](std::vector<float>& x, int64_t size) {
      return Tensor(x.data() + begin * heads * size, DType::kF32, {count, heads, size});
    };
    RecurrenceInputs inputs;
    inputs.q = part(q_, sizes_.key);
    inputs.k = part(k_, sizes_.key);
    inputs.v = part(v_, sizes_.value);
    inputs.decay = part(decay_, sizes_.key);
    if (options_.removal == Removal::kDelta) {
      inputs.beta = Tensor(beta_.data() + begin * heads, DType::kF32, {count, heads});
    }
    if (options_.removal == Removal::kGeneral) {
      inputs.a = part(a_, sizes_.key);
      inputs.b = part(b_, sizes_.key);
    }
    StateRef ref = {static_cast<std::byte*>(state), 0, 0};
    ref.dtype = dtype;
    backend.Recurrence(
        options_, RowsFixture({static_cast<int32_t>(count)}, {0}).rows(), inputs, ref, {},
        Tensor(out + begin * heads * sizes_.value, DType::kF32, {count, heads, sizes_.value}));
  }

  Outcome RunInChunks(Backend& backend, int64_t chunk) {
    Outcome outcome = {std::vector<float>(v_.size()), initial_};
    for (int64_t begin = 0; begin < kTokens; begin += chunk) {
      Run(backend, begin, std::min(kTokens, begin + chunk), DType::kBF16, outcome.state.data(),
          outcome.out.data());
    }
    return outcome;
  }

  Outcome RunRounded(Backend& backend) {
    Outcome outcome = {std::vector<float>(v_.size()), {}};
    std::vector<float> state;
    for (const uint16_t half : initial_) {
      state.push_back(std::bit_cast<float>(static_cast<uint32_t>(half) << 16));
    }
    for (int64_t t = 0; t < kTokens; ++t) {
      Run(backend, t, t + 1, DType::kF32, state.data(), outcome.out.data());
      for (float& value : state) value = reference::RoundToBf16(value);
    }
    for (const float value : state) {
      outcome.state.push_back(static_cast<uint16_t>(Bits(value) >> 16));
    }
    return outcome;
  }

  RecurrenceOptions options_;
  Sizes sizes_ = {};
  std::vector<float> q_, k_, v_, a_, b_, decay_, beta_;
  std::vector<uint16_t> initial_;
};

TEST_P(Bf16StateTest, IsAnF32StateRoundedAfterEveryToken) {
  const auto plain = BackendOf("v2");
  for (const Sizes& sizes : {Sizes{1, 1, 1}, Sizes{2, 5, 19}, Sizes{3, 16, 64}, Sizes{2, 64, 96}}) {
    for (const Removal removal : {Removal::kNone, Removal::kDelta, Removal::kGeneral}) {
      RecurrenceOptions options;
      options.decay = Decay::kVector;
      options.removal = removal;
      Make(options, sizes);
      const Outcome want = RunRounded(*plain);
      for (const int threads : {1, 2}) {
        const auto backend = BackendOf(GetParam(), threads);
        for (const int64_t chunk : {int64_t{1}, int64_t{3}, kTokens}) {
          const Outcome got = RunInChunks(*backend, chunk);
          EXPECT_TRUE(SameBits(got.out, want.out)) << chunk << " tokens, V " << sizes.value;
          EXPECT_EQ(got.state, want.state) << chunk << " tokens, V " << sizes.value;
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cpu, Bf16StateTest, ::testing::ValuesIn(MachineTargets()),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace eddy
