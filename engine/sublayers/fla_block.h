// SPDX-License-Identifier: Apache-2.0
// What the models of flash-linear-attention (fla) share: settings, names of tensors, the SwiGLU
// layer, and the ways their mixers are read. A family's file in engine/models/ has the rest.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/config.h"
#include "engine/model.h"
#include "engine/sublayers/linear_mixer.h"
#include "engine/sublayers/stack.h"
#include "engine/weights.h"

namespace eddy {

inline constexpr float kFlaL2Eps = 1e-6f;

struct FlaSettings {
  int64_t vocabulary_size = 0;
  int64_t hidden_size = 0;  // D
  int64_t layer_count = 0;
  int64_t feed_forward_size = 0;
  bool tied = false;  // the head is the embedding
  float norm_eps = 0.0f;
};

// Refuses what makes another model of it, softmax attention in some layers above all (its memory
// grows with every token).
absl::StatusOr<FlaSettings> ReadFlaSettings(const Config& config, int64_t default_hidden_ratio = 4);

// H value heads of V numbers, G query and key heads of K numbers; key and value projections may
// have fewer heads (num_kv_heads), each used by as many query heads.
struct FlaHeads {
  int64_t key_head_count = 0;     // G
  int64_t head_count = 0;         // H, a multiple of G
  int64_t stored_head_count = 0;  // of the tensors of keys and values; divides both
  int64_t key_size = 0;           // K
  int64_t value_size = 0;         // V

  int64_t keys() const { return key_head_count * key_size; }
  int64_t values() const { return head_count * value_size; }
};

// K = expand_k D / num_heads and V = expand_v D / num_heads, in num_heads heads.
absl::StatusOr<FlaHeads> ReadExpandedHeads(const Config& config, int64_t hidden_size,
                                           int64_t default_head_count, float default_expand_k,
                                           float default_expand_v);
// K = head_dim and V = expand_v head_dim, in num_heads and num_v_heads heads.
absl::StatusOr<FlaHeads> ReadSizedHeads(const Config& config, int64_t default_head_count,
                                        int64_t default_head_dim, float default_expand_v);

// INVALID_ARGUMENT, naming `key`, when a session would have more than 1 TiB of state.
absl::Status CheckStateSize(const Config& config, const std::string& key,
                            const FlaSettings& settings, const FlaHeads& heads);

// Refuses a boolean that is not `wanted` (which is the default too): the other value is another
// model.
absl::Status ExpectBool(const Config& config, const std::string& key, bool wanted);

// feature_map of GLA and RetNet: null, or the name of an elementwise function.
absl::StatusOr<Activation> ReadElementwiseMap(const Config& config);

// Reads the mixer of one layer.
class FlaMixerReader {
 public:
  FlaMixerReader(Weights& weights, StackParts& stack, const FlaSettings& settings,
                 const FlaHeads& heads, int64_t layer);

  int64_t layer() const { return layer_; }
  std::string Name(const std::string& suffix) const { return prefix_ + suffix; }
  bool Has(const std::string& suffix) const {
    return weights_.StoredShape(Name(suffix)).has_value();
  }
  // NAME.weight [out, D].
  Matrix ReadMatrix(const std::string& name, int64_t out_size);
  Tensor ReadVector(const std::string& name, const Shape& shape) {
    return weights_.ReadVector(Name(name), shape);
  }
  // NAME.0.weight [rank, D], the rank as stored, and NAME.1.weight [out, rank] with NAME.1.bias.
  Projection ReadLowRank(const std::string& name, int64_t out_size, bool has_bias);
  // The same, with a bias, of `size` numbers for each head of keys.
  Projection ReadSharedLowRank(const std::string& name, int64_t size);
  // LETTER_proj.weight, and with a convolution width above 0 LETTER_conv1d.weight.
  Stream ReadStream(const std::string& letter, int64_t channels, int64_t convolution_width);
  // Those of q, k and v.
  void ReadStreams(int64_t convolution_width, LinearMixerParts* parts);
  // Those of the delta rule, its L2 norms, and beta (b_proj) where it has one.
  void ReadDeltaRule(int64_t convolution_width, LinearMixerParts* parts, bool has_beta = true);
  FeatureMap ReadFeatureMap(const std::string& name, FeatureMap::Kind kind);
  bool HasFeatureMap(const std::string& name) const;
  // The file may have one of this name.
  void IgnoreFeatureMap(const std::string& name);
  // Where fla has the weight of each head's norm with a gate by silu: it depends on its kernels.
  std::string GatedNormName(bool gated) const;
  // The state; the norm of the output NORM.weight, [V] for each head or [norm_size] for all; the
  // gate g_proj where `gated`; and o_proj.
  void ReadEnd(const std::string& norm, bool gated, LinearMixerParts* parts, int64_t norm_size = 0);
  // What all have: heads, the scale, the norm's kind.
  LinearMixerParts Begin() const;

 private:
  // NAME [stored heads size, columns], repeated for the heads that share them.
  Matrix ReadSharedMatrix(const std::string& name, int64_t size, int64_t columns);
  std::vector<float> ReadShared(const std::string& name, int64_t size, int64_t columns);

  Weights& weights_;
  StackParts& stack_;
  const FlaSettings& settings_;
  const FlaHeads& heads_;
  const int64_t layer_;
  const std::string prefix_;  // "model.layers.3.attn."
  const std::string state_;   // "layers.3."
};

using ReadFlaMixer = std::function<LinearMixerParts(FlaMixerReader&)>;

// The whole model: `read_mixer` is called for each layer from the lowest. shared_size is the
// stack's.
absl::StatusOr<std::unique_ptr<Model>> MakeFlaModel(const Config& config, Weights& weights,
                                                    Backend& backend, ModelInfo info,
                                                    const FlaSettings& settings,
                                                    const FlaHeads& heads,
                                                    const ReadFlaMixer& read_mixer,
                                                    int64_t shared_size = 0);

}  // namespace eddy
