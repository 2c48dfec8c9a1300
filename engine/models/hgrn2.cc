// SPDX-License-Identifier: Apache-2.0
// HGRN2 (arXiv 2404.07904), by fla's names. Per head of K = expand_ratio keys; D is diagonal:
//   q = silu(W_q x);  D = lambda + (1 - lambda) sigmoid(W_f x);  k = 1 - D;  v = W_i x
//   S <- D S + k v^T;  o = K^(-1/2) S^T q;  change = W_o RMS(all heads' o)
// With use_lower_bound, lambda of layer i > 0 is the sum over layers 1 to i of
// softmax(lower_bounds) over the layers; else it is 0.
#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/model_families.h"
#include "engine/sublayers/fla_block.h"
#include "kernels/status_macros.h"

namespace eddy {
namespace {

// fla calls this norm without the configuration's eps.
constexpr float kOutNormEps = 1e-5f;

// lambda of every layer [layer, size], from `bounds` of the same shape.
std::vector<float> LowerBounds(const std::vector<float>& bounds, size_t layer_count, size_t size) {
  std::vector<float> lambda(bounds.size());
  for (size_t c = 0; c < size; ++c) {
    double max = bounds[c], sum = 0.0, mass = 0.0;
    for (size_t i = 1; i < layer_count; ++i) max = std::max(max, double{bounds[i * size + c]});
    for (size_t i = 0; i < layer_count; ++i) sum += std::exp(bounds[i * size + c] - max);
    for (size_t i = 1; i < layer_count; ++i) {
      mass += std::exp(bounds[i * size + c] - max) / sum;
      lambda[i * size + c] = static_cast<float>(mass);
    }
  }
  return lambda;
}

absl::StatusOr<FlaHeads> ReadHeads(const Config& config, int64_t hidden_size) {
  FlaHeads heads;
  EDDY_ASSIGN_OR_RETURN(heads.key_size, config.Int("expand_ratio", 1, 4096, 128));
  const int64_t fallback = std::max<int64_t>(hidden_size / heads.key_size, 1);
  EDDY_ASSIGN_OR_RETURN(heads.head_count, config.Int("num_heads", 1, 4096, fallback));
  if (hidden_size % heads.head_count != 0) {
    return config.Error("hidden_size",
                        absl::StrCat("expected a multiple of the ", heads.head_count, " heads"));
  }
  heads.key_head_count = heads.stored_head_count = heads.head_count;
  heads.value_size = hidden_size / heads.head_count;
  return heads;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Model>> MakeHgrn2(const Config& config, Weights& weights,
                                                 Backend& backend, ModelInfo info) {
  EDDY_ASSIGN_OR_RETURN(const FlaSettings settings, ReadFlaSettings(config));
  EDDY_ASSIGN_OR_RETURN(const FlaHeads heads, ReadHeads(config, settings.hidden_size));
  EDDY_ASSIGN_OR_RETURN(const bool bounded, config.Bool("use_lower_bound", true));
  EDDY_RETURN_IF_ERROR(ExpectBool(config, "use_short_conv", false));
  EDDY_RETURN_IF_ERROR(CheckStateSize(config, "expand_ratio", settings, heads));
  const std::string bounds_name = "model.lower_bounds";
  Tensor floors;  // [layer, H K]
  if (bounded) {
    const Shape shape = {settings.layer_count, heads.keys()};
    const std::vector<float> bounds = weights.ReadNumbers(bounds_name, shape);
    if (!bounds.empty()) {
      floors = weights.UploadNumbers(
          bounds_name,
          LowerBounds(bounds, static_cast<size_t>(shape[0]), static_cast<size_t>(shape[1])), shape);
    }
  }
  const auto read_mixer = [&](FlaMixerReader& reader) {
    LinearMixerParts parts = reader.Begin();
    parts.query = reader.ReadStream("q", heads.keys(), 0);
    parts.key = reader.ReadStream("f", heads.keys(), 0);
    parts.value = reader.ReadStream("i", heads.values(), 0);
    parts.query.activation = Activation::kSilu;
    parts.key_from_decay = true;
    if (floors.present() && reader.layer() > 0) parts.decay_floor = floors.At(reader.layer());
    parts.recurrence.decay = Decay::kVector;
    reader.ReadEnd("g_norm", /*gated=*/false, &parts, heads.values());
    parts.out_norm.options.eps = kOutNormEps;
    return parts;
  };
  return MakeFlaModel(config, weights, backend, std::move(info), settings, heads, read_mixer);
}

}  // namespace eddy
