// SPDX-License-Identifier: Apache-2.0
#include <cstdint>

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/row_vectors.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/vector_math.h"

namespace eddy::cpu::EDDY_TARGET {
namespace {

constexpr float kDecayScale = 0.606530660f;  // e^(-1/2)
constexpr float kKeyNormMin = 1e-12f;

void PrepareHead(const Rwkv7PrepareArgs& args, int64_t item) {
  const int64_t size = args.head_size;
  const int64_t at = item * size;
  const int64_t head_at = item % args.head_count * size;
  const float* key_scale = args.key_scale + head_at;
  const float* rate_scale = args.rate_scale + head_at;
  float* k = args.k + at;
  F32x16 squares = Zero();
  ForEachVector(0, size, [&](int64_t i, auto lanes) {
    const F32x16 kappa = LoadPartial(k + i, lanes) * LoadPartial(key_scale + i, lanes);
    squares = Fma(kappa, kappa, squares);
  });
  const float norm = __builtin_sqrtf(ReduceAdd(squares));
  const F32x16 inverse = Set(1.0f / (norm > kKeyNormMin ? norm : kKeyNormMin));
  ForEachVector(0, size, [&](int64_t i, auto lanes) {
    const F32x16 key = LoadPartial(k + i, lanes);
    const F32x16 kappa = key * LoadPartial(key_scale + i, lanes) * inverse;
    const F32x16 rate = Sigmoid(LoadPartial(args.rate + at + i, lanes));
    const F32x16 factor = Fma(rate - Set(1.0f), LoadPartial(rate_scale + i, lanes), Set(1.0f));
    StorePartial(k + i, key * factor, lanes);
    StorePartial(args.rate + at + i, kappa * rate, lanes);
    StorePartial(args.removal + at + i, Negate(kappa), lanes);
    const F32x16 decay = Sigmoid(LoadPartial(args.decay + at + i, lanes));
    StorePartial(args.decay + at + i, Exp(Set(-kDecayScale) * decay), lanes);
  });
  if (args.value_mix == nullptr) return;
  ForEachVector(0, size, [&](int64_t i, auto lanes) {
    const F32x16 v = LoadPartial(args.v + at + i, lanes);
    const F32x16 mix = Sigmoid(LoadPartial(args.value_mix + at + i, lanes));
    const F32x16 difference = LoadPartial(args.first_v + at + i, lanes) - v;
    StorePartial(args.v + at + i, Fma(difference, mix, v), lanes);
  });
}

void FinishHead(const Rwkv7FinishArgs& args, int64_t item) {
  const int64_t size = args.head_size;
  const int64_t at = item * size;
  const int64_t head_at = item % args.head_count * size;
  const float* y = args.y + at;
  F32x16 sum = Zero();
  F32x16 dots = Zero();
  ForEachVector(0, size, [&](int64_t i, auto lanes) {
    sum = sum + LoadPartial(y + i, lanes);
    const F32x16 rk = LoadPartial(args.r + at + i, lanes) * LoadPartial(args.k + at + i, lanes);
    dots = Fma(rk, LoadPartial(args.bonus + head_at + i, lanes), dots);
  });
  const auto count = static_cast<float>(size);
  const F32x16 mean = Set(ReduceAdd(sum) / count);
  const F32x16 bonus = Set(ReduceAdd(dots));
  F32x16 squares = Zero();
  ForEachVector(0, size, [&](int64_t i, auto lanes) {
    const F32x16 centred = KeepFirst(LoadPartial(y + i, lanes) - mean, lanes);
    squares = Fma(centred, centred, squares);
  });
  const F32x16 inverse = Set(1.0f / __builtin_sqrtf(ReduceAdd(squares) / count + args.eps));
  ForEachVector(0, size, [&](int64_t i, auto lanes) {
    const F32x16 normal = (LoadPartial(y + i, lanes) - mean) * inverse;
    const F32x16 scaled = Fma(normal, LoadPartial(args.norm_weight + head_at + i, lanes),
                              LoadPartial(args.norm_bias + head_at + i, lanes));
    const F32x16 read = Fma(bonus, LoadPartial(args.v + at + i, lanes), scaled);
    StorePartial(args.out + at + i, read * LoadPartial(args.gate + at + i, lanes), lanes);
  });
}

}  // namespace

void Rwkv7Prepare(const Rwkv7PrepareArgs& args, int64_t item_begin, int64_t item_end) {
  for (int64_t item = item_begin; item < item_end; ++item) PrepareHead(args, item);
}

void Rwkv7Finish(const Rwkv7FinishArgs& args, int64_t item_begin, int64_t item_end) {
  for (int64_t item = item_begin; item < item_end; ++item) FinishHead(args, item);
}

}  // namespace eddy::cpu::EDDY_TARGET
