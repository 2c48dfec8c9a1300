// SPDX-License-Identifier: Apache-2.0
// The Linear Transformer ("Transformers are RNNs", arXiv 2006.16236), by fast-transformers' names.
//
// Post-norm layers. Per layer, head and token, phi = elu + 1 on queries and keys, no scale:
//   z <- gamma z + phi(k);  S <- gamma S + phi(k) v^T;  o = S^T phi(q) / (phi(q).z + eps)
//   x <- LN1(x + W_o o + b_o);  x <- LN2(x + W_2 act(W_1 x + b_1) + b_2)
// gamma is 1, or a constant of each head (decay "constant"; RetNet's, arXiv 2307.08621). The
// position is not known to the model, or is the second half of its input (position_embedding
// "sinusoid": concatenated, not added).
//
// The paper's image models: "mixtures" M makes the 3 M outputs the numbers of a mixture of
// logistics (Backend::SampleMixture), "image_width", "image_height" and "image_channels" say what
// the tokens draw, "bos_token_id" what stands before an image's first value; without it that value
// is given.
#include <algorithm>
#include <iterator>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/config.h"
#include "engine/model.h"
#include "engine/weights.h"
#include "kernels/status_macros.h"

namespace eddy {
namespace {

constexpr int64_t kStateBytesMax = int64_t{1} << 40;  // of one session
constexpr int64_t kMixturesMax = 1024;

struct Settings {
  int64_t vocabulary_size = 0;
  int64_t hidden_size = 0;  // D
  int64_t layer_count = 0;
  int64_t head_count = 0;  // H
  int64_t key_size = 0;    // K, of one head
  int64_t value_size = 0;  // V, of one head
  int64_t feed_forward_size = 0;
  Activation activation = Activation::kRelu;
  bool sinusoid = false;
  bool decays = false;
  bool final_norm = true;
  float norm_eps = 0.0f;
  float attention_eps = 0.0f;
};

struct Linear {
  Matrix weight;  // [out, in]
  Tensor bias;    // [out]
};

struct Norm {
  Tensor weight;  // [D]
  Tensor bias;    // [D]
};

struct Layer {
  Linear query;    // [H K, D]
  Linear key;      // [H K, D]
  Linear value;    // [H V, D]
  Linear out;      // [D, H V]
  Linear linear1;  // [feed forward, D]
  Linear linear2;  // [D, feed forward]
  Norm norm1;
  Norm norm2;
  Tensor decay;                         // [H]; absent without decay
  int64_t state_offset_bytes = 0;       // S [H, K, V]
  int64_t normaliser_offset_bytes = 0;  // z [H, K]
};

absl::StatusOr<Settings> ReadSettings(const Config& config) {
  Settings s;
  EDDY_ASSIGN_OR_RETURN(s.vocabulary_size, config.Int("vocab_size", 1, 1 << 23));
  EDDY_ASSIGN_OR_RETURN(s.hidden_size, config.Int("hidden_size", 1, 1 << 16));
  EDDY_ASSIGN_OR_RETURN(s.layer_count, config.Int("num_hidden_layers", 1, 1024));
  EDDY_ASSIGN_OR_RETURN(s.head_count, config.Int("num_heads", 1, 4096));
  EDDY_ASSIGN_OR_RETURN(s.key_size, config.Int("query_dimensions", 1, 4096));
  EDDY_ASSIGN_OR_RETURN(s.value_size, config.Int("value_dimensions", 1, 4096));
  EDDY_ASSIGN_OR_RETURN(s.feed_forward_size, config.Int("feed_forward_dimensions", 1, 1 << 20));
  // At most 2^10 2^12 2^12 (2^12 + 1) 2^2 < 2^49: no overflow.
  const int64_t state_bytes = s.layer_count * s.head_count * s.key_size * (s.value_size + 1) * 4;
  if (state_bytes > kStateBytesMax) {
    return config.Error("num_heads", absl::StrCat("which with the other sizes makes ", state_bytes,
                                                  " bytes of state per session, expected at most ",
                                                  kStateBytesMax));
  }

  constexpr std::string_view kActivations[] = {"relu", "gelu"};
  constexpr std::string_view kFeatureMaps[] = {"elu"};
  constexpr std::string_view kPositions[] = {"none", "sinusoid"};
  constexpr std::string_view kDecays[] = {"none", "constant"};
  EDDY_ASSIGN_OR_RETURN(const size_t activation, config.Choice("activation", kActivations));
  s.activation = activation == 0 ? Activation::kRelu : Activation::kGelu;
  EDDY_RETURN_IF_ERROR(config.Choice("feature_map", kFeatureMaps).status());
  EDDY_ASSIGN_OR_RETURN(const size_t position, config.Choice("position_embedding", kPositions));
  s.sinusoid = position == 1;
  EDDY_ASSIGN_OR_RETURN(const size_t decay, config.Choice("decay", kDecays));
  s.decays = decay == 1;
  if (s.sinusoid && s.hidden_size % 4 != 0) {
    return config.Error("hidden_size",
                        "expected a multiple of 4 with position_embedding \"sinusoid\"");
  }
  EDDY_ASSIGN_OR_RETURN(s.final_norm, config.Bool("final_normalization"));
  EDDY_ASSIGN_OR_RETURN(s.norm_eps, config.Float("norm_eps", 0.0f, 1.0f));
  EDDY_ASSIGN_OR_RETURN(s.attention_eps, config.Float("attention_eps", 0.0f, 1.0f));
  return s;
}

// Absent when the configuration says nothing of images.
absl::StatusOr<std::optional<ImageFormat>> ReadImageFormat(const Config& config,
                                                           int64_t vocabulary_size) {
  constexpr int64_t kSizeMax = 1 << 14;
  constexpr const char* kKeys[] = {"image_width", "image_height", "image_channels"};
  if (std::none_of(std::begin(kKeys), std::end(kKeys), [&](auto key) { return config.Has(key); })) {
    return std::nullopt;
  }
  int64_t sizes[3];
  for (size_t i = 0; i < 3; ++i) {
    EDDY_ASSIGN_OR_RETURN(sizes[i], config.Int(kKeys[i], 1, kSizeMax));
  }
  if (sizes[2] != 1 && sizes[2] != 3) return config.Error(kKeys[2], "expected 1 or 3");
  if (vocabulary_size != 256) {
    return config.Error("vocab_size", "expected 256, the values of an image");
  }
  ImageFormat image{.width = static_cast<int32_t>(sizes[0]),
                    .height = static_cast<int32_t>(sizes[1]),
                    .channels = static_cast<int32_t>(sizes[2]),
                    .start_token = std::nullopt};
  if (config.Has("bos_token_id")) {
    EDDY_ASSIGN_OR_RETURN(const int64_t start, config.Int("bos_token_id", 0, vocabulary_size - 1));
    image.start_token = static_cast<int32_t>(start);
  }
  return image;
}

// What the outputs are and how many tokens a session may hold.
absl::Status ReadOutput(const Config& config, ModelInfo& info) {
  EDDY_ASSIGN_OR_RETURN(const int64_t mixtures, config.Int("mixtures", 1, kMixturesMax, 0));
  info.mixture_size = static_cast<int32_t>(mixtures);
  EDDY_ASSIGN_OR_RETURN(info.end_of_text_ids,
                        config.TokenIds("eos_token_id", info.vocabulary_size));
  if (info.mixture_size > 0 && !info.end_of_text_ids.empty()) {
    return config.Error("eos_token_id", "expected null with mixtures: every token is a value");
  }
  if (info.mixture_size > 0 && info.vocabulary_size < 2) {
    return config.Error("vocab_size", "expected at least 2 with mixtures");
  }
  EDDY_ASSIGN_OR_RETURN(info.image, ReadImageFormat(config, info.vocabulary_size));
  int64_t position_max = 0;
  if (info.image.has_value()) {  // one image
    position_max = info.image->value_count() + (info.image->start_token.has_value() ? 1 : 0);
  }
  EDDY_ASSIGN_OR_RETURN(
      info.position_max,
      config.Int("max_position_embeddings", 1, std::numeric_limits<int64_t>::max(), position_max));
  return absl::OkStatus();
}

// The paper's own checkpoints say nothing of their mixture; 10 logistics of three numbers each.
absl::Status CheckPredictor(const Weights& weights, const ModelInfo& info) {
  const StoredTensor* predictor = weights.file().Find("predictor.bias");
  if (info.mixture_size > 0 || info.vocabulary_size != 256 || predictor == nullptr ||
      predictor->shape != Shape{30}) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      weights.file().file(),
      ": predictor.bias has 30 numbers for a vocabulary of 256: it looks like a mixture of 10 "
      "logistics, of which config.json must say \"mixtures\": 10"));
}

