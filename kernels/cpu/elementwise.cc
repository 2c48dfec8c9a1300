// SPDX-License-Identifier: Apache-2.0
#include <cstdint>

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/row_vectors.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/vector_math.h"

namespace eddy::cpu::EDDY_TARGET {
namespace {

// Calls run(f) with the function of a vector that `f` names.
template <typename Run>
inline void WithFunction(Activation f, const Run& run) {
  switch (f) {
    case Activation::kRelu:
      return run([](F32x16 v) { return Max(Zero(), v); });
    case Activation::kSquaredRelu:
      return run([](F32x16 v) { return Max(Zero(), v) * Max(Zero(), v); });
    case Activation::kGelu:
      return run([](F32x16 v) { return Gelu(v); });
    case Activation::kSilu:
      return run([](F32x16 v) { return v * Sigmoid(v); });
    case Activation::kSigmoid:
      return run([](F32x16 v) { return Sigmoid(v); });
    case Activation::kTanh:
      return run([](F32x16 v) { return Tanh(v); });
    case Activation::kEluPlusOne:
      return run([](F32x16 v) { return Select(Less(Zero(), v), v + Set(1.0f), Exp(v)); });
    case Activation::kExp:
      return run([](F32x16 v) { return Exp(v); });
    case Activation::kIdentity:
      return run([](F32x16 v) { return v; });
    case Activation::kTwiceSigmoid:
      return run([](F32x16 v) { return Set(2.0f) * Sigmoid(v); });
    case Activation::kExpMinusExp:
      return run([](F32x16 v) { return Exp(Negate(Exp(v))); });
  }
}

}  // namespace

void Activate(Activation f, const float* x, float* out, int64_t count) {
  WithFunction(f, [=](auto function) {
    ForEachVector(0, count, [&](int64_t i, auto lanes) {
      StorePartial(out + i, function(LoadPartial(x + i, lanes)), lanes);
    });
  });
}

void Gate(Activation f, const float* x, const float* y, float* out, int64_t count) {
  WithFunction(f, [=](auto function) {
    ForEachVector(0, count, [&](int64_t i, auto lanes) {
      const F32x16 value = function(LoadPartial(x + i, lanes));
      StorePartial(out + i, value * LoadPartial(y + i, lanes), lanes);
    });
  });
}

void TokenMatMul(const TokenMatMulArgs& args, int64_t token_begin, int64_t token_end) {
  const int64_t in_size = args.in_size, out_size = args.out_size;
  for (int64_t token = token_begin; token < token_end; ++token) {
    const float* x = args.x + token * in_size;
    const float* a = args.a + token * in_size * out_size;
    const float* b = args.b + token * in_size * out_size;
    ForEachVector(0, out_size, [&](int64_t column, auto lanes) {
      F32x16 sum = Zero();
      for (int64_t i = 0; i < in_size; ++i) {
        const int64_t at = i * out_size + column;
        sum = Fma(Set(x[i]), LoadPartial(a + at, lanes) + LoadPartial(b + at, lanes), sum);
      }
      StorePartial(args.out + token * out_size + column, sum, lanes);
    });
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
