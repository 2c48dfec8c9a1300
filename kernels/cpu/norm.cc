// SPDX-License-Identifier: Apache-2.0
#include <cstdint>

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/simd.h"

namespace eddy::cpu::EDDY_TARGET {
namespace {

// Calls fn(index, lanes) for each vector of [0, size), the last one with the lanes that are left.
template <typename Fn>
inline void ForEachVector(int64_t size, const Fn& fn) {
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) fn(i, kLanes);
  if (i < size) fn(i, size - i);
}

void NormaliseRow(const LayerNormArgs& args, int64_t row) {
  const int64_t size = args.size;
  const float* x = args.x + row * size;
  float* out = args.out + row * size;
  F32x16 sum = Zero();
  if (args.residual != nullptr) {
    const float* residual = args.residual + row * size;
    ForEachVector(size, [&](int64_t i, int64_t lanes) {
      const F32x16 value = LoadPartial(x + i, lanes) + LoadPartial(residual + i, lanes);
      StorePartial(out + i, value, lanes);
      sum = sum + value;
    });
    x = out;
  } else {
    ForEachVector(size, [&](int64_t i, int64_t lanes) { sum = sum + LoadPartial(x + i, lanes); });
  }
  const auto count = static_cast<float>(size);
  const F32x16 mean = Set(ReduceAdd(sum) / count);
  F32x16 squares = Zero();
  ForEachVector(size, [&](int64_t i, int64_t lanes) {
    const F32x16 centred = KeepFirst(LoadPartial(x + i, lanes) - mean, lanes);
    squares = Fma(centred, centred, squares);
  });
  const float variance = ReduceAdd(squares) / count;
  const F32x16 inverse = Set(1.0f / __builtin_sqrtf(variance + args.eps));
  ForEachVector(size, [&](int64_t i, int64_t lanes) {
    const F32x16 normal = (LoadPartial(x + i, lanes) - mean) * inverse;
    const F32x16 y =
        Fma(normal, LoadPartial(args.weight + i, lanes), LoadPartial(args.bias + i, lanes));
    StorePartial(out + i, y, lanes);
  });
}

}  // namespace

void LayerNorm(const LayerNormArgs& args, int64_t row_begin, int64_t row_end) {
  for (int64_t row = row_begin; row < row_end; ++row) NormaliseRow(args, row);
}

}  // namespace eddy::cpu::EDDY_TARGET
