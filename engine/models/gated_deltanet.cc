// SPDX-License-Identifier: Apache-2.0
// Gated DeltaNet (arXiv 2412.06464), by fla's names. Per value head, which uses query and key head
// h / (H / G):
//   q, k, v = silu(conv(W x));  q, k <- q / |q|, k / |k| per head;  beta = sigmoid(W_b x)
//   S <- exp(-exp(A_log) softplus(W_a x + dt_bias)) S
//   u = beta (v - S^T k);  S <- S + k u^T;  o = K^(-1/2) S^T q
//   change = W_o (RMS(o) silu(W_g x))
// With allow_neg_eigval beta is twice as large.
#include <utility>

#include "engine/model_families.h"
#include "engine/sublayers/fla_block.h"
#include "kernels/status_macros.h"

namespace eddy {

absl::StatusOr<std::unique_ptr<Model>> MakeGatedDeltaNet(const Config& config, Weights& weights,
                                                         Backend& backend, ModelInfo info) {
  EDDY_ASSIGN_OR_RETURN(const FlaSettings settings, ReadFlaSettings(config));
  EDDY_RETURN_IF_ERROR(ExpectBool(config, "use_short_conv", true));
  EDDY_ASSIGN_OR_RETURN(const FlaHeads heads, ReadSizedHeads(config, 6, 256, 2.0f));
  EDDY_ASSIGN_OR_RETURN(const int64_t width, config.Int("conv_size", 1, 64, 4));
  EDDY_ASSIGN_OR_RETURN(const bool gated, config.Bool("use_gate", true));
  EDDY_ASSIGN_OR_RETURN(const bool negative, config.Bool("allow_neg_eigval", false));
  EDDY_RETURN_IF_ERROR(CheckStateSize(config, "num_heads", settings, heads));
  const auto read_mixer = [&](FlaMixerReader& reader) {
    LinearMixerParts parts = reader.Begin();
    reader.ReadDeltaRule(width, &parts);
    if (negative) parts.beta_activation = Activation::kTwiceSigmoid;
    parts.recurrence.decay = Decay::kScalar;
    parts.decay.weight = reader.ReadMatrix("a_proj", heads.head_count);
    parts.decay_rate = reader.ReadVector("A_log", {heads.head_count});
    parts.decay_bias = reader.ReadVector("dt_bias", {heads.head_count});
    reader.ReadEnd("o_norm", gated, &parts);
    return parts;
  };
  return MakeFlaModel(config, weights, backend, std::move(info), settings, heads, read_mixer);
}

}  // namespace eddy
