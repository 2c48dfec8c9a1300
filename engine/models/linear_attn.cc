// SPDX-License-Identifier: Apache-2.0
// Linear attention in fla's layout. Per head, phi the feature map (of queries and of keys, with
// weights of their own unless tie_feature_map_qk), F its number of features:
//   q = phi(W_q x), k = phi(W_k x), divided by the sum of their features with norm_q, norm_k
//   S <- S + k v^T;  o = F^(-1/2) S^T q;  change = W_o RMS(o)
//   with norm_feature_map: z <- z + k;  o <- o / (F^(-1/2) q.z + 1e-10)
// feature_map: "elementwise_product" (W1 x + b1)(W2 x + b2), "hedgehog" (2402.04347), "t2r"
// relu(W x) (2103.13076), "elu" (elu + 1), "relu", "identity".
#include <cmath>
#include <string>
#include <string_view>
#include <utility>

#include "engine/model_families.h"
#include "engine/sublayers/fla_block.h"
#include "kernels/status_macros.h"

namespace eddy {
namespace {

constexpr float kSumEps = 1e-4f;
constexpr float kNormaliserEps = 1e-10f;

struct Options {
  FeatureMap::Kind kind = FeatureMap::Kind::kNone;
  Activation activation = Activation::kIdentity;  // instead, elementwise
  bool tied = false;
  bool sums_query = false, sums_key = false;
  bool normalises = false;
};

absl::StatusOr<Options> ReadOptions(const Config& config) {
  using Kind = FeatureMap::Kind;
  Options options;
  constexpr std::string_view kNames[] = {
      "elementwise_product", "hedgehog", "t2r", "elu", "relu", "identity"};
  constexpr Kind kKinds[] = {Kind::kProduct, Kind::kHedgehog, Kind::kRelu,
                             Kind::kNone,    Kind::kNone,     Kind::kNone};
  constexpr Activation kActivations[] = {Activation::kIdentity, Activation::kIdentity,
                                         Activation::kIdentity, Activation::kEluPlusOne,
                                         Activation::kRelu,     Activation::kIdentity};
  EDDY_ASSIGN_OR_RETURN(const size_t map, config.Choice("feature_map", kNames, 0));
  options.kind = kKinds[map];
  options.activation = kActivations[map];
  EDDY_ASSIGN_OR_RETURN(options.tied, config.Bool("tie_feature_map_qk", false));
  EDDY_ASSIGN_OR_RETURN(options.sums_query, config.Bool("norm_q", false));
  EDDY_ASSIGN_OR_RETURN(options.sums_key, config.Bool("norm_k", false));
  EDDY_ASSIGN_OR_RETURN(options.normalises, config.Bool("norm_feature_map", false));
  return options;
}

void ReadFeatureMaps(FlaMixerReader& reader, const Options& options, LinearMixerParts* parts) {
  if (options.kind == FeatureMap::Kind::kNone) {
    parts->query.activation = parts->key.activation = options.activation;
    return;
  }
  const std::string query = "feature_map_q", key = "feature_map_k";
  if (!options.tied) {
    parts->query_map = reader.ReadFeatureMap(query, options.kind);
    parts->key_map = reader.ReadFeatureMap(key, options.kind);
    return;
  }
  // One module under two names, of which the file may have either or both.
  const bool has_query = reader.HasFeatureMap(query);
  parts->query_map = reader.ReadFeatureMap(has_query ? query : key, options.kind);
  parts->key_uses_query_map = true;
  if (has_query) reader.IgnoreFeatureMap(key);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Model>> MakeLinearAttention(const Config& config, Weights& weights,
                                                           Backend& backend, ModelInfo info) {
  EDDY_ASSIGN_OR_RETURN(const FlaSettings settings, ReadFlaSettings(config));
  EDDY_ASSIGN_OR_RETURN(const FlaHeads heads,
                        ReadExpandedHeads(config, settings.hidden_size, 4, 1.0f, 1.0f));
  EDDY_ASSIGN_OR_RETURN(const Options options, ReadOptions(config));
  EDDY_RETURN_IF_ERROR(CheckStateSize(config, "num_heads", settings, heads));
  const auto read_mixer = [&](FlaMixerReader& reader) {
    LinearMixerParts parts = reader.Begin();
    reader.ReadStreams(0, &parts);
    ReadFeatureMaps(reader, options, &parts);
    const NormOptions sum = {NormKind::kSum, kSumEps};
    if (options.sums_query) parts.query_norm = sum;
    if (options.sums_key) parts.key_norm = sum;
    if (options.normalises) {
      parts.recurrence.normaliser = Normaliser::kAddEps;
      parts.recurrence.normaliser_eps = kNormaliserEps;
    }
    const int64_t features = parts.query_map.FeatureSize(heads.key_size);
    parts.recurrence.scale = 1.0f / std::sqrt(static_cast<float>(features));
    reader.ReadEnd("norm", /*gated=*/false, &parts);
    return parts;
  };
  return MakeFlaModel(config, weights, backend, std::move(info), settings, heads, read_mixer);
}

}  // namespace eddy