Linear ReadLinear(Weights& weights, const std::string& name, int64_t out_size, int64_t in_size) {
  return {weights.ReadMatrix(name + ".weight", {out_size, in_size}),
          weights.ReadVector(name + ".bias", {out_size})};
}

Norm ReadNorm(Weights& weights, const std::string& name, int64_t size) {
  return {weights.ReadVector(name + ".weight", {size}), weights.ReadVector(name + ".bias", {size})};
}

class LinearTransformer : public Model {
 public:
  LinearTransformer(const Settings& settings, Backend& backend, ModelInfo info)
      : settings_(settings), backend_(backend), info_(std::move(info)) {}

  absl::Status Load(Weights& weights);

  const ModelInfo& info() const override { return info_; }
  const StateLayout& state_layout() const override { return state_layout_; }
  void Forward(const Rows& rows, const StateRef& pool, Workspace& workspace,
               const Tensor& logits) override;

 private:
  void ReadInput(const Rows& rows, const Tensor& x);
  void Attend(const Layer& layer, const Rows& rows, const StateRef& pool, Workspace& workspace,
              const Tensor& x, const Tensor& change);
  void FeedForward(const Layer& layer, Workspace& workspace, const Tensor& x, const Tensor& change);
  void Predict(const Rows& rows, Workspace& workspace, const Tensor& x, const Tensor& logits);
  void Apply(const Linear& linear, const Tensor& x, const Tensor& out) {
    backend_.MatMul(x, linear.weight, linear.bias, out);
  }

