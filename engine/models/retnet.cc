// SPDX-License-Identifier: Apache-2.0
// RetNet (arXiv 2307.08621) in fla's layout. Per head h = 0, 1, ..., gamma = 1 - 2^(-5 - h):
//   q, k = rotated f(W x), by the session's position (RoPE of base 10,000 over the whole head)
//   S <- gamma S + k v^T;  o = K^(-1/2) S^T q;  change = W_o (RMS(o) silu(W_g x))
#include <cmath>
#include <utility>
#include <vector>

#include "engine/model_families.h"
#include "engine/sublayers/fla_block.h"
#include "kernels/status_macros.h"

namespace eddy {

absl::StatusOr<std::unique_ptr<Model>> MakeRetNet(const Config& config, Weights& weights,
                                                  Backend& backend, ModelInfo info) {
  EDDY_ASSIGN_OR_RETURN(const FlaSettings settings, ReadFlaSettings(config, 2));
  EDDY_ASSIGN_OR_RETURN(const FlaHeads heads,
                        ReadExpandedHeads(config, settings.hidden_size, 8, 1.0f, 2.0f));
  if (heads.key_size % 2 != 0) {
    return config.Error("num_heads", "which makes heads of an odd size, and halves are rotated");
  }
  EDDY_ASSIGN_OR_RETURN(const bool gated, config.Bool("use_output_gate", true));
  EDDY_ASSIGN_OR_RETURN(const Activation map, ReadElementwiseMap(config));
  EDDY_RETURN_IF_ERROR(CheckStateSize(config, "num_heads", settings, heads));
  std::vector<float> gamma;
  for (int64_t h = 0; h < heads.head_count; ++h) {
    gamma.push_back(static_cast<float>(1.0 - std::exp2(-5.0 - static_cast<double>(h))));
  }
  Tensor decay;  // the same in all layers
  const auto read_mixer = [&](FlaMixerReader& reader) {
    LinearMixerParts parts = reader.Begin();
    reader.ReadStreams(0, &parts);
    parts.query.activation = parts.key.activation = map;
    parts.rotates = true;
    parts.makes_angles = reader.layer() == 0;
    parts.recurrence.decay = Decay::kConstant;
    if (!decay.present()) {
      decay = weights.UploadNumbers(reader.Name("o_proj.weight"), gamma, {heads.head_count});
    }
    parts.constant_decay = decay;
    reader.ReadEnd(reader.GatedNormName(gated), gated, &parts);
    return parts;
  };
  return MakeFlaModel(config, weights, backend, std::move(info), settings, heads, read_mixer,
                      heads.key_size);
}

}  // namespace eddy
