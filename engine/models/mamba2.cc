// SPDX-License-Identifier: Apache-2.0
// Mamba-2 (arXiv 2405.21060), by the names of Hugging Face (transformers, fla, Codestral) and of
// state-spaces. One sublayer a layer; per head, which uses B and C of group h / (H / G):
//   z, xBC, dt = W_in u;  x, B, C = silu(conv(xBC) + b)
//   dt <- softplus(dt + dt_bias), kept within time_step_limit
//   S <- exp(-exp(A_log) dt) S + B (dt x)^T;  y = S^T C + D x
//   change = W_out RMS(y silu(z)), the norm over each group's d_inner / G channels
// A session's state is S and the convolution's last inputs.
#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/config.h"
#include "engine/model_families.h"
#include "engine/sublayers/stack.h"
#include "engine/weights.h"
#include "kernels/status_macros.h"

namespace eddy {
namespace {

struct Settings {
  int64_t vocabulary_size = 0;
  int64_t hidden_size = 0;
  int64_t layer_count = 0;
  int64_t head_count = 0;         // H
  int64_t head_size = 0;          // P
  int64_t state_size = 0;         // N
  int64_t group_count = 0;        // G
  int64_t convolution_width = 0;  // W
  bool convolution_bias = true;
  bool bias = false;  // of the projections
  bool tied = false;  // the head is the embedding
  float norm_eps = 0.0f;
  StepRange step_range;

