// SPDX-License-Identifier: Apache-2.0
// LinearMixer: the token mixer of linear attention and its kin, as a table of options. What each
// family chooses is in its file in engine/models/.
//
//   q, k, v = phi(activation(conv(W x)));  q, k <- norm(q), norm(k), rotated
//   S is moved by Backend::Recurrence with the family's decay and removal, and read by q
//   change = W_o (norm(y) f(gate))
#pragma once

#include <cstdint>
#include <optional>
#include <utility>

#include "engine/sublayers/stack.h"

namespace eddy {

// W x + b, or W (down x) + b through a few dimensions; nothing without weight.
struct Projection {
  Matrix down = {};    // [rank, D]
  Matrix weight = {};  // [out, D] or [out, rank]
  Tensor bias = {};    // [out]

  bool present() const { return weight.out_size > 0; }
};

// A query, key or value of all heads: f(silu(conv(W x))), or f(W x) without a convolution.
struct Stream {
  Matrix projection = {};                         // [channels, D]
  Tensor convolution = {};                        // [W, channels], or absent
  StatePart inputs = {};                          // of the convolution [W - 1, channels]
  Activation activation = Activation::kIdentity;  // f

  int64_t channel_count() const { return projection.out_size; }
};

// phi, of each head's K numbers x by themselves.
struct FeatureMap {
  enum class Kind : uint8_t {
    kNone,
    kRelu,      // relu(W x), "t2r"
    kProduct,   // (W x + b) (W' x + b'), "elementwise_product"
    kHedgehog,  // softmax of [2 (W x + b), -2 (W x + b)]: 2K numbers
  };
  Kind kind = Kind::kNone;
  Matrix weight = {}, second_weight = {};  // [K, K]
  Tensor bias = {}, second_bias = {};      // [K]

  int64_t FeatureSize(int64_t key_size) const {
    return kind == Kind::kHedgehog ? 2 * key_size : key_size;
  }
};

// H value heads of V numbers, G query and key heads of K, F of them behind the feature map.
struct LinearMixerParts {
  int64_t key_head_count = 0;  // G
  int64_t head_count = 0;      // H
  int64_t key_size = 0;        // K
  int64_t value_size = 0;      // V
  Stream query, key, value;
  FeatureMap query_map, key_map;
  bool key_uses_query_map = false;
  std::optional<NormOptions> query_norm, key_norm;  // of each head
  bool rotates = false;       // by the positions' angles, which are in step.shared [T, K]
  bool makes_angles = false;  // the lowest mixer: it writes them there

  RecurrenceOptions recurrence;
  Tensor constant_decay = {};  // [H]; Decay::kConstant
  Projection decay = {};       // [H] or [H K]; kScalar, kVector
  DecayOptions decay_options = {};
  Tensor decay_rate = {};  // [H], or absent
  Tensor decay_bias = {};  // [H] or [H, K], or absent
  // HGRN2: `key` projects what the decay is made of, and the key is 1 - decay.
  bool key_from_decay = false;
  Tensor decay_floor = {};  // [H K], or absent
  Projection beta = {};     // [H]; without one beta is 1
  Activation beta_activation = Activation::kSigmoid;

  Norm out_norm;              // weight [V] of each head, or [H V] of all together
  Projection gate = {};       // [H V], or absent
  Matrix out = {};            // [D, H V]
  StatePart state = {};       // [H, F, V]
  StatePart normaliser = {};  // [G, F], with a normaliser
};

class LinearMixer : public Sublayer {
 public:
  explicit LinearMixer(LinearMixerParts parts) : parts_(std::move(parts)) {}

  void Run(const Step& step) const override;

 private:
  struct Scratch;
  Scratch TakeScratch(const Step& step) const;
  void Project(const Step& step, const Scratch& scratch) const;
  void FinishStream(const Step& step, const Stream& stream, const Tensor& input,
                    const Tensor& out) const;
  const FeatureMap& key_map() const {
    return parts_.key_uses_query_map ? parts_.query_map : parts_.key_map;
  }
  void MapFeatures(const Step& step, const FeatureMap& map, const Tensor& x, const Tensor& second,
                   const Tensor& out) const;
  void PrepareKeys(const Step& step, const Scratch& scratch) const;
  void Recur(const Step& step, const Scratch& scratch) const;
  void Finish(const Step& step, const Scratch& scratch) const;

  const LinearMixerParts parts_;
};

}  // namespace eddy
