// SPDX-License-Identifier: Apache-2.0
// DeltaNet (arXiv 2406.06484), by fla's names. Per head:
//   q, k = f(conv(W x));  v = silu(conv(W_v x));  q, k <- q / |q|, k / |k|;  beta = sigmoid(W_b x)
//   u = beta (v - S^T k);  S <- S + k u^T;  o = K^(-1/2) S^T q
//   change = W_o RMS(o), or with use_gate W_o (RMS(o) silu(W_g x))
// f is silu, relu, elu + 1 or nothing (qk_activation). The norm may be the sum (qk_norm "sum")
// where f leaves nothing negative. With allow_neg_eigval beta is twice as large, without use_beta
// it is 1.
#include <string_view>
#include <utility>

#include "engine/model_families.h"
#include "engine/sublayers/fla_block.h"
#include "kernels/status_macros.h"

namespace eddy {
namespace {

struct Options {
  int64_t convolution_width = 0;  // 0: none
  bool gated = false;
  bool has_beta = true;
  bool negative_eigenvalues = false;
  Activation activation = Activation::kSilu;  // f
  NormOptions norm;
};

absl::StatusOr<Options> ReadOptions(const Config& config) {
  Options options;
  EDDY_ASSIGN_OR_RETURN(const bool convolves, config.Bool("use_short_conv", true));
  EDDY_ASSIGN_OR_RETURN(const int64_t width, config.Int("conv_size", 1, 64, 4));
  options.convolution_width = convolves ? width : 0;
  EDDY_ASSIGN_OR_RETURN(options.gated, config.Bool("use_gate", false));
  EDDY_ASSIGN_OR_RETURN(options.has_beta, config.Bool("use_beta", true));
  EDDY_ASSIGN_OR_RETURN(options.negative_eigenvalues, config.Bool("allow_neg_eigval", false));
  EDDY_RETURN_IF_ERROR(ExpectBool(config, "use_output_norm", true));
  constexpr std::string_view kActivations[] = {"silu", "relu", "elu", "identity"};
  constexpr Activation kFunctions[] = {Activation::kSilu, Activation::kRelu,
                                       Activation::kEluPlusOne, Activation::kIdentity};
  EDDY_ASSIGN_OR_RETURN(const size_t activation, config.Choice("qk_activation", kActivations, 0));
  options.activation = kFunctions[activation];
  constexpr std::string_view kNorms[] = {"l2", "sum"};
  EDDY_ASSIGN_OR_RETURN(const size_t norm, config.Choice("qk_norm", kNorms, 0));
  options.norm = norm == 0 ? NormOptions{NormKind::kL2, kFlaL2Eps} : NormOptions{NormKind::kSum};
  if (convolves && options.activation != Activation::kSilu) {
    return config.Error("qk_activation", "expected \"silu\" with use_short_conv");
  }
  if (norm == 1 && options.activation != Activation::kRelu &&
      options.activation != Activation::kEluPlusOne) {
    return config.Error("qk_norm",
                        "expected \"l2\": the numbers may be negative, whatever their sum");
  }
  return options;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Model>> MakeDeltaNet(const Config& config, Weights& weights,
                                                    Backend& backend, ModelInfo info) {
  EDDY_ASSIGN_OR_RETURN(const FlaSettings settings, ReadFlaSettings(config));
  EDDY_ASSIGN_OR_RETURN(const FlaHeads heads,
                        ReadExpandedHeads(config, settings.hidden_size, 16, 1.0f, 1.0f));
  if (heads.stored_head_count != heads.head_count) {
    return config.Error("num_kv_heads", "expected num_heads or null");
  }
  EDDY_ASSIGN_OR_RETURN(const Options options, ReadOptions(config));
  EDDY_RETURN_IF_ERROR(CheckStateSize(config, "num_heads", settings, heads));
  const auto read_mixer = [&](FlaMixerReader& reader) {
    LinearMixerParts parts = reader.Begin();
    reader.ReadDeltaRule(options.convolution_width, &parts, options.has_beta);
    if (options.convolution_width == 0) {  // else the convolution has silu behind it
      parts.query.activation = parts.key.activation = options.activation;
      parts.value.activation = Activation::kSilu;
    }
    parts.query_norm = parts.key_norm = options.norm;
    if (options.negative_eigenvalues) parts.beta_activation = Activation::kTwiceSigmoid;
    reader.ReadEnd("o_norm", options.gated, &parts);
    return parts;
  };
  return MakeFlaModel(config, weights, backend, std::move(info), settings, heads, read_mixer);
}

}  // namespace eddy
