// SPDX-License-Identifier: Apache-2.0
// What linear attention's mixers make of their projections before the recurrence.
#include <cstdint>

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/row_vectors.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/vector_math.h"

namespace eddy::cpu::EDDY_TARGET {
namespace {

inline F32x16 DecayOf(const DecayOptions& options, F32x16 rate, F32x16 x) {
  F32x16 exponent;
  switch (options.map) {
    case DecayMap::kSoftplus:
      exponent = rate * Softplus(x);
      break;
    case DecayMap::kSoftplusOfMinus:
      exponent = rate * Softplus(Negate(x));
      break;
    case DecayMap::kBounded:
      exponent = Sigmoid(rate * x);
      break;
  }
  exponent = Set(-options.scale) * exponent;
  return Exp(Max(Set(options.log_min), exponent));
}

}  // namespace

void MakeDecay(const MakeDecayArgs& args, int64_t token_begin, int64_t token_end) {
  const int64_t size = args.head_count * args.key_size;
  // Numbers [begin, end) of a token, whose rates rate(i, lanes) gives.
  const auto make = [&](float* decay, int64_t begin, int64_t end, const auto& rate) {
    ForEachVector(begin, end, [&](int64_t i, auto lanes) {
      F32x16 x = LoadPartial(decay + i, lanes);
      if (args.bias != nullptr) x = x + LoadPartial(args.bias + i, lanes);
      StorePartial(decay + i, DecayOf(args.options, rate(i, lanes), x), lanes);
    });
  };
  for (int64_t token = token_begin; token < token_end; ++token) {
    float* decay = args.decay + token * size;
    if (args.rate == nullptr) {
      make(decay, 0, size, [](int64_t, auto) { return Set(1.0f); });
    } else if (args.key_size == 1) {
      make(decay, 0, size,
           [&](int64_t i, auto lanes) { return Exp(LoadPartial(args.rate + i, lanes)); });
    } else {
      for (int64_t head = 0; head < args.head_count; ++head) {
        const F32x16 rate = Exp(Set(args.rate[head]));
        make(decay, head * args.key_size, (head + 1) * args.key_size,
             [rate](int64_t, auto) { return rate; });
      }
    }
  }
}

void Hgrn2Prepare(const Hgrn2PrepareArgs& args, int64_t token_begin, int64_t token_end) {
  for (int64_t token = token_begin; token < token_end; ++token) {
    float* decay = args.decay + token * args.size;
    float* key = args.key + token * args.size;
    ForEachVector(0, args.size, [&](int64_t i, auto lanes) {
      const F32x16 x = LoadPartial(decay + i, lanes);
      const F32x16 floor = args.floor == nullptr ? Zero() : LoadPartial(args.floor + i, lanes);
      const F32x16 rest = Set(1.0f) - floor;
      StorePartial(decay + i, Fma(rest, Sigmoid(x), floor), lanes);
      StorePartial(key + i, rest * Sigmoid(Negate(x)), lanes);
    });
  }
}

void Mamba2Prepare(const Mamba2PrepareArgs& args, int64_t token_begin, int64_t token_end) {
  const F32x16 min = Set(args.range.min), max = Set(args.range.max);
  for (int64_t token = token_begin; token < token_end; ++token) {
    float* step = args.step + token * args.head_count;
    float* decay = args.decay + token * args.head_count;
    ForEachVector(0, args.head_count, [&](int64_t i, auto lanes) {
      const F32x16 x = LoadPartial(step + i, lanes) + LoadPartial(args.bias + i, lanes);
      const F32x16 kept = Max(min, Min(max, Softplus(x)));  // a NaN stays one
      StorePartial(step + i, kept, lanes);
      StorePartial(decay + i, Exp(Negate(Exp(LoadPartial(args.rate + i, lanes)) * kept)), lanes);
    });
  }
}

void Rotate(const RotateArgs& args, int64_t token_begin, int64_t token_end) {
  const int64_t half = args.key_size / 2;
  for (int64_t token = token_begin; token < token_end; ++token) {
    const float* angles = args.angles + token * args.key_size;
    for (int64_t head = 0; head < args.head_count; ++head) {
      float* low = args.x + (token * args.head_count + head) * args.key_size;
      float* high = low + half;
      for (int64_t i = 0; i < half; ++i) {
        const float sine = angles[2 * i], cosine = angles[2 * i + 1];
        const float a = low[i], b = high[i];
        low[i] = a * cosine - b * sine;
        high[i] = b * cosine + a * sine;
      }
    }
  }
}

void SignedSoftmax(const float* x, float* out, int64_t row_count, int64_t size) {
  for (int64_t row = 0; row < row_count; ++row) {
    const float* from = x + row * size;
    float* to = out + row * size * 2;
    F32x16 largest = Zero();
    ForEachVector(0, size, [&](int64_t i, auto lanes) {
      largest = Max(largest, Abs(LoadPartial(from + i, lanes)));
    });
    const F32x16 max = Set(2.0f * ReduceMax(largest));
    F32x16 sum = Zero();
    const auto exponentiate = [&](float factor, float* half) {
      ForEachVector(0, size, [&](int64_t i, auto lanes) {
        const F32x16 e = Exp(Set(factor) * LoadPartial(from + i, lanes) - max);
        StorePartial(half + i, e, lanes);
        sum = sum + KeepFirst(e, lanes);
      });
    };
    exponentiate(2.0f, to);
    exponentiate(-2.0f, to + size);
    const F32x16 inverse = Set(1.0f / ReduceAdd(sum));
    ForEachVector(0, size * 2, [&](int64_t i, auto lanes) {
      StorePartial(to + i, LoadPartial(to + i, lanes) * inverse, lanes);
    });
  }
}

}  // namespace eddy::cpu::EDDY_TARGET