  // All constant after Load.
  const Settings settings_;
  Backend& backend_;
  ModelInfo info_;
  StateLayout state_layout_;
  std::vector<Buffer> buffers_;  // of all Tensors below
  Tensor embedding_;             // [vocabulary, D], or [vocabulary, D / 2] beside the sinusoid
  std::vector<Layer> layers_;
  Norm final_norm_;   // absent without final_norm
  Linear predictor_;  // [output size, D]
};

absl::Status LinearTransformer::Load(Weights& weights) {
  const Settings& s = settings_;
  if (s.sinusoid) {
    embedding_ =
        weights.ReadTable("value_embedding.weight", {s.vocabulary_size, s.hidden_size / 2});
    weights.Ignore("pos_embedding.pe");  // the sinusoid as a table up to some position
  } else {
    embedding_ = weights.ReadTable("embedding.weight", {s.vocabulary_size, s.hidden_size});
  }
  const int64_t keys = s.head_count * s.key_size, values = s.head_count * s.value_size;
  for (int64_t i = 0; i < s.layer_count; ++i) {
    const std::string prefix = absl::StrCat("transformer.layers.", i, ".");
    const std::string attention = prefix + "attention.";
    Layer& layer = layers_.emplace_back();
    layer.query = ReadLinear(weights, attention + "query_projection", keys, s.hidden_size);
    layer.key = ReadLinear(weights, attention + "key_projection", keys, s.hidden_size);
    layer.value = ReadLinear(weights, attention + "value_projection", values, s.hidden_size);
    layer.out = ReadLinear(weights, attention + "out_projection", s.hidden_size, values);
    if (s.decays)
      layer.decay = weights.ReadVector(attention + "decay", {s.head_count}, {0.0f, 1.0f});
    layer.linear1 = ReadLinear(weights, prefix + "linear1", s.feed_forward_size, s.hidden_size);
    layer.linear2 = ReadLinear(weights, prefix + "linear2", s.hidden_size, s.feed_forward_size);
    layer.norm1 = ReadNorm(weights, prefix + "norm1", s.hidden_size);
    layer.norm2 = ReadNorm(weights, prefix + "norm2", s.hidden_size);
    const std::string state = absl::StrCat("layers.", i, ".");
    layer.state_offset_bytes =
        state_layout_.Add(state + "s", info_.state_dtype, {s.head_count, s.key_size, s.value_size});
    layer.normaliser_offset_bytes =
        state_layout_.Add(state + "z", DType::kF32, {s.head_count, s.key_size});
  }
  if (s.final_norm) final_norm_ = ReadNorm(weights, "transformer.norm", s.hidden_size);
  predictor_ = ReadLinear(weights, "predictor", info_.output_size(), s.hidden_size);
  EDDY_ASSIGN_OR_RETURN(LoadedWeights loaded, weights.Finish());
  buffers_ = std::move(loaded.buffers);
  info_.parameter_count = loaded.parameter_count;
  info_.weight_bytes = loaded.weight_bytes;
  return absl::OkStatus();
}

void LinearTransformer::Forward(const Rows& rows, const StateRef& pool, Workspace& workspace,
                                const Tensor& logits) {
  const Tensor x = workspace.Take(DType::kF32, {rows.token_count, settings_.hidden_size});
  const Tensor change = workspace.Take(DType::kF32, {rows.token_count, settings_.hidden_size});
  ReadInput(rows, x);
  for (const Layer& layer : layers_) {
    Attend(layer, rows, pool, workspace, x, change);
    FeedForward(layer, workspace, x, change);
  }
  Predict(rows, workspace, x, logits);
}

