// SPDX-License-Identifier: Apache-2.0
// Gated Linear Attention (arXiv 2312.06635), by fla's names. Per head; D is diagonal:
//   q, k = f(W x), v = W_v x, with use_short_conv each through a convolution and silu first
//   D = exp(max(log sigmoid(W_1 W_0 x + b) / 16, clamp_min))
//   S <- D S + k v^T;  o = K^(-1/2) S^T q;  change = W_o (RMS(o) silu(W_g x))
#include <utility>

#include "engine/model_families.h"
#include "engine/sublayers/fla_block.h"
#include "kernels/status_macros.h"

namespace eddy {

absl::StatusOr<std::unique_ptr<Model>> MakeGla(const Config& config, Weights& weights,
                                               Backend& backend, ModelInfo info) {
  EDDY_ASSIGN_OR_RETURN(const FlaSettings settings, ReadFlaSettings(config));
  EDDY_ASSIGN_OR_RETURN(const FlaHeads heads,
                        ReadExpandedHeads(config, settings.hidden_size, 4, 0.5f, 1.0f));
  EDDY_RETURN_IF_ERROR(ExpectBool(config, "use_gk", true));
  EDDY_RETURN_IF_ERROR(ExpectBool(config, "use_gv", false));
  EDDY_ASSIGN_OR_RETURN(const bool gated, config.Bool("use_output_gate", true));
  EDDY_ASSIGN_OR_RETURN(const bool convolves, config.Bool("use_short_conv", false));
  EDDY_ASSIGN_OR_RETURN(const int64_t width, config.Int("conv_size", 1, 64, 4));
  if (convolves && heads.stored_head_count != heads.head_count) {
    return config.Error("num_kv_heads", "expected num_heads or null with use_short_conv");
  }
  EDDY_ASSIGN_OR_RETURN(const Activation map, ReadElementwiseMap(config));
  DecayOptions decay = {DecayMap::kSoftplusOfMinus, 1.0f / 16.0f};
  if (config.Has("clamp_min")) {
    EDDY_ASSIGN_OR_RETURN(decay.log_min, config.Float("clamp_min", -1e6f, 0.0f));
  }
  EDDY_RETURN_IF_ERROR(CheckStateSize(config, "num_heads", settings, heads));
  const auto read_mixer = [&](FlaMixerReader& reader) {
    LinearMixerParts parts = reader.Begin();
    reader.ReadStreams(convolves ? width : 0, &parts);
    parts.query.activation = parts.key.activation = map;
    parts.recurrence.decay = Decay::kVector;
    parts.decay = reader.ReadSharedLowRank("gk_proj", heads.key_size);
    parts.decay_options = decay;
    reader.ReadEnd(reader.GatedNormName(gated), gated, &parts);
    return parts;
  };
  return MakeFlaModel(config, weights, backend, std::move(info), settings, heads, read_mixer);
}

}  // namespace eddy
