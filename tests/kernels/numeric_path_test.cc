// SPDX-License-Identifier: Apache-2.0
// The numeric path `fma` pinned: fixed inputs, and a hash of every op's bits. A failure means that
// sessions of an older build would continue with other tokens on this one: either undo the change
// or give the path a new name (BackendInfo::numeric_path) and then new hashes.
#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <string>
#include <tuple>
#include <vector>

#include "kernels/backend.h"
#include "tests/kernels/kernel_fixture.h"

namespace eddy {
namespace {

// Multiples of 2^-20 in [low, low + range): integer arithmetic, so every machine makes the same.
class FixedNumbers {
 public:
  std::vector<float> Take(int64_t count, float low, float range) {
    std::vector<float> out(static_cast<size_t>(count));
    for (float& value : out) {
      state_ = state_ * 6364136223846793005ULL + 1442695040888963407ULL;
      value = low + range * (static_cast<float>(state_ >> 44) / 1048576.0f);
    }
    return out;
  }

 private:
  uint64_t state_ = 1;
};

// FNV-1a.
uint64_t Hash(const std::vector<float>& values) {
  uint64_t hash = 14695981039346656037ULL;
  for (const float value : values) {
    for (int shift = 0; shift < 32; shift += 8) {
      hash = (hash ^ (std::bit_cast<uint32_t>(value) >> shift & 0xff)) * 1099511628211ULL;
    }
  }
  return hash;
}

class NumericPathTest : public ::testing::TestWithParam<std::string> {
 protected:
  std::unique_ptr<Backend> backend_ = BackendOf(GetParam());
  FixedNumbers numbers_;
};

TEST_P(NumericPathTest, MatMul) {
  std::vector<float> weight = numbers_.Take(50 * 131, -1.0f, 2.0f);
  std::vector<float> bias = numbers_.Take(50, -1.0f, 2.0f);
  std::vector<float> x = numbers_.Take(3 * 131, -1.0f, 2.0f);
  std::vector<float> all;
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const Matrix matrix = *backend_->PackMatrix(View(weight, {50, 131}), dtype);
    std::vector<float> out(3 * 50);
    backend_->MatMul(View(x, {3, 131}), matrix, View(bias, {50}), View(out, {3, 50}));
    all.insert(all.end(), out.begin(), out.end());
  }
  EXPECT_EQ(Hash(all), 17402227803328649805ULL);
}

TEST_P(NumericPathTest, QuantisedMatMul) {
  std::vector<float> weight = numbers_.Take(50 * 1131, -1.0f, 2.0f);
  std::vector<float> x = numbers_.Take(3 * 1131, -1.0f, 2.0f);
  std::vector<float> all;
  for (const DType dtype : {DType::kI8, DType::kI4}) {
    const Matrix matrix = *backend_->PackMatrix(View(weight, {50, 1131}), dtype);
    std::vector<float> out(3 * 50);
    backend_->MatMul(View(x, {3, 1131}), matrix, Tensor(), View(out, {3, 50}));
    all.insert(all.end(), out.begin(), out.end());
  }
  EXPECT_EQ(Hash(all), 10568145566786611712ULL);
}

TEST_P(NumericPathTest, LayerNorm) {
  std::vector<float> x = numbers_.Take(3 * 77, -3.0f, 7.0f);
  std::vector<float> residual = numbers_.Take(3 * 77, -1.0f, 2.0f);
  std::vector<float> weight = numbers_.Take(77, 0.5f, 1.0f);
  std::vector<float> bias = numbers_.Take(77, -1.0f, 2.0f);
  backend_->LayerNorm(View(x, {3, 77}), View(residual, {3, 77}), View(weight, {77}),
                      View(bias, {77}), 1e-5f, View(x, {3, 77}));
  EXPECT_EQ(Hash(x), 3042037380036400080ULL);
}

TEST_P(NumericPathTest, Norms) {
  std::vector<float> x = numbers_.Take(3 * 2 * 77, -3.0f, 7.0f);
  std::vector<float> gate = numbers_.Take(3 * 2 * 77, -3.0f, 6.0f);
  std::vector<float> weight = numbers_.Take(2 * 77, 0.5f, 1.0f);
  const Shape shape = {3, 2, 77};
  std::vector<float> all;
  for (const NormKind kind : {NormKind::kLayer, NormKind::kRms, NormKind::kL2}) {
    NormInputs inputs = {View(x, shape)};
    inputs.weight = View(weight, {2, 77});
    inputs.gate = View(gate, shape);
    std::vector<float> out(x.size());
    backend_->Normalise({kind, 1e-5f}, inputs, Tensor(), View(out, shape));
    all.insert(all.end(), out.begin(), out.end());
  }
  EXPECT_EQ(Hash(all), 14256223014557579207ULL);
}

TEST_P(NumericPathTest, Rwkv7) {
  const Shape flat = {5, 60}, shape = {5, 3, 20}, scale_shape = {3, 20};
  std::vector<float> x = numbers_.Take(6 * 300, -3.0f, 6.0f);
  const auto part = [&](int64_t i, const Shape& as) {
    return Tensor(x.data() + i * 300, DType::kF32, as);
  };
  std::vector<float> scale = numbers_.Take(60, 0.5f, 1.0f);
  std::vector<float> shifted(300), removal(300), state(60, 0.5f);
  backend_->TokenShift(RowsFixture({5}, {0}).rows(), part(0, flat),
                       {reinterpret_cast<std::byte*>(state.data()), 0, 0}, View(shifted, flat));
  backend_->Rwkv7Prepare({part(0, flat), part(1, flat), part(2, flat), part(3, flat), part(4, flat),
                          part(5, flat), View(scale, scale_shape), View(scale, scale_shape)},
                         View(removal, flat));
  backend_->Rwkv7Finish(
      {part(0, shape), part(1, shape), part(2, shape), part(3, shape), part(4, shape),
       View(scale, scale_shape), View(scale, scale_shape), View(scale, scale_shape)},
      64e-5f, part(5, shape));
  for (const std::vector<float>* values : {&shifted, &removal, &state}) {
    x.insert(x.end(), values->begin(), values->end());
  }
  EXPECT_EQ(Hash(x), 4250167685200057483ULL);
}

TEST_P(NumericPathTest, Activations) {
  std::vector<float> all;
  for (const Activation f :
       {Activation::kRelu, Activation::kGelu, Activation::kSilu, Activation::kSigmoid,
        Activation::kTanh, Activation::kEluPlusOne, Activation::kExp}) {
    std::vector<float> x = numbers_.Take(1003, -12.0f, 24.0f);
    backend_->Activate(f, View(x, {1003}), View(x, {1003}));
    all.insert(all.end(), x.begin(), x.end());
  }
  EXPECT_EQ(Hash(all), 11926466836070932840ULL);
}

TEST_P(NumericPathTest, GatedDeltaNet) {
  std::vector<float> x = numbers_.Take(5 * 60, -6.0f, 12.0f);
  std::vector<float> weight = numbers_.Take(4 * 60, -1.0f, 2.0f);
  std::vector<float> out(300), state(180, 0.5f);
  backend_->ShortConvolution(RowsFixture({5}, {0}).rows(), View(x, {5, 60}), View(weight, {4, 60}),
                             {reinterpret_cast<std::byte*>(state.data()), 0, 0},
                             View(out, {5, 60}));
  std::vector<float> rate(weight.begin(), weight.begin() + 60);
  backend_->MakeDecay({DecayMap::kSoftplus}, View(x, {5, 60}), View(rate, {60}), View(rate, {60}));
  for (const std::vector<float>* values : {&out, &state}) {
    x.insert(x.end(), values->begin(), values->end());
  }
  EXPECT_EQ(Hash(x), 8974314890672090133ULL);
}

TEST_P(NumericPathTest, Mamba2) {
  const Shape flat = {5, 60};
  std::vector<float> x = numbers_.Take(300, -6.0f, 12.0f);
  std::vector<float> weight = numbers_.Take(4 * 60, -1.0f, 2.0f);
  std::vector<float> bias = numbers_.Take(60, -1.0f, 2.0f);
  std::vector<float> gate = numbers_.Take(300, -3.0f, 6.0f);
  std::vector<float> convolved(300), out(300), state(60 * 8, 0.5f);
  const RowsFixture batch({5}, {0});
  const StateRef slot = {reinterpret_cast<std::byte*>(state.data()), 0, 0};
  backend_->ShortConvolution(batch.rows(), View(x, flat), View(weight, {4, 60}), View(bias, {60}),
                             slot, View(convolved, flat));
  std::vector<float> step = x;
  backend_->Mamba2Prepare({0.01f, 4.0f}, View(bias, {60}), View(bias, {60}), View(step, flat),
                          View(x, flat));
  RecurrenceOptions options;
  options.decay = Decay::kScalar;
  RecurrenceInputs inputs;  // 60 heads of one value each
  inputs.q = inputs.k = Tensor(convolved.data(), DType::kF32, {5, 3, 8});
  inputs.v = View(gate, {5, 60, 1});
  inputs.decay = View(x, flat);
  inputs.beta = View(step, flat);
  inputs.skip = View(bias, {60});
  backend_->Recurrence(options, batch.rows(), inputs, slot, {}, View(out, {5, 60, 1}));
  NormInputs norm = {View(out, flat)};
  norm.weight = View(bias, {60});
  norm.gate = View(gate, flat);
  backend_->Normalise({NormKind::kRms, 1e-5f, Activation::kSilu, true}, norm, Tensor(),
                      View(out, flat));
  for (const std::vector<float>* values : {&convolved, &step, &out, &state}) {
    x.insert(x.end(), values->begin(), values->end());
  }
  EXPECT_EQ(Hash(x), 321768618533557918ULL);
}

// RWKV-6's decay, its mixes for each token, and RWKV-7a's deep embedding.
TEST_P(NumericPathTest, Rwkv6And7a) {
  std::vector<float> x = numbers_.Take(5 * 32, -4.0f, 8.0f);
  std::vector<float> difference = numbers_.Take(5 * 32, -4.0f, 8.0f);
  std::vector<float> mix = numbers_.Take(5 * 32, 0.0f, 1.0f);
  std::vector<float> weight = numbers_.Take(20 * 32, -1.0f, 2.0f);
  std::vector<float> a = numbers_.Take(5 * 32 * 4, -1.0f, 2.0f);
  std::vector<float> mixed(5 * 20), deep(5 * 4);
  const Shape shape = {5, 32};
  const Matrix matrix = *backend_->PackMatrix(View(weight, {20, 32}), DType::kBF16);
  const Product product = {View(x, shape),          &matrix,         Tensor(), View(mixed, {5, 20}),
                           View(difference, shape), View(mix, shape)};
  backend_->MatMulGroup({&product, 1});
  backend_->TokenMatMul(View(x, shape), View(a, {5, 128}), View(a, {5, 128}), View(deep, {5, 4}));
  backend_->Activate(Activation::kExpMinusExp, View(x, shape), View(x, shape));
  for (const std::vector<float>* values : {&mixed, &deep}) {
    x.insert(x.end(), values->begin(), values->end());
  }
  EXPECT_EQ(Hash(x), 4339053371934017829ULL);
}

TEST_P(NumericPathTest, SquaredRelu) {
  std::vector<float> x = numbers_.Take(1003, -12.0f, 24.0f);
  backend_->Activate(Activation::kSquaredRelu, View(x, {1003}), View(x, {1003}));
  EXPECT_EQ(Hash(x), 17919828229053555723ULL);
}

TEST_P(NumericPathTest, Sinusoid) {
  RowsFixture batch({5, 1, 1}, {0, 1, 2});
  batch.positions() = {0, 123456, int64_t{1} << 33};
  std::vector<float> out(7 * 192);
  backend_->Sinusoid(batch.rows(), 0, 192, View(out, {7, 192}));
  EXPECT_EQ(Hash(out), 7304362567810885094ULL);
}

TEST_P(NumericPathTest, Recurrence) {
  constexpr int64_t kTokens = 9, kHeads = 2, kKey = 19, kValue = 35;
  const Shape keys = {kTokens, kHeads, kKey};
  std::vector<float> q = numbers_.Take(kTokens * kHeads * kKey, 0.0f, 0.3f);
  std::vector<float> k = numbers_.Take(kTokens * kHeads * kKey, 0.0f, 0.3f);
  std::vector<float> v = numbers_.Take(kTokens * kHeads * kValue, -1.0f, 2.0f);
  std::vector<float> decay = numbers_.Take(kTokens * kHeads * kKey, 0.8f, 0.2f);
  std::vector<float> beta = numbers_.Take(kTokens * kHeads, 0.0f, 1.0f);
  std::vector<float> all;
  for (const Removal removal : {Removal::kNone, Removal::kDelta, Removal::kGeneral}) {
    for (const Read read : {Read::kAfterWrite, Read::kBeforeWriteWithBonus}) {
      RecurrenceOptions options;
      options.decay = Decay::kVector;
      options.removal = removal;
      options.read = read;
      options.normaliser = Normaliser::kAddEps;
      options.scale = 0.3f;
      options.normaliser_eps = 1e-4f;
      RecurrenceInputs inputs;
      inputs.q = View(q, keys);
      inputs.k = View(k, keys);
      inputs.v = View(v, {kTokens, kHeads, kValue});
      inputs.decay = View(decay, keys);
      if (removal == Removal::kDelta) inputs.beta = View(beta, {kTokens, kHeads});
      if (removal == Removal::kGeneral) inputs.a = inputs.b = View(k, keys);
      std::vector<float> bonus(q.begin(), q.begin() + kHeads * kKey);
      if (read == Read::kBeforeWriteWithBonus) inputs.bonus = View(bonus, {kHeads, kKey});
      std::vector<float> slot(kHeads * kKey * (kValue + 1), 0.25f);
      auto* base = reinterpret_cast<std::byte*>(slot.data());
      std::vector<float> out(v.size());
      backend_->Recurrence(options, RowsFixture({kTokens}, {0}).rows(), inputs, {base, 0, 0},
                           {base, 0, kHeads * kKey * kValue * 4},
                           View(out, {kTokens, kHeads, kValue}));
      all.insert(all.end(), out.begin(), out.end());
      all.insert(all.end(), slot.begin(), slot.end());
    }
  }
  EXPECT_EQ(Hash(all), 11770191752242052138ULL);
}

TEST_P(NumericPathTest, Sample) {
  std::vector<float> logits = numbers_.Take(40 * 500, -4.0f, 8.0f);
  std::vector<SampleRow> rows(40);
  for (size_t i = 0; i < rows.size(); ++i) {
    rows[i].seed = 42;
    rows[i].position = static_cast<int64_t>(i);
    rows[i].temperature = 0.8f;
    rows[i].top_k = i % 4 == 1 ? 50 : 0;
    rows[i].top_p = i % 4 == 2 ? 0.9f : 1.0f;
    rows[i].min_p = i % 4 == 3 ? 0.1f : 0.0f;
    rows[i].wants_log_prob = true;
  }
  std::vector<SampleResult> results(rows.size());
  backend_->Sample(View(logits, {40, 500}), rows, results);
  std::vector<float> all;
  for (const SampleResult& result : results) {
    all.push_back(static_cast<float>(result.token));
    all.push_back(result.log_prob);
  }
  EXPECT_EQ(Hash(all), 3563809270017858287ULL);
}

// The paths of the dot products, on the machines that have them.
class DotPathTest : public ::testing::TestWithParam<std::tuple<const char*, DType, uint64_t>> {};

TEST_P(DotPathTest, MatMul) {
  const auto& [path, dtype, hash] = GetParam();
  if (MachineTargets().back() != "v4dot") return;  // no other machine can have the path
  const auto backend = BackendOf("v4dot", 1, path);
  FixedNumbers numbers;
  std::vector<float> weight = numbers.Take(50 * 131, -1.0f, 2.0f);
  std::vector<float> x = numbers.Take(3 * 131, -1.0f, 2.0f);
  const Matrix matrix = *backend->PackMatrix(View(weight, {50, 131}), dtype);
  std::vector<float> out(3 * 50);
  backend->MatMul(View(x, {3, 131}), matrix, Tensor(), View(out, {3, 50}));
  EXPECT_EQ(Hash(out), hash);
}

INSTANTIATE_TEST_SUITE_P(
    Cpu, DotPathTest,
    ::testing::Values(std::tuple("bf16dot", DType::kBF16, uint64_t{9056585553737209176U}),
                      std::tuple("int8dot", DType::kI8, uint64_t{10952709003492751112U})),
    [](const auto& test) { return std::string(std::get<0>(test.param)); });

INSTANTIATE_TEST_SUITE_P(Cpu, NumericPathTest, ::testing::ValuesIn(MachineTargets()),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace eddy
