// SPDX-License-Identifier: Apache-2.0
// The plain double-precision twin of every op but the recurrence and sampling, which have their
// own files. Written from the contracts in kernels/backend.h, with no thought of speed.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/op_options.h"

namespace eddy::reference {

// The value that bf16 storage keeps of `value`, by searching its two neighbours.
inline float RoundToBf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const auto below = std::bit_cast<float>(bits & 0xffff0000u);
  const auto above = std::bit_cast<float>((bits & 0xffff0000u) + 0x10000u);
  const double to_below = std::abs(static_cast<double>(value) - below);
  const double to_above = std::abs(static_cast<double>(above) - value);
  if (to_below != to_above) return to_below < to_above ? below : above;
  return (bits >> 16 & 1u) == 0 ? below : above;
}

// The values that int8 storage keeps of weights [out, in]: one scale for each output.
inline std::vector<float> RoundToInt8(const std::vector<float>& w, size_t out, size_t in) {
  std::vector<float> kept(w.size());
  for (size_t o = 0; o < out; ++o) {
    float max = 0.0f;
    for (size_t k = 0; k < in; ++k) max = std::fmax(max, std::fabs(w[o * in + k]));
    const float scale = max / 127.0f;
    for (size_t k = 0; k < in && scale > 0.0f; ++k) {
      kept[o * in + k] = scale * std::nearbyint(w[o * in + k] / scale);
    }
  }
  return kept;
}

// And int4: one scale for each output and 64 inputs, as bf16; the largest becomes -8.
inline std::vector<float> RoundToInt4(const std::vector<float>& w, size_t out, size_t in) {
  std::vector<float> kept(w.size());
  for (size_t o = 0; o < out; ++o) {
    for (size_t begin = o * in; begin < (o + 1) * in; begin += 64) {
      const size_t end = begin + 64 < (o + 1) * in ? begin + 64 : (o + 1) * in;
      float extreme = 0.0f;
      for (size_t i = begin; i < end; ++i) {
        if (std::fabs(w[i]) > std::fabs(extreme)) extreme = w[i];
      }
      const float scale = RoundToBf16(extreme / -8.0f);
      for (size_t i = begin; i < end && scale != 0.0f; ++i) {
        kept[i] = scale * std::fmin(7.0f, std::fmax(-8.0f, std::nearbyint(w[i] / scale)));
      }
    }
  }
  return kept;
}

// The values that x [rows, in] has as integers up to `limit`, one scale for each row.
inline std::vector<float> RoundToIntegers(const std::vector<float>& x, size_t in, float limit) {
  std::vector<float> kept(x.size());
  for (size_t begin = 0; begin < x.size(); begin += in) {
    float max = 0.0f;
    for (size_t i = begin; i < begin + in; ++i) max = std::fmax(max, std::fabs(x[i]));
    const float inverse = max > 0.0f ? limit / max : 0.0f;
    for (size_t i = begin; i < begin + in; ++i) {
      kept[i] = std::nearbyint(x[i] * inverse) * (max / limit);
    }
  }
  return kept;
}

// y [rows, out] = x [rows, in] w[out, in]^T + bias
inline std::vector<double> MatMul(const std::vector<float>& x, const std::vector<float>& w,
                                  const std::vector<float>& bias, size_t rows, size_t out,
                                  size_t in) {
  std::vector<double> y(rows * out);
  for (size_t r = 0; r < rows; ++r) {
    for (size_t o = 0; o < out; ++o) {
      double sum = 0.0;
      for (size_t k = 0; k < in; ++k) sum += double{x[r * in + k]} * w[o * in + k];
      y[r * out + o] = sum + (bias.empty() ? 0.0 : bias[o]);
    }
  }
  return y;
}

inline double Activate(Activation f, double x) {
  switch (f) {
    case Activation::kRelu:
      return x > 0 ? x : 0;
    case Activation::kSquaredRelu:
      return x > 0 ? x * x : 0;
    case Activation::kGelu:
      return x * 0.5 * std::erfc(-x / std::sqrt(2.0));
    case Activation::kSilu:
      return x / (1 + std::exp(-x));
    case Activation::kSigmoid:
      return 1 / (1 + std::exp(-x));
    case Activation::kTanh:
      return std::tanh(x);
    case Activation::kEluPlusOne:
      return x > 0 ? x + 1 : std::exp(x);
    case Activation::kExp:
      return std::exp(x);
    case Activation::kIdentity:
      return x;
    case Activation::kTwiceSigmoid:
      return 2 / (1 + std::exp(-x));
    case Activation::kExpMinusExp:
      return std::exp(-std::exp(x));
  }
  return NAN;
}

// What Normalise does with rows of `size` numbers; weight and bias have one row or one per group,
// and empty vectors are absent inputs.
struct Norm {
  NormOptions options;
  std::vector<float> x, residual, weight, bias, gate;

  std::vector<double> Out(size_t size) const {
    std::vector<double> y(x.size());
    for (size_t begin = 0; begin < x.size(); begin += size) {
      double mean = 0.0;
      double square = 0.0;
      for (size_t i = begin; i < begin + size; ++i) {
        y[i] = double{x[i]} + (residual.empty() ? 0.0 : residual[i]);
        if (options.gate_first) y[i] *= Activate(options.gate, gate[i]);
        if (options.kind == NormKind::kLayer) mean += y[i] / static_cast<double>(size);
      }
      for (size_t i = begin; i < begin + size; ++i) square += (y[i] - mean) * (y[i] - mean);
      if (options.kind != NormKind::kL2) square /= static_cast<double>(size);
      double sum = 0.0;
      for (size_t i = begin; i < begin + size; ++i) sum += y[i];
      const double divisor =
          options.kind == NormKind::kSum ? sum + options.eps : std::sqrt(square + options.eps);
      for (size_t i = begin; i < begin + size; ++i) {
        y[i] = (y[i] - mean) / divisor;
        if (!weight.empty()) y[i] *= weight[i % weight.size()];
        if (!bias.empty()) y[i] += bias[i % bias.size()];
        if (!gate.empty() && !options.gate_first) y[i] *= Activate(options.gate, gate[i]);
      }
    }
    return y;
  }
};

inline double Softplus(double x) { return std::fmax(x, 0.0) + std::log1p(std::exp(-std::abs(x))); }

// A factor of decay; rate is 1 where there is none.
inline double MakeDecay(const DecayOptions& options, double x, double rate) {
  double exponent = 0.0;
  switch (options.map) {
    case DecayMap::kSoftplus:
      exponent = rate * Softplus(x);
      break;
    case DecayMap::kSoftplusOfMinus:
      exponent = rate * Softplus(-x);
      break;
    case DecayMap::kBounded:
      exponent = 1 / (1 + std::exp(-rate * x));
      break;
  }
  return std::exp(std::fmax(-options.scale * exponent, options.log_min));
}

// One token's [size] sines and cosines.
inline std::vector<double> Sinusoid(int64_t position, int64_t size) {
  std::vector<double> out;
  for (int64_t i = 0; i < size; i += 2) {
    const long double angle =
        static_cast<long double>(position) *
        std::pow(10000.0L, -static_cast<long double>(i) / static_cast<long double>(size));
    out.push_back(static_cast<double>(std::sin(angle)));
    out.push_back(static_cast<double>(std::cos(angle)));
  }
  return out;
}

}  // namespace eddy::reference
