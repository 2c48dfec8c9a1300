// SPDX-License-Identifier: Apache-2.0
// The choices an op offers (Backend has the contracts). No other includes: kernels compiled for one
// target use it.
#pragma once

#include <cstdint>

namespace eddy {

enum class Activation : uint8_t {
  kRelu,
  kSquaredRelu,  // relu(x)^2
  kGelu,         // x Phi(x), the erf form
  kSilu,         // x sigmoid(x)
  kSigmoid,
  kTanh,
  kEluPlusOne,  // x + 1 above 0, exp(x) else
  kExp,
  kIdentity,
  kTwiceSigmoid,
  kExpMinusExp,  // exp(-exp(x))
};

enum class NormKind : uint8_t { kLayer, kRms, kL2, kSum };

struct NormOptions {
  NormKind kind = NormKind::kLayer;
  float eps = 0.0f;
  Activation gate = Activation::kSilu;  // f of the gate, where there is one: kSilu or kSigmoid
  bool gate_first = false;              // what is normalised is gated already
};

// What Mamba2Prepare keeps a token's step within.
struct StepRange {
  float min = 0.0f;
  float max = 3.40282347e38f;  // the largest float
};

// How a factor of decay is made from x; r = exp(rate) where there is one, else 1.
enum class DecayMap : uint8_t {
  kSoftplus,         // exp(-scale r softplus(x))
  kSoftplusOfMinus,  // exp(-scale r softplus(-x)), which is sigmoid(x)^(scale r)
  kBounded,          // exp(-scale sigmoid(r x))
};
struct DecayOptions {
  DecayMap map = DecayMap::kSoftplus;
  float scale = 1.0f;
  float log_min = -1e30f;  // the exponent is at least this
};

enum class Decay : uint8_t { kNone, kConstant, kScalar, kVector };
enum class Removal : uint8_t { kNone, kDelta, kGeneral };
enum class Read : uint8_t { kAfterWrite, kBeforeWriteWithBonus };
enum class Normaliser : uint8_t { kNone, kAddEps, kFloor };

// The options of one recurrence, equal for all its heads (architecture D6).
struct RecurrenceOptions {
  Decay decay = Decay::kNone;
  Removal removal = Removal::kNone;
  Read read = Read::kAfterWrite;
  Normaliser normaliser = Normaliser::kNone;
  float scale = 1.0f;           // s
  float normaliser_eps = 0.0f;  // added to, or the floor of, q.z
};

}  // namespace eddy
