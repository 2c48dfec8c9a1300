// SPDX-License-Identifier: Apache-2.0
#include "engine/sublayers/fla_block.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/sublayers/swiglu.h"
#include "kernels/status_macros.h"

namespace eddy {
namespace {

absl::Status RefuseVariants(const Config& config) {
  if (config.Has("attn")) {
    const absl::Status error = config.Error(
        "attn",
        "expected null: the layers it names are softmax attention, whose memory grows with every "
        "token; only models with a state of constant size are served");
    return absl::UnimplementedError(error.message());
  }
  if (config.Has("attnres_block_size")) {
    return config.Error("attnres_block_size",
                        "expected null: attention over the layers below is another model");
  }
  constexpr std::string_view kActivations[] = {"swish", "silu"};
  EDDY_RETURN_IF_ERROR(config.Choice("hidden_act", kActivations, 0).status());
  return ExpectBool(config, "elementwise_affine", true);
}

absl::StatusOr<int64_t> FeedForwardSize(const Config& config, int64_t hidden_size,
                                        int64_t default_ratio) {
  constexpr int64_t kMax = 1 << 20, kRound = 256;
  EDDY_ASSIGN_OR_RETURN(const int64_t ratio, config.Int("hidden_ratio", 1, 64, default_ratio));
  const int64_t computed = hidden_size * ratio * 2 / 3;
  return config.Int("intermediate_size", 1, kMax, (computed + kRound - 1) / kRound * kRound);
}

// `factor` times `size`, which must be whole and divisible by `divisor`.
absl::StatusOr<int64_t> Expanded(const Config& config, const std::string& key, float fallback,
                                 int64_t size, const std::string& size_name, int64_t divisor) {
  EDDY_ASSIGN_OR_RETURN(const float factor, config.Float(key, 0.0f, 64.0f, fallback));
  // A factor such as 0.8 is not exact in binary.
  const double product = static_cast<double>(factor) * static_cast<double>(size);
  const double whole = std::round(product);
  const auto count = static_cast<int64_t>(whole);
  if (std::abs(product - whole) > 1e-6 * product || count < divisor || count % divisor != 0) {
    std::string expected =
        absl::StrCat("expected a whole number of values times ", size_name, " ", size);
    if (divisor > 1) absl::StrAppend(&expected, ", in ", divisor, " heads");
    return config.Error(key, expected);
  }
  return count / divisor;
}

// Rows of a matrix whose number only the file knows.
int64_t StoredRank(const Weights& weights, const std::string& name) {
  const auto stored = weights.StoredShape(name);
  return stored && stored->rank() == 2 ? std::max<int64_t>((*stored)[0], 1) : 1;
}

}  // namespace

absl::Status ExpectBool(const Config& config, const std::string& key, bool wanted) {
  EDDY_ASSIGN_OR_RETURN(const bool found, config.Bool(key, wanted));
  if (found == wanted) return absl::OkStatus();
  return config.Error(key, wanted ? "expected true" : "expected false");
}

absl::StatusOr<FlaSettings> ReadFlaSettings(const Config& config, int64_t default_hidden_ratio) {
  EDDY_RETURN_IF_ERROR(RefuseVariants(config));
  FlaSettings s;
  EDDY_ASSIGN_OR_RETURN(s.vocabulary_size, config.Int("vocab_size", 1, 1 << 23));
  EDDY_ASSIGN_OR_RETURN(s.hidden_size, config.Int("hidden_size", 1, 1 << 16));
  EDDY_ASSIGN_OR_RETURN(s.layer_count, config.Int("num_hidden_layers", 1, 1024));
  EDDY_ASSIGN_OR_RETURN(s.feed_forward_size,
                        FeedForwardSize(config, s.hidden_size, default_hidden_ratio));
  EDDY_ASSIGN_OR_RETURN(s.tied, config.Bool("tie_word_embeddings", false));
  const char* eps = config.Has("norm_eps") ? "norm_eps" : "rms_norm_eps";  // the older spelling
  EDDY_ASSIGN_OR_RETURN(s.norm_eps, config.Float(eps, 0.0f, 1.0f, 1e-6f));
  return s;
}

absl::StatusOr<FlaHeads> ReadExpandedHeads(const Config& config, int64_t hidden_size,
                                           int64_t default_head_count, float default_expand_k,
                                           float default_expand_v) {
  FlaHeads heads;
  EDDY_ASSIGN_OR_RETURN(heads.head_count, config.Int("num_heads", 1, 4096, default_head_count));
  heads.key_head_count = heads.head_count;
  EDDY_ASSIGN_OR_RETURN(heads.stored_head_count,
                        config.Int("num_kv_heads", 1, 4096, heads.head_count));
  if (heads.head_count % heads.stored_head_count != 0) {
    return config.Error("num_kv_heads",
                        absl::StrCat("expected a divisor of num_heads ", heads.head_count));
  }
  EDDY_ASSIGN_OR_RETURN(heads.key_size, Expanded(config, "expand_k", default_expand_k, hidden_size,
                                                 "hidden_size", heads.head_count));
  EDDY_ASSIGN_OR_RETURN(heads.value_size, Expanded(config, "expand_v", default_expand_v,
                                                   hidden_size, "hidden_size", heads.head_count));
  return heads;
}

absl::StatusOr<FlaHeads> ReadSizedHeads(const Config& config, int64_t default_head_count,
                                        int64_t default_head_dim, float default_expand_v) {
  FlaHeads heads;
  EDDY_ASSIGN_OR_RETURN(heads.key_head_count, config.Int("num_heads", 1, 4096, default_head_count));
  EDDY_ASSIGN_OR_RETURN(heads.head_count, config.Int("num_v_heads", 1, 4096, heads.key_head_count));
  EDDY_ASSIGN_OR_RETURN(heads.key_size, config.Int("head_dim", 1, 4096, default_head_dim));
  EDDY_ASSIGN_OR_RETURN(heads.value_size, Expanded(config, "expand_v", default_expand_v,
                                                   heads.key_size, "head_dim", 1));
  if (heads.head_count % heads.key_head_count != 0) {
    return config.Error("num_v_heads",
                        absl::StrCat("expected a multiple of num_heads ", heads.key_head_count));
  }
  heads.stored_head_count = heads.head_count;
  return heads;
}

absl::Status CheckStateSize(const Config& config, const std::string& key,
                            const FlaSettings& settings, const FlaHeads& heads) {
  // Heads times sizes are below 2^44, layers 2^10: no overflow.
  return CheckStateBytes(
      config, key, settings.layer_count * heads.head_count * heads.key_size * heads.value_size * 4);
}

absl::StatusOr<Activation> ReadElementwiseMap(const Config& config) {
  constexpr std::string_view kNames[] = {"relu", "silu", "swish", "sigmoid", "sqrelu"};
  constexpr Activation kActivations[] = {Activation::kRelu, Activation::kSilu, Activation::kSilu,
                                         Activation::kSigmoid, Activation::kSquaredRelu};
  if (!config.Has("feature_map")) return Activation::kIdentity;
  EDDY_ASSIGN_OR_RETURN(const size_t choice, config.Choice("feature_map", kNames));
  return kActivations[choice];
}

FlaMixerReader::FlaMixerReader(Weights& weights, StackParts& stack, const FlaSettings& settings,
                               const FlaHeads& heads, int64_t layer)
    : weights_(weights),
      stack_(stack),
      settings_(settings),
      heads_(heads),
      layer_(layer),
      prefix_(absl::StrCat("model.layers.", layer, ".attn.")),
      state_(absl::StrCat("layers.", layer, ".")) {}

Matrix FlaMixerReader::ReadMatrix(const std::string& name, int64_t out_size) {
  return weights_.ReadMatrix(Name(name) + ".weight", {out_size, settings_.hidden_size});
}

Projection FlaMixerReader::ReadLowRank(const std::string& name, int64_t out_size, bool has_bias) {
  const std::string down = Name(name) + ".0.weight";
  const std::string up = Name(name) + ".1";
  const int64_t rank = StoredRank(weights_, down);
  Projection projection;
  projection.down = weights_.ReadMatrix(down, {rank, settings_.hidden_size});
  projection.weight = weights_.ReadMatrix(up + ".weight", {out_size, rank});
  if (has_bias) projection.bias = weights_.ReadVector(up + ".bias", {out_size});
  return projection;
}

std::vector<float> FlaMixerReader::ReadShared(const std::string& name, int64_t size,
                                              int64_t columns) {
  const int64_t stored = heads_.stored_head_count;
  const std::vector<float> numbers = weights_.ReadNumbers(Name(name), {stored * size, columns});
  std::vector<float> repeated;
  if (numbers.empty()) return repeated;  // noted; Finish tells it
  const auto block = static_cast<std::ptrdiff_t>(size * columns);
  for (int64_t h = 0; h < heads_.head_count; ++h) {
    const auto begin = numbers.begin() + h / (heads_.head_count / stored) * block;
    repeated.insert(repeated.end(), begin, begin + block);
  }
  return repeated;
}

Matrix FlaMixerReader::ReadSharedMatrix(const std::string& name, int64_t size, int64_t columns) {
  const Shape shape = {heads_.head_count * size, columns};
  if (heads_.stored_head_count == heads_.head_count) {
    return weights_.ReadMatrix(Name(name), shape);
  }
  return weights_.PackNumbers(Name(name), ReadShared(name, size, columns), shape);
}

Projection FlaMixerReader::ReadSharedLowRank(const std::string& name, int64_t size) {
  if (heads_.stored_head_count == heads_.head_count) {
    return ReadLowRank(name, heads_.head_count * size, /*has_bias=*/true);
  }
  const int64_t rank = StoredRank(weights_, Name(name) + ".0.weight");
  Projection projection;
  projection.down = weights_.ReadMatrix(Name(name) + ".0.weight", {rank, settings_.hidden_size});
  projection.weight = ReadSharedMatrix(name + ".1.weight", size, rank);
  const std::string bias = name + ".1.bias";
  projection.bias =
      weights_.UploadNumbers(Name(bias), ReadShared(bias, size, 1), {heads_.head_count * size});
  return projection;
}

Stream FlaMixerReader::ReadStream(const std::string& letter, int64_t channels,
                                  int64_t convolution_width) {
  Stream stream;
  stream.projection = ReadMatrix(letter + "_proj", channels);
  if (convolution_width > 0) {
    stream.convolution = weights_.ReadTransposedVectors(Name(letter) + "_conv1d.weight",
                                                        {channels, convolution_width});
    stream.inputs =
        stack_.AddVectors(state_ + letter + "_inputs", {convolution_width - 1, channels});
  }
  return stream;
}

void FlaMixerReader::ReadStreams(int64_t convolution_width, LinearMixerParts* parts) {
  parts->query = ReadStream("q", heads_.keys(), convolution_width);
  if (heads_.stored_head_count == heads_.head_count) {
    parts->key = ReadStream("k", heads_.keys(), convolution_width);
    parts->value = ReadStream("v", heads_.values(), convolution_width);
    return;
  }
  const auto read = [&](const std::string& letter, int64_t size) {
    Stream stream;
    stream.projection = ReadSharedMatrix(letter + "_proj.weight", size, settings_.hidden_size);
    return stream;
  };
  parts->key = read("k", heads_.key_size);
  parts->value = read("v", heads_.value_size);
}

void FlaMixerReader::ReadDeltaRule(int64_t convolution_width, LinearMixerParts* parts,
                                   bool has_beta) {
  ReadStreams(convolution_width, parts);
  parts->query_norm = parts->key_norm = NormOptions{NormKind::kL2, kFlaL2Eps};
  if (has_beta) parts->beta.weight = ReadMatrix("b_proj", heads_.head_count);
  parts->recurrence.removal = Removal::kDelta;
}

FeatureMap FlaMixerReader::ReadFeatureMap(const std::string& name, FeatureMap::Kind kind) {
  const Shape square = {heads_.key_size, heads_.key_size};
  const auto read = [&](const std::string& layer, bool has_bias, Matrix* weight, Tensor* bias) {
    const std::string full = Name(name) + "." + layer;
    *weight = weights_.ReadMatrix(full + ".weight", square);
    if (has_bias) *bias = weights_.ReadVector(full + ".bias", {heads_.key_size});
  };
  FeatureMap map;
  map.kind = kind;
  if (kind == FeatureMap::Kind::kProduct) {
    read("layer1", true, &map.weight, &map.bias);
    read("layer2", true, &map.second_weight, &map.second_bias);
  } else {
    read("layer", kind == FeatureMap::Kind::kHedgehog, &map.weight, &map.bias);
  }
  return map;
}

bool FlaMixerReader::HasFeatureMap(const std::string& name) const {
  return Has(name + ".layer.weight") || Has(name + ".layer1.weight");
}

void FlaMixerReader::IgnoreFeatureMap(const std::string& name) {
  for (const char* layer : {".layer", ".layer1", ".layer2"}) {
    for (const char* part : {".weight", ".bias"}) {
      weights_.Ignore(absl::StrCat(Name(name), layer, part));
    }
  }
}

std::string FlaMixerReader::GatedNormName(bool gated) const {
  const std::string fused = "g_norm_swish_gate";
  return gated && Has(fused + ".weight") ? fused : "g_norm";
}

LinearMixerParts FlaMixerReader::Begin() const {
  LinearMixerParts parts;
  parts.key_head_count = heads_.key_head_count;
  parts.head_count = heads_.head_count;
  parts.key_size = heads_.key_size;
  parts.value_size = heads_.value_size;
  parts.recurrence.scale = 1.0f / std::sqrt(static_cast<float>(heads_.key_size));
  parts.out_norm.options = {NormKind::kRms, settings_.norm_eps};
  return parts;
}

void FlaMixerReader::ReadEnd(const std::string& norm, bool gated, LinearMixerParts* parts,
                             int64_t norm_size) {
  const int64_t features = parts->query_map.FeatureSize(heads_.key_size);
  if (gated) parts->gate.weight = ReadMatrix("g_proj", heads_.values());
  parts->out_norm.weight =
      ReadVector(norm + ".weight", {norm_size > 0 ? norm_size : heads_.value_size});
  parts->out = weights_.ReadMatrix(Name("o_proj.weight"), {settings_.hidden_size, heads_.values()});
  parts->state = stack_.AddMatrices(state_ + "s", {heads_.head_count, features, heads_.value_size});
  if (parts->recurrence.normaliser != Normaliser::kNone) {
    parts->normaliser = stack_.AddVectors(state_ + "z", {heads_.key_head_count, features});
  }
}

absl::StatusOr<std::unique_ptr<Model>> MakeFlaModel(const Config& config, Weights& weights,
                                                    Backend& backend, ModelInfo info,
                                                    const FlaSettings& settings,
                                                    const FlaHeads& heads,
                                                    const ReadFlaMixer& read_mixer,
                                                    int64_t shared_size) {
  info.vocabulary_size = static_cast<int32_t>(settings.vocabulary_size);
  EDDY_ASSIGN_OR_RETURN(info.end_of_text_ids,
                        config.TokenIds("eos_token_id", settings.vocabulary_size));
  StackParts stack;
  stack.info = std::move(info);
  stack.hidden_size = settings.hidden_size;
  stack.shared_size = shared_size;
  const Shape table = {settings.vocabulary_size, settings.hidden_size};
  const std::string embedding = "model.embeddings.weight";
  stack.embedding = weights.ReadTable(embedding, table);
  const auto read_norm = [&](const std::string& name) {
    return Norm{{NormKind::kRms, settings.norm_eps},
                weights.ReadVector(name + ".weight", {settings.hidden_size}),
                Tensor()};
  };
  for (int64_t i = 0; i < settings.layer_count; ++i) {
    const std::string prefix = absl::StrCat("model.layers.", i, ".");
    FlaMixerReader reader(weights, stack, settings, heads, i);
    Norm mixer_norm = read_norm(prefix + "attn_norm");
    stack.parts.push_back({mixer_norm, std::make_unique<LinearMixer>(read_mixer(reader))});
    Norm feed_forward_norm = read_norm(prefix + "mlp_norm");
    stack.parts.push_back(
        {feed_forward_norm,
         ReadSwiGlu(weights, prefix + "mlp.", settings.hidden_size, settings.feed_forward_size)});
  }
  stack.final_norm = read_norm("model.norm");
  stack.head = weights.ReadMatrix(settings.tied ? embedding : "lm_head.weight", table);
  if (settings.tied) weights.Ignore("lm_head.weight");
  return MakeStack(std::move(stack), weights, backend);
}

}  // namespace eddy