  int64_t inner_size() const { return head_count * head_size; }
  int64_t group_size() const { return group_count * state_size; }  // of all groups' B, or C
};

absl::Status RefuseGrowing(const Config& config, const std::string& key) {
  if (!config.HasContent(key)) return absl::OkStatus();
  return absl::UnimplementedError(absl::StrCat(
      config.file(), ": ", key,
      ": some layers are softmax attention, whose memory grows with every token; only models with "
      "a state of constant size are served"));
}

absl::Status Expect(const Config& config, const std::string& key, bool expected) {
  EDDY_ASSIGN_OR_RETURN(const bool found, config.Bool(key, expected));
  return found == expected ? absl::OkStatus()
                           : config.Error(key, expected ? "expected true" : "expected false");
}

absl::Status ReadStepRange(const Config& config, const std::string& key, Settings* s) {
  EDDY_ASSIGN_OR_RETURN(const Interval limit,
                        config.IntervalOf(key, {s->step_range.min, s->step_range.max}));
  s->step_range = {limit.min, limit.max};
  return absl::OkStatus();
}

// transformers', and fla's, whose eps is called otherwise.
absl::StatusOr<Settings> ReadHuggingFace(const Config& config, const Weights& weights,
                                         const std::string& head) {
  for (const char* key : {"attn", "attention_layers_idx"}) {
    EDDY_RETURN_IF_ERROR(RefuseGrowing(config, key));
  }
  EDDY_RETURN_IF_ERROR(config.Int("mlp_intermediate_size", 0, 0, 0).status());
  constexpr std::string_view kActivations[] = {"silu", "swish"};
  EDDY_RETURN_IF_ERROR(config.Choice("hidden_act", kActivations, 0).status());
  EDDY_RETURN_IF_ERROR(Expect(config, "rms_norm", true));
  Settings s;
  EDDY_ASSIGN_OR_RETURN(s.vocabulary_size, config.Int("vocab_size", 1, 1 << 23));
  EDDY_ASSIGN_OR_RETURN(s.hidden_size, config.Int("hidden_size", 1, 1 << 16));
  EDDY_ASSIGN_OR_RETURN(s.layer_count, config.Int("num_hidden_layers", 1, 1024));
  EDDY_ASSIGN_OR_RETURN(s.head_count, config.Int("num_heads", 1, 4096));
  EDDY_ASSIGN_OR_RETURN(s.head_size, config.Int("head_dim", 1, 4096, 64));
  EDDY_ASSIGN_OR_RETURN(s.state_size, config.Int("state_size", 1, 4096, 128));
  EDDY_ASSIGN_OR_RETURN(s.group_count, config.Int("n_groups", 1, 4096));
  EDDY_ASSIGN_OR_RETURN(s.convolution_width, config.Int("conv_kernel", 1, 64, 4));
  EDDY_ASSIGN_OR_RETURN(s.convolution_bias, config.Bool("use_conv_bias", true));
  EDDY_ASSIGN_OR_RETURN(s.bias, config.Bool("use_bias", false));
  const bool has_head = weights.StoredShape(head).has_value();
  EDDY_ASSIGN_OR_RETURN(s.tied, config.Bool("tie_word_embeddings", !has_head));
  const char* eps = config.Has("layer_norm_epsilon") ? "layer_norm_epsilon" : "norm_eps";
  EDDY_ASSIGN_OR_RETURN(s.norm_eps, config.Float(eps, 0.0f, 1.0f, 1e-5f));
  EDDY_RETURN_IF_ERROR(ReadStepRange(config, "time_step_limit", &s));
  EDDY_ASSIGN_OR_RETURN(const int64_t expand, config.Int("expand", 1, 64, 2));
  if (expand * s.hidden_size != s.inner_size()) {
    return config.Error("num_heads",
                        absl::StrCat("expected num_heads head_dim (", s.inner_size(),
                                     ") to be expand hidden_size (", expand * s.hidden_size, ")"));
  }
  return s;
}

// What state-spaces' configurations may say of the layers that makes them others than the above.
absl::Status RefuseStateSpaces(const Config& config, const Config& layer) {
  EDDY_RETURN_IF_ERROR(RefuseGrowing(config, "attn_layer_idx"));
  constexpr std::string_view kLayers[] = {"Mamba2"};
  EDDY_RETURN_IF_ERROR(layer.Choice("layer", kLayers).status());
  EDDY_RETURN_IF_ERROR(config.Int("d_intermediate", 0, 0, 0).status());
  EDDY_RETURN_IF_ERROR(Expect(config, "rms_norm", true));
  for (const char* key : {"D_has_hdim", "norm_before_gate"}) {
    EDDY_RETURN_IF_ERROR(Expect(layer, key, false));
  }
  EDDY_RETURN_IF_ERROR(Expect(layer, "rmsnorm", true));
  constexpr std::string_view kActivations[] = {"swish", "silu"};
  EDDY_RETURN_IF_ERROR(layer.Choice("activation", kActivations, 0).status());
  if (layer.Has("d_ssm")) return layer.Error("d_ssm", "expected none: all channels have a state");
  return absl::OkStatus();
}

// state-spaces', which leaves out what the library's defaults are.
absl::StatusOr<Settings> ReadStateSpaces(const Config& config) {
  EDDY_ASSIGN_OR_RETURN(const Config layer, config.Section("ssm_cfg"));
  EDDY_RETURN_IF_ERROR(RefuseStateSpaces(config, layer));
  Settings s;
  EDDY_ASSIGN_OR_RETURN(const int64_t vocabulary, config.Int("vocab_size", 1, 1 << 22));
  EDDY_ASSIGN_OR_RETURN(const int64_t multiple,
                        config.Int("pad_vocab_size_multiple", 1, 1 << 16, 8));
  s.vocabulary_size = (vocabulary + multiple - 1) / multiple * multiple;
  EDDY_ASSIGN_OR_RETURN(s.hidden_size, config.Int("d_model", 1, 1 << 16));
  EDDY_ASSIGN_OR_RETURN(s.layer_count, config.Int("n_layer", 1, 1024));
  EDDY_ASSIGN_OR_RETURN(s.tied, config.Bool("tie_embeddings", true));
  EDDY_ASSIGN_OR_RETURN(s.head_size, layer.Int("headdim", 1, 4096, 64));
  EDDY_ASSIGN_OR_RETURN(s.state_size, layer.Int("d_state", 1, 4096, 128));
  EDDY_ASSIGN_OR_RETURN(s.group_count, layer.Int("ngroups", 1, 4096, 1));
  EDDY_ASSIGN_OR_RETURN(s.convolution_width, layer.Int("d_conv", 1, 64, 4));
  EDDY_ASSIGN_OR_RETURN(s.convolution_bias, layer.Bool("conv_bias", true));
  EDDY_ASSIGN_OR_RETURN(s.bias, layer.Bool("bias", false));
  EDDY_RETURN_IF_ERROR(ReadStepRange(layer, "dt_limit", &s));
  s.norm_eps = 1e-5f;
  EDDY_ASSIGN_OR_RETURN(const int64_t expand, layer.Int("expand", 1, 64, 2));
  s.head_count = expand * s.hidden_size / s.head_size;
  if (expand * s.hidden_size != s.inner_size() || s.head_count < 1 || s.head_count > 4096) {
    return layer.Error("headdim", absl::StrCat("expected a divisor of expand d_model (",
                                               expand * s.hidden_size, ") and at most 4096 heads"));
  }
  return s;
}

absl::Status CheckSizes(const Config& config, const Settings& s) {
  if (s.head_count % s.group_count != 0) {
    return absl::InvalidArgumentError(absl::StrCat(config.file(), ": there are ", s.group_count,
                                                   " groups, expected a divisor of the ",
                                                   s.head_count, " heads"));
  }
  // At most 2^10 (2^12 2^12 2^12 + 2^6 (2^24 + 2^25)) 2^2 < 2^49: no overflow.
  const int64_t channels = s.inner_size() + 2 * s.group_size();
  return CheckStateBytes(
      config, "",
      s.layer_count * (s.inner_size() * s.state_size + (s.convolution_width - 1) * channels) * 4);
}

// Some of in_proj's outputs.
struct Projection {
  Matrix weight;
  Tensor bias;  // or absent
};

// Some of in_proj's outputs and the convolution behind them.
struct Convolved {
  Projection projection;
  Tensor weight;     // [W, channels]
  Tensor bias;       // [channels] or absent
  StatePart inputs;  // [W - 1, channels]
};

class Mamba2Mixer : public Sublayer {
 public:
  Mamba2Mixer(const Settings& settings, const std::string& prefix, const std::string& state,
              Weights& weights, StackParts* stack);

