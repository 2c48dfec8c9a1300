// SPDX-License-Identifier: Apache-2.0
#include <cstdint>

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/vector_math.h"

namespace eddy::cpu::EDDY_TARGET {
namespace {

template <typename Fn>
inline void Map(const float* x, float* out, int64_t count, const Fn& fn) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) Store(out + i, fn(Load(x + i)));
  if (i < count) StorePartial(out + i, fn(LoadPartial(x + i, count - i)), count - i);
}

}  // namespace

void Activate(Activation f, const float* x, float* out, int64_t count) {
  switch (f) {
    case Activation::kRelu:
      return Map(x, out, count, [](F32x16 v) { return Max(Zero(), v); });
    case Activation::kSquaredRelu:
      return Map(x, out, count, [](F32x16 v) { return Max(Zero(), v) * Max(Zero(), v); });
    case Activation::kGelu:
      return Map(x, out, count, [](F32x16 v) { return Gelu(v); });
    case Activation::kSilu:
      return Map(x, out, count, [](F32x16 v) { return v * Sigmoid(v); });
    case Activation::kSigmoid:
      return Map(x, out, count, [](F32x16 v) { return Sigmoid(v); });
    case Activation::kTanh:
      return Map(x, out, count, [](F32x16 v) { return Tanh(v); });
    case Activation::kEluPlusOne:
      return Map(x, out, count,
                 [](F32x16 v) { return Select(Less(Zero(), v), v + Set(1.0f), Exp(v)); });
    case Activation::kExp:
      return Map(x, out, count, [](F32x16 v) { return Exp(v); });
  }
}

void EmbedRow(const void* table_row, DType dtype, float* out, int64_t size) {
  if (dtype == DType::kBF16) {
    const auto* row = static_cast<const uint16_t*>(table_row);
    for (int64_t i = 0; i < size; ++i) out[i] = Bf16ToF32(row[i]);
  } else {
    const auto* row = static_cast<const float*>(table_row);
    for (int64_t i = 0; i < size; ++i) out[i] = row[i];
  }
}

void SinusoidRow(int64_t position, float* out, int64_t size) {
  const double log_base = 9.210340371976184;  // ln 10000
  const auto p = static_cast<double>(position);
  for (int64_t i = 0; i < size; i += 2) {
    const double frequency = ExpF64(-log_base * static_cast<double>(i) / static_cast<double>(size));
    const double angle = p * frequency;
    double sine = 0.0;
    double cosine = 0.0;
    SinCosF64(angle, __builtin_fma(p, frequency, -angle), &sine, &cosine);
    out[i] = static_cast<float>(sine);
    out[i + 1] = static_cast<float>(cosine);
  }
}

}  // namespace eddy::cpu::EDDY_TARGET
