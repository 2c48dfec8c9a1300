// SPDX-License-Identifier: Apache-2.0
#include <cstdint>

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/row_vectors.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/vector_math.h"

namespace eddy::cpu::EDDY_TARGET {
namespace {

inline const float* At(const float* base, int64_t offset) {
  return base == nullptr ? nullptr : base + offset;
}

inline F32x16 Gate(Activation f, F32x16 x) {
  return f == Activation::kSilu ? x * Sigmoid(x) : Sigmoid(x);
}

// 1 / sqrt(mean of (x - mean)^2 + eps), or of their sum for kL2.
inline float InverseDeviation(const NormArgs& args, const float* x, F32x16 mean) {
  F32x16 squares = Zero();
  ForEachVector(0, args.size, [&](int64_t i, auto lanes) {
    const F32x16 centred = KeepFirst(LoadPartial(x + i, lanes) - mean, lanes);
    squares = Fma(centred, centred, squares);
  });
  const float count = args.options.kind == NormKind::kL2 ? 1.0f : static_cast<float>(args.size);
  return 1.0f / __builtin_sqrtf(ReduceAdd(squares) / count + args.options.eps);
}

void NormaliseRow(const NormArgs& args, int64_t row) {
  const int64_t size = args.size;
  const NormKind kind = args.options.kind;
  const float* x = args.x + row * size;
  float* out = args.out + row * size;
  F32x16 sum = Zero();
  const float* gate = At(args.gate, row * size);
  if (args.residual != nullptr || args.sum != nullptr || args.options.gate_first) {
    const float* residual = At(args.residual, row * size);
    const bool gates = gate != nullptr && args.options.gate_first;
    float* kept = args.sum == nullptr ? out : args.sum + row * size;
    ForEachVector(0, size, [&](int64_t i, auto lanes) {
      F32x16 value = LoadPartial(x + i, lanes);
      if (residual != nullptr) value = value + LoadPartial(residual + i, lanes);
      if (gates) value = value * Gate(args.options.gate, LoadPartial(gate + i, lanes));
      StorePartial(kept + i, value, lanes);
      sum = sum + value;
    });
    x = kept;
  } else if (kind == NormKind::kLayer || kind == NormKind::kSum) {
    ForEachVector(0, size, [&](int64_t i, auto lanes) { sum = sum + LoadPartial(x + i, lanes); });
  }
  const auto count = static_cast<float>(size);
  const F32x16 mean = Set(kind == NormKind::kLayer ? ReduceAdd(sum) / count : 0.0f);
  const F32x16 inverse = Set(kind == NormKind::kSum ? 1.0f / (ReduceAdd(sum) + args.options.eps)
                                                    : InverseDeviation(args, x, mean));
  const int64_t group = args.weight_count == 1 ? 0 : row % args.weight_count;
  const float* weight = At(args.weight, group * size);
  const float* bias = At(args.bias, group * size);
  if (args.options.gate_first) gate = nullptr;
  ForEachVector(0, size, [&](int64_t i, auto lanes) {
    F32x16 y = (LoadPartial(x + i, lanes) - mean) * inverse;
    if (weight != nullptr && bias != nullptr) {
      y = Fma(y, LoadPartial(weight + i, lanes), LoadPartial(bias + i, lanes));
    } else if (weight != nullptr) {
      y = y * LoadPartial(weight + i, lanes);
    } else if (bias != nullptr) {
      y = y + LoadPartial(bias + i, lanes);
    }
    if (gate != nullptr) y = y * Gate(args.options.gate, LoadPartial(gate + i, lanes));
    StorePartial(out + i, y, lanes);
  });
}

}  // namespace

void Normalise(const NormArgs& args, int64_t row_begin, int64_t row_end) {
  for (int64_t row = row_begin; row < row_end; ++row) NormaliseRow(args, row);
}

}  // namespace eddy::cpu::EDDY_TARGET