  void Run(const Step& step) const override;

 private:
  // The outputs [begin, begin + size) of in_proj.
  Projection ReadProjection(Weights& weights, const std::string& prefix, int64_t begin,
                            int64_t size) const;
  int64_t channel_count() const { return settings_.inner_size() + 2 * settings_.group_size(); }

  const Settings settings_;
  Projection gate_, step_;            // z [H P], dt [H]
  std::array<Convolved, 3> streams_;  // x [H P], B [G N], C [G N]
  Tensor rate_, step_bias_, skip_;    // A_log, dt_bias, D [H]
  Tensor norm_;                       // [G, H P / G]
  Projection out_;
  StatePart state_;  // S [H, N, P]
};

Mamba2Mixer::Mamba2Mixer(const Settings& settings, const std::string& prefix,
                         const std::string& state, Weights& weights, StackParts* stack)
    : settings_(settings) {
  const Settings& s = settings;
  const int64_t inner = s.inner_size(), channels = channel_count(), width = s.convolution_width;
  gate_ = ReadProjection(weights, prefix, 0, inner);
  const std::vector<float> taps =
      weights.ReadNumbers(prefix + "conv1d.weight", {channels, 1, width});
  constexpr const char* kNames[] = {"x", "b", "c"};
  int64_t begin = 0;
  for (size_t i = 0; i < streams_.size(); ++i) {
    const int64_t size = i == 0 ? inner : s.group_size();
    Convolved& stream = streams_[i];
    stream.projection = ReadProjection(weights, prefix, inner + begin, size);
    std::vector<float> turned;
    for (int64_t w = 0; w < width && !taps.empty(); ++w) {
      for (int64_t c = begin; c < begin + size; ++c) {
        turned.push_back(taps[static_cast<size_t>(c * width + w)]);
      }
    }
    stream.weight = weights.UploadNumbers(prefix + "conv1d.weight", turned, {width, size});
    if (s.convolution_bias) {
      stream.bias = weights.ReadVectorPart(prefix + "conv1d.bias", {channels}, begin, begin + size);
    }
    stream.inputs =
        stack->AddVectors(absl::StrCat(state, "convolution_", kNames[i]), {width - 1, size});
    begin += size;
  }
  step_ = ReadProjection(weights, prefix, inner + channels, s.head_count);
  rate_ = weights.ReadVector(prefix + "A_log", {s.head_count});
  step_bias_ = weights.ReadVector(prefix + "dt_bias", {s.head_count});
  skip_ = weights.ReadVector(prefix + "D", {s.head_count});
  norm_ = weights.ReadVector(prefix + "norm.weight", {inner})
              .As({s.group_count, inner / s.group_count});
  out_.weight = weights.ReadMatrix(prefix + "out_proj.weight", {s.hidden_size, inner});
  if (s.bias) out_.bias = weights.ReadVector(prefix + "out_proj.bias", {s.hidden_size});
  state_ = stack->AddMatrices(state + "s", {s.head_count, s.state_size, s.head_size});
}

Projection Mamba2Mixer::ReadProjection(Weights& weights, const std::string& prefix, int64_t begin,
                                       int64_t size) const {
  const int64_t outputs = settings_.inner_size() + channel_count() + settings_.head_count;
  Projection projection;
  projection.weight = weights.ReadMatrixRows(prefix + "in_proj.weight",
                                             {outputs, settings_.hidden_size}, begin, begin + size);
  if (settings_.bias) {
    projection.bias =
        weights.ReadVectorPart(prefix + "in_proj.bias", {outputs}, begin, begin + size);
  }
  return projection;
}

void Mamba2Mixer::Run(const Step& step) const {
  const Settings& s = settings_;
  const int64_t tokens = step.rows.token_count;
  const Tensor gate = step.Take(s.inner_size());
  const Tensor time_step = step.Take(s.head_count), decay = step.Take(s.head_count);
  std::array<Tensor, 3> inputs, convolved;
  for (size_t i = 0; i < streams_.size(); ++i) {
    inputs[i] = step.Take(streams_[i].projection.weight.out_size);
    convolved[i] = step.Take(streams_[i].projection.weight.out_size);
  }
  const Tensor y = step.Take(s.inner_size());
  if (step.workspace.measuring()) return;

  const auto product = [&](const Projection& projection, const Tensor& out) {
    return Product{step.normal, &projection.weight, projection.bias, out};
  };
  const std::array<Product, 5> products = {
      {product(gate_, gate), product(streams_[0].projection, inputs[0]),
       product(streams_[1].projection, inputs[1]), product(streams_[2].projection, inputs[2]),
       product(step_, time_step)}};
  step.backend.MatMulGroup(products);
  for (size_t i = 0; i < streams_.size(); ++i) {
    step.backend.ShortConvolution(step.rows, inputs[i], streams_[i].weight, streams_[i].bias,
                                  streams_[i].inputs.In(step.pool), convolved[i]);
  }
  step.backend.Mamba2Prepare(s.step_range, rate_, step_bias_, time_step, decay);
  RecurrenceInputs recurrence;
  recurrence.q = convolved[2].As({tokens, s.group_count, s.state_size});
  recurrence.k = convolved[1].As({tokens, s.group_count, s.state_size});
  recurrence.v = convolved[0].As({tokens, s.head_count, s.head_size});
  recurrence.decay = decay;
  recurrence.beta = time_step;
  recurrence.skip = skip_;
  RecurrenceOptions options;
  options.decay = Decay::kScalar;
  step.backend.Recurrence(options, step.rows, recurrence, state_.In(step.pool), StateRef(),
                          y.As(recurrence.v.shape()));
  const Shape groups = {tokens, s.group_count, s.inner_size() / s.group_count};
  const NormOptions norm = {NormKind::kRms, s.norm_eps, Activation::kSilu, /*gate_first=*/true};
  step.backend.Normalise(norm, {y.As(groups), {}, norm_, {}, gate.As(groups)}, Tensor(),
                         y.As(groups));
  step.backend.MatMul(y, out_.weight, out_.bias, step.change);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Model>> MakeMamba2(const Config& config, Weights& weights,
                                                  Backend& backend, ModelInfo info) {
  // The first files of Codestral call what is below the head "model".
  const std::string model = weights.StoredShape("model.norm_f.weight") ? "model." : "backbone.";
  const std::string head = "lm_head.weight";
  const bool state_spaces = config.Has("ssm_cfg") && !config.Has("hidden_size");
  EDDY_ASSIGN_OR_RETURN(const Settings s, state_spaces ? ReadStateSpaces(config)
                                                       : ReadHuggingFace(config, weights, head));
  EDDY_RETURN_IF_ERROR(CheckSizes(config, s));
  info.vocabulary_size = static_cast<int32_t>(s.vocabulary_size);
  EDDY_ASSIGN_OR_RETURN(info.end_of_text_ids, config.TokenIds("eos_token_id", s.vocabulary_size));
  StackParts stack;
  stack.info = std::move(info);
  stack.hidden_size = s.hidden_size;
  const Shape table = {s.vocabulary_size, s.hidden_size};
  const std::string embedding =
      model + (weights.StoredShape(model + "embedding.weight") ? "embedding" : "embeddings") +
      ".weight";
  stack.embedding = weights.ReadTable(embedding, table);
  const NormOptions norm = {NormKind::kRms, s.norm_eps};
  for (int64_t i = 0; i < s.layer_count; ++i) {
    const std::string layer = absl::StrCat(model, "layers.", i, ".");
    StackParts::Part& part = stack.parts.emplace_back();
    part.norm = {norm, weights.ReadVector(layer + "norm.weight", {s.hidden_size})};
    part.sublayer = std::make_unique<Mamba2Mixer>(s, layer + "mixer.",
                                                  absl::StrCat("layers.", i, "."), weights, &stack);
  }
  stack.final_norm = {norm, weights.ReadVector(model + "norm_f.weight", {s.hidden_size})};
  if (s.tied) weights.Ignore(head);  // the same numbers, where it is there
  stack.head = weights.ReadMatrix(s.tied ? embedding : head, table);
  return MakeStack(std::move(stack), weights, backend);
}

}  // namespace eddy
