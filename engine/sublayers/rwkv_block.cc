// SPDX-License-Identifier: Apache-2.0
#include "engine/sublayers/rwkv_block.h"

#include <optional>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/status_macros.h"

namespace eddy {
namespace {

constexpr int64_t kHiddenSizeMax = 1 << 16;
constexpr int64_t kLayerCountMax = 1024;

// The other way round than StoredSizeOr.
absl::StatusOr<int64_t> SizeOf(const Config& config, const std::string& key, int64_t max,
                               int64_t stored) {
  if (!config.Has(key) && stored >= 1 && stored <= max) return stored;
  return config.Int(key, 1, max);
}

absl::Status RefuseVariants(const Config& config, const Weights& weights) {
  constexpr std::string_view kGrows =
      ", whose memory grows with every token; only models with a state of constant size are served";
  if (config.Has("attn")) {
    return absl::UnimplementedError(absl::StrCat(
        config.file(), ": attn: some layers are softmax attention", std::string(kGrows)));
  }
  for (const auto& [name, tensor] : weights.file().tensors()) {
    if (name.find(".qkv.") != std::string::npos) {
      return absl::UnimplementedError(absl::StrCat(weights.file().file(), ": ", name,
                                                   " is part of an attention branch (RWKV-7b)",
                                                   std::string(kGrows)));
    }
  }
  constexpr std::string_view kActivations[] = {"sqrelu"};
  EDDY_RETURN_IF_ERROR(config.Choice("hidden_act", kActivations, 0).status());
  EDDY_ASSIGN_OR_RETURN(const bool tied, config.Bool("tie_word_embeddings", false));
  if (tied) return config.Error("tie_word_embeddings", "expected false");
  return absl::OkStatus();
}

}  // namespace

std::string RwkvNames::Layer(int64_t layer) const { return absl::StrCat(blocks, layer, "."); }

std::string RwkvLayer::StateName(const std::string& name) const {
  return absl::StrCat("layers.", index, ".", name);
}

int64_t StoredSize(const Weights& weights, const std::string& name, int axis) {
  const std::optional<Shape> shape = weights.StoredShape(name);
  return shape && axis < shape->rank() ? (*shape)[shape->rank() - 1 - axis] : 0;
}

absl::StatusOr<int64_t> StoredSizeOr(const Config& config, const std::string& key, int64_t max,
                                     int64_t stored) {
  if (stored >= 1 && stored <= max) return stored;
  return config.Int(key, 1, max);
}

absl::StatusOr<RwkvSettings> ReadRwkvSettings(const Config& config, const Weights& weights,
                                              const RwkvNames& names, const std::string& inner) {
  EDDY_RETURN_IF_ERROR(RefuseVariants(config, weights));
  RwkvSettings s;
  EDDY_ASSIGN_OR_RETURN(s.vocabulary_size, SizeOf(config, "vocab_size", 1 << 23,
                                                  StoredSize(weights, names.embedding, 1)));
  EDDY_ASSIGN_OR_RETURN(s.hidden_size, SizeOf(config, "hidden_size", kHiddenSizeMax,
                                              StoredSize(weights, names.embedding, 0)));
  int64_t layers = 0;
  while (layers < kLayerCountMax &&
         weights.StoredShape(names.Layer(layers) + names.time_norm + ".weight")) {
    ++layers;
  }
  EDDY_ASSIGN_OR_RETURN(s.layer_count, SizeOf(config, "num_hidden_layers", kLayerCountMax, layers));
  EDDY_ASSIGN_OR_RETURN(s.feed_forward_size,
                        SizeOf(config, "intermediate_size", 1 << 20,
                               StoredSize(weights, names.Channel(0) + inner, 1)));
  const char* eps = config.Has("norm_eps") ? "norm_eps" : "layer_norm_epsilon";
  EDDY_ASSIGN_OR_RETURN(s.norm_eps, config.Float(eps, 0.0f, 1.0f, 1e-5f));
  EDDY_ASSIGN_OR_RETURN(s.first_norm, config.Bool("norm_first", true));
  EDDY_ASSIGN_OR_RETURN(s.norm_bias, config.Bool("norm_bias", true));
  return s;
}

absl::Status CheckRwkvState(const Config& config, const RwkvSettings& settings,
                            int64_t matrix_size) {
  // At most 2^10 (2^34 + 2^17) 2^2 < 2^47: no overflow.
  return CheckStateBytes(config, "",
                         settings.layer_count * (matrix_size + 2 * settings.hidden_size) * 4);
}

Norm ReadRwkvNorm(Weights& weights, const RwkvSettings& settings, const std::string& name) {
  Norm norm;
  norm.options = {NormKind::kLayer, settings.norm_eps};
  norm.weight = weights.ReadVector(name + ".weight", {settings.hidden_size});
  if (settings.norm_bias) norm.bias = weights.ReadVector(name + ".bias", {settings.hidden_size});
  return norm;
}

LowRank ReadLowRank(Weights& weights, const LowRankShape& shape, const std::string& down,
                    const std::string& up) {
  LowRank low_rank;
  if (shape.transposed) {
    low_rank.down = weights.ReadTransposedMatrix(down, {shape.in_size, shape.rank});
    low_rank.up = weights.ReadTransposedMatrix(up, {shape.rank, shape.out_size});
  } else {
    low_rank.down = weights.ReadMatrix(down, {shape.rank, shape.in_size});
    low_rank.up = weights.ReadMatrix(up, {shape.out_size, shape.rank});
  }
  return low_rank;
}

absl::StatusOr<std::unique_ptr<Model>> MakeRwkvModel(const Config& config, Weights& weights,
                                                     Backend& backend, ModelInfo info,
                                                     const RwkvSettings& settings,
                                                     const RwkvNames& names,
                                                     const RwkvMixes& mixes) {
  const Shape table = {settings.vocabulary_size, settings.hidden_size};
  info.vocabulary_size = static_cast<int32_t>(settings.vocabulary_size);
  EDDY_ASSIGN_OR_RETURN(info.end_of_text_ids,
                        config.TokenIds("eos_token_id", settings.vocabulary_size));
  StackParts stack;
  stack.info = std::move(info);
  stack.hidden_size = settings.hidden_size;
  stack.shared_size = mixes.shared_size;
  stack.embedding = weights.ReadTable(names.embedding, table);
  if (settings.first_norm) {
    stack.first_norm = ReadRwkvNorm(weights, settings, names.Layer(0) + names.first_norm);
  }
  for (int64_t i = 0; i < settings.layer_count; ++i) {
    const RwkvLayer layer = {weights, stack, i};
    Norm time_norm = ReadRwkvNorm(weights, settings, names.Layer(i) + names.time_norm);
    Norm channel_norm = ReadRwkvNorm(weights, settings, names.Layer(i) + names.channel_norm);
    stack.parts.push_back({std::move(time_norm), mixes.read_time(layer)});
    stack.parts.push_back({std::move(channel_norm), mixes.read_channel(layer)});
  }
  stack.final_norm = ReadRwkvNorm(weights, settings, names.final_norm);
  stack.head = weights.ReadMatrix(names.head, table);
  return MakeStack(std::move(stack), weights, backend);
}

}  // namespace eddy
