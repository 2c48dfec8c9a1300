// SPDX-License-Identifier: Apache-2.0
// What the RWKV families share: time mixes and channel mixes by turns, both of which see their
// input x together with what it was one token before, x + (before - x) mu for a mu of each use.
// Checkpoints name things in several ways, and official ones say their sizes by the tensors alone.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/config.h"
#include "engine/model.h"
#include "engine/sublayers/stack.h"
#include "engine/weights.h"

namespace eddy {

// How a checkpoint names what all of a family's have; a norm has .weight and .bias.
struct RwkvNames {
  std::string embedding;     // "emb.weight"
  std::string head;          // "head.weight"
  std::string final_norm;    // "ln_out"
  std::string blocks;        // "blocks.": a layer's number and names follow
  std::string first_norm;    // "ln0", in the first layer
  std::string time_norm;     // "ln1"
  std::string channel_norm;  // "ln2"
  std::string time;          // "att.", what a time mix's names begin with
  std::string channel;       // "ffn."

  std::string Layer(int64_t layer) const;
  std::string Time(int64_t layer) const { return Layer(layer) + time; }
  std::string Channel(int64_t layer) const { return Layer(layer) + channel; }
};

struct RwkvSettings {
  int64_t vocabulary_size = 0;
  int64_t hidden_size = 0;  // C
  int64_t layer_count = 0;
  int64_t feed_forward_size = 0;  // F
  bool first_norm = true;
  bool norm_bias = true;
  float norm_eps = 0.0f;
};

// Axis `axis`, counted from the last one, of a stored tensor; 0 when there is none.
int64_t StoredSize(const Weights& weights, const std::string& name, int axis);
// What the tensors say, from 1 to max; where they do not, what config.json says. For sizes that
// configurations are known to be wrong about.
absl::StatusOr<int64_t> StoredSizeOr(const Config& config, const std::string& key, int64_t max,
                                     int64_t stored);

// Refuses what makes another model of it, softmax attention above all. `inner` names a channel
// mix's matrix [F, C], behind RwkvNames::channel.
absl::StatusOr<RwkvSettings> ReadRwkvSettings(const Config& config, const Weights& weights,
                                              const RwkvNames& names, const std::string& inner);
// INVALID_ARGUMENT when a session would have more than 1 TiB of state; matrix_size numbers, at most
// 2^34, are in a layer's matrices.
absl::Status CheckRwkvState(const Config& config, const RwkvSettings& settings,
                            int64_t matrix_size);

// NAME.weight, and NAME.bias where norms have one.
Norm ReadRwkvNorm(Weights& weights, const RwkvSettings& settings, const std::string& name);

// Two matrices with little between them: up f(down x) + bias.
struct LowRank {
  Matrix down;  // [rank, in]
  Matrix up;    // [out, rank]
  Tensor bias;  // [out] or absent
};
struct LowRankShape {
  int64_t in_size = 0;
  int64_t rank = 0;
  int64_t out_size = 0;
  bool transposed = false;  // stored as [in, rank] and [rank, out]: official files say x w1 w2
};
LowRank ReadLowRank(Weights& weights, const LowRankShape& shape, const std::string& down,
                    const std::string& up);

// Makes the difference of a Product: before - x of step.normal.
struct TokenShift {
  StatePart last;  // [C]

  void Run(const Step& step, const Tensor& difference) const {
    step.backend.TokenShift(step.rows, step.normal, last.In(step.pool), difference);
  }
};

// Where the mixes of one layer are read.
struct RwkvLayer {
  Weights& weights;
  StackParts& stack;
  int64_t index = 0;

  TokenShift AddShift(const std::string& mix) {
    return {stack.AddVectors(StateName(mix + "_shift"), {stack.hidden_size})};
  }
  StatePart AddMatrices(const Shape& shape) { return stack.AddMatrices(StateName("s"), shape); }

 private:
  std::string StateName(const std::string& name) const;
};

using ReadRwkvMix = std::function<std::unique_ptr<Sublayer>(RwkvLayer layer)>;
struct RwkvMixes {
  ReadRwkvMix read_time;
  ReadRwkvMix read_channel;
  int64_t shared_size = 0;  // the stack's
};

// The whole model, from the lowest layer up.
absl::StatusOr<std::unique_ptr<Model>> MakeRwkvModel(const Config& config, Weights& weights,
                                                     Backend& backend, ModelInfo info,
                                                     const RwkvSettings& settings,
                                                     const RwkvNames& names,
                                                     const RwkvMixes& mixes);

}  // namespace eddy