void LinearTransformer::ReadInput(const Rows& rows, const Tensor& x) {
  if (!x.present()) return;  // measuring, here and below
  backend_.Embed(rows, embedding_, 0, x);
  if (settings_.sinusoid) {
    backend_.Sinusoid(rows, settings_.hidden_size / 2, settings_.hidden_size / 2, x);
  }
}

// x <- LN1(x + attention(x)).  x, change [T, D]; change is scratch
void LinearTransformer::Attend(const Layer& layer, const Rows& rows, const StateRef& pool,
                               Workspace& workspace, const Tensor& x, const Tensor& change) {
  const Settings& s = settings_;
  const int64_t tokens = rows.token_count;
  const int64_t keys = s.head_count * s.key_size, values = s.head_count * s.value_size;
  const int64_t mark = workspace.Mark();
  const Tensor q = workspace.Take(DType::kF32, {tokens, keys});
  const Tensor k = workspace.Take(DType::kF32, {tokens, keys});
  const Tensor v = workspace.Take(DType::kF32, {tokens, values});
  const Tensor y = workspace.Take(DType::kF32, {tokens, values});
  workspace.Release(mark);
  if (!q.present()) return;

  const Product products[] = {{x, &layer.query.weight, layer.query.bias, q},
                              {x, &layer.key.weight, layer.key.bias, k},
                              {x, &layer.value.weight, layer.value.bias, v}};
  backend_.MatMulGroup(products);
  backend_.Activate(Activation::kEluPlusOne, q, q);
  backend_.Activate(Activation::kEluPlusOne, k, k);
  RecurrenceOptions options;
  options.decay = s.decays ? Decay::kConstant : Decay::kNone;
  options.normaliser = Normaliser::kAddEps;
  options.normaliser_eps = s.attention_eps;
  RecurrenceInputs inputs;
  inputs.q = q.As({tokens, s.head_count, s.key_size});
  inputs.k = k.As({tokens, s.head_count, s.key_size});
  inputs.v = v.As({tokens, s.head_count, s.value_size});
  inputs.decay = layer.decay;
  StateRef state = pool, normaliser_state = pool;
  state.offset_bytes = layer.state_offset_bytes;
  state.dtype = info_.state_dtype;
  normaliser_state.offset_bytes = layer.normaliser_offset_bytes;
  backend_.Recurrence(options, rows, inputs, state, normaliser_state,
                      y.As({tokens, s.head_count, s.value_size}));
  Apply(layer.out, y, change);
  backend_.LayerNorm(x, change, layer.norm1.weight, layer.norm1.bias, s.norm_eps, x);
}

// x <- LN2(x + W_2 act(W_1 x + b_1) + b_2).  x, change [T, D]; change is scratch
void LinearTransformer::FeedForward(const Layer& layer, Workspace& workspace, const Tensor& x,
                                    const Tensor& change) {
  const int64_t mark = workspace.Mark();
  const Tensor inner = workspace.Take(DType::kF32, {x.dim(0), settings_.feed_forward_size});
  workspace.Release(mark);
  if (!inner.present()) return;

  Apply(layer.linear1, x, inner);
  backend_.Activate(settings_.activation, inner, inner);
  Apply(layer.linear2, inner, change);
  backend_.LayerNorm(x, change, layer.norm2.weight, layer.norm2.bias, settings_.norm_eps, x);
}

// Only the tokens whose logits are wanted.
void LinearTransformer::Predict(const Rows& rows, Workspace& workspace, const Tensor& x,
                                const Tensor& logits) {
  const Tensor last = workspace.Take(DType::kF32, {rows.logits_count, settings_.hidden_size});
  if (!last.present() || rows.logits_count == 0) return;
  backend_.GatherLogitsRows(rows, x, last);
  if (settings_.final_norm) {
    backend_.LayerNorm(last, Tensor(), final_norm_.weight, final_norm_.bias, settings_.norm_eps,
                       last);
  }
  Apply(predictor_, last, logits);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Model>> MakeLinearTransformer(const Config& config, Weights& weights,
                                                             Backend& backend, ModelInfo info) {
  EDDY_ASSIGN_OR_RETURN(const Settings settings, ReadSettings(config));
  info.vocabulary_size = static_cast<int32_t>(settings.vocabulary_size);
  EDDY_RETURN_IF_ERROR(ReadOutput(config, info));
  EDDY_RETURN_IF_ERROR(CheckPredictor(weights, info));
  auto model = std::make_unique<LinearTransformer>(settings, backend, std::move(info));
  EDDY_RETURN_IF_ERROR(model->Load(weights));
  return model;
}

}  // namespace eddy
