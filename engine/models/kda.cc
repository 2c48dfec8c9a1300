// SPDX-License-Identifier: Apache-2.0
// Kimi Delta Attention (arXiv 2510.26692) in a model of nothing else, by fla's names. Per value
// head, which uses query and key head h / (H / G); D is diagonal:
//   q, k, v = silu(conv(W x));  q, k <- q / |q|, k / |k| per head;  beta = sigmoid(W_b x)
//   f = W_f1 W_f0 x + dt_bias;  D = exp(-exp(A_log) softplus(f)), or with a lower bound l < 0
//   D = exp(l sigmoid(exp(A_log) f))
//   S <- D S;  u = beta (v - S^T k);  S <- S + k u^T;  o = K^(-1/2) S^T q
//   change = W_o (RMS(o) sigmoid(W_g1 W_g0 x + b))
// With allow_neg_eigval beta is twice as large.
#include <utility>

#include "engine/model_families.h"
#include "engine/sublayers/fla_block.h"
#include "kernels/status_macros.h"

namespace eddy {

absl::StatusOr<std::unique_ptr<Model>> MakeKda(const Config& config, Weights& weights,
                                               Backend& backend, ModelInfo info) {
  EDDY_ASSIGN_OR_RETURN(const FlaSettings settings, ReadFlaSettings(config));
  EDDY_RETURN_IF_ERROR(ExpectBool(config, "use_short_conv", true));
  EDDY_ASSIGN_OR_RETURN(const FlaHeads heads, ReadSizedHeads(config, 16, 128, 1.0f));
  EDDY_ASSIGN_OR_RETURN(const int64_t width, config.Int("conv_size", 1, 64, 4));
  EDDY_ASSIGN_OR_RETURN(const bool negative, config.Bool("allow_neg_eigval", false));
  DecayOptions decay = {DecayMap::kSoftplus};
  if (config.Has("lower_bound")) {
    EDDY_ASSIGN_OR_RETURN(const float bound, config.Float("lower_bound", -1e3f, -1e-6f));
    decay = {DecayMap::kBounded, -bound};
  }
  EDDY_RETURN_IF_ERROR(CheckStateSize(config, "num_heads", settings, heads));
  const auto read_mixer = [&](FlaMixerReader& reader) {
    LinearMixerParts parts = reader.Begin();
    reader.ReadDeltaRule(width, &parts);
    if (negative) parts.beta_activation = Activation::kTwiceSigmoid;
    const int64_t decays = heads.head_count * heads.key_size;
    parts.recurrence.decay = Decay::kVector;
    parts.decay = reader.ReadLowRank("f_proj", decays, /*has_bias=*/false);
    parts.decay_options = decay;
    parts.decay_rate = reader.ReadVector("A_log", {heads.head_count});
    parts.decay_bias =
        reader.ReadVector("dt_bias", {decays}).As({heads.head_count, heads.key_size});
    parts.gate = reader.ReadLowRank("g_proj", heads.values(), /*has_bias=*/true);
    parts.out_norm.options.gate = Activation::kSigmoid;
    reader.ReadEnd("o_norm", /*gated=*/false, &parts);
    return parts;
  };
  return MakeFlaModel(config, weights, backend, std::move(info), settings, heads, read_mixer);
}

}  // namespace eddy
