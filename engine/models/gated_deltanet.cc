// SPDX-License-Identifier: Apache-2.0
// Gated DeltaNet (arXiv 2412.06464), by fla's names.
//
// Pre-norm layers. Per layer and token, conv a causal convolution of each channel with silu behind
// it; per value head, which uses query and key head h / (value heads / heads):
//   q, k, v = conv(W x);  q, k <- q / |q|, k / |k| per head;  beta = sigmoid(W_b x)
//   S <- exp(-exp(A_log) softplus(W_a x + dt_bias)) S
//   u = beta (v - S^T k);  S <- S + k u^T;  o = K^(-1/2) S^T q
//   x <- x + W_o (RMS(o) silu(W_g x));  x <- x + W_down (silu(W_gate h) (W_up h)), h = RMS(x)
// A session's state is S and the convolutions' last inputs.
#include <array>
#include <cmath>
#include <memory>
#include <span>
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
constexpr float kL2Eps = 1e-6f;

struct Settings {
  int64_t vocabulary_size = 0;
  int64_t hidden_size = 0;  // D
  int64_t layer_count = 0;
  int64_t head_count = 0;         // G, of queries and keys
  int64_t value_head_count = 0;   // H
  int64_t key_size = 0;           // K, of one head
  int64_t value_size = 0;         // V, of one head
  int64_t convolution_width = 0;  // W
  int64_t feed_forward_size = 0;
  bool gated = true;
  bool tied = false;  // the head is the embedding
  float norm_eps = 0.0f;

  int64_t keys() const { return head_count * key_size; }
  int64_t values() const { return value_head_count * value_size; }
};

// A projection and the convolution behind it.
struct Convolved {
  Matrix projection;
  Tensor weight;                   // [W, channels]
  int64_t state_offset_bytes = 0;  // [W - 1, channels]
};

struct Layer {
  Tensor mixer_norm, feed_forward_norm;  // [D]
  Convolved query, key, value;
  Matrix decay, beta;              // [H, D]
  Tensor decay_rate, decay_bias;   // A_log, dt_bias [H]
  Matrix output_gate;              // [H V, D]; none without gate
  Tensor output_norm;              // [V]
  Matrix out;                      // [D, H V]
  Matrix gate, up;                 // [feed forward, D]
  Matrix down;                     // [D, feed forward]
  int64_t state_offset_bytes = 0;  // S [H, K, V]
};

// What makes this another model than the one above.
absl::Status RefuseVariants(const Config& config) {
  if (config.Has("attn")) {
    return absl::UnimplementedError(absl::StrCat(
        config.file(),
        ": attn: some layers are softmax attention, whose memory grows with every token; only "
        "models with a state of constant size are served"));
  }
  if (config.Has("attnres_block_size")) {
    return config.Error("attnres_block_size",
                        "expected null: attention over the layers below is "
                        "another model");
  }
  constexpr std::string_view kActivations[] = {"swish", "silu"};
  EDDY_RETURN_IF_ERROR(config.Choice("hidden_act", kActivations, 0).status());
  const std::pair<const char*, bool> expected[] = {{"use_short_conv", true},
                                                   {"allow_neg_eigval", false}};
  for (const auto& [key, value] : expected) {
    EDDY_ASSIGN_OR_RETURN(const bool found, config.Bool(key, value));
    if (found != value) return config.Error(key, value ? "expected true" : "expected false");
  }
  return absl::OkStatus();
}

absl::Status ReadFeedForwardSize(const Config& config, Settings* s) {
  constexpr int64_t kMax = 1 << 20, kRound = 256;
  EDDY_ASSIGN_OR_RETURN(const int64_t ratio, config.Int("hidden_ratio", 1, 64, 4));
  const int64_t computed = s->hidden_size * ratio * 2 / 3;
  EDDY_ASSIGN_OR_RETURN(
      s->feed_forward_size,
      config.Int("intermediate_size", 1, kMax, (computed + kRound - 1) / kRound * kRound));
  return absl::OkStatus();
}

absl::StatusOr<Settings> ReadSettings(const Config& config) {
  EDDY_RETURN_IF_ERROR(RefuseVariants(config));
  Settings s;
  EDDY_ASSIGN_OR_RETURN(s.vocabulary_size, config.Int("vocab_size", 1, 1 << 23));
  EDDY_ASSIGN_OR_RETURN(s.hidden_size, config.Int("hidden_size", 1, 1 << 16));
  EDDY_ASSIGN_OR_RETURN(s.layer_count, config.Int("num_hidden_layers", 1, 1024));
  EDDY_ASSIGN_OR_RETURN(s.head_count, config.Int("num_heads", 1, 4096));
  EDDY_ASSIGN_OR_RETURN(s.value_head_count, config.Int("num_v_heads", 1, 4096, s.head_count));
  EDDY_ASSIGN_OR_RETURN(s.key_size, config.Int("head_dim", 1, 4096));
  EDDY_ASSIGN_OR_RETURN(const float expansion, config.Float("expand_v", 0.0f, 64.0f, 2.0f));
  EDDY_ASSIGN_OR_RETURN(s.convolution_width, config.Int("conv_size", 1, 64, 4));
  EDDY_ASSIGN_OR_RETURN(s.gated, config.Bool("use_gate", true));
  EDDY_ASSIGN_OR_RETURN(s.tied, config.Bool("tie_word_embeddings", false));
  EDDY_RETURN_IF_ERROR(ReadFeedForwardSize(config, &s));
  const char* eps = config.Has("norm_eps") ? "norm_eps" : "rms_norm_eps";  // the older spelling
  EDDY_ASSIGN_OR_RETURN(s.norm_eps, config.Float(eps, 0.0f, 1.0f, 1e-6f));
  const double value_size = static_cast<double>(expansion) * static_cast<double>(s.key_size);
  if (value_size < 1.0 || value_size != std::floor(value_size)) {
    return config.Error(
        "expand_v", absl::StrCat("expected a whole number of values times head_dim ", s.key_size));
  }
  s.value_size = static_cast<int64_t>(value_size);
  if (s.value_head_count % s.head_count != 0) {
    return config.Error("num_v_heads",
                        absl::StrCat("expected a multiple of num_heads ", s.head_count));
  }
  // At most 2^10 2^12 2^12 2^18 2^2 < 2^55: no overflow.
  const int64_t state_bytes = s.layer_count * s.value_head_count * s.key_size * s.value_size * 4;
  if (state_bytes > kStateBytesMax) {
    return config.Error("num_heads", absl::StrCat("which with the other sizes makes ", state_bytes,
                                                  " bytes of state per session, expected at most ",
                                                  kStateBytesMax));
  }
  return s;
}

class GatedDeltaNet : public Model {
 public:
  GatedDeltaNet(const Settings& settings, Backend& backend, ModelInfo info)
      : settings_(settings), backend_(backend), info_(std::move(info)) {}

  absl::Status Load(Weights& weights);

  const ModelInfo& info() const override { return info_; }
  const StateLayout& state_layout() const override { return state_layout_; }
  void Forward(const Rows& rows, const StateRef& pool, Workspace& workspace,
               const Tensor& logits) override;

 private:
  // One step's arrays of all layers; [T, D].
  struct Step {
    const Rows& rows;
    const StateRef& pool;
    Workspace& workspace;
    Tensor x;       // the residual stream, but for `change`
    Tensor change;  // what the last part adds to it
    Tensor normal;  // the next part's input
  };

  Layer ReadLayer(Weights& weights, int64_t index);
  void Mix(const Layer& layer, const Step& step);
  void Recur(const Layer& layer, const Step& step, const RecurrenceInputs& inputs,
             const Tensor& out);
  void FeedForward(const Layer& layer, const Step& step);
  void Predict(const Step& step, const Tensor& logits);
  void Convolve(const Convolved& convolved, const Step& step, const Tensor& x, const Tensor& out) {
    StateRef state = step.pool;
    state.offset_bytes = convolved.state_offset_bytes;
    backend_.ShortConvolution(step.rows, x, convolved.weight, state, out);
  }
  void Normalise(const Tensor& weight, const Tensor& x, const Tensor& residual, const Tensor& sum,
                 const Tensor& out) {
    backend_.Normalise({NormKind::kRms, settings_.norm_eps}, {x, residual, weight, {}, {}}, sum,
                       out);
  }

  // All constant after Load.
  const Settings settings_;
  Backend& backend_;
  ModelInfo info_;
  StateLayout state_layout_;
  std::vector<Buffer> buffers_;  // of all Tensors below
  Tensor embedding_;             // [vocabulary, D]
  std::vector<Layer> layers_;
  Tensor final_norm_;  // [D]
  Matrix head_;        // [vocabulary, D]
};

Layer GatedDeltaNet::ReadLayer(Weights& weights, int64_t index) {
  const Settings& s = settings_;
  const std::string prefix = absl::StrCat("model.layers.", index, ".");
  const std::string attention = prefix + "attn.";
  const std::string state = absl::StrCat("layers.", index, ".");
  const auto read_convolved = [&](const std::string& letter, int64_t channels) {
    Convolved convolved;
    convolved.projection =
        weights.ReadMatrix(attention + letter + "_proj.weight", {channels, s.hidden_size});
    convolved.weight = weights.ReadTransposedVectors(attention + letter + "_conv1d.weight",
                                                     {channels, s.convolution_width});
    convolved.state_offset_bytes = state_layout_.Add(state + letter + "_inputs", DType::kF32,
                                                     {s.convolution_width - 1, channels});
    return convolved;
  };
  Layer layer;
  layer.mixer_norm = weights.ReadVector(prefix + "attn_norm.weight", {s.hidden_size});
  layer.feed_forward_norm = weights.ReadVector(prefix + "mlp_norm.weight", {s.hidden_size});
  layer.query = read_convolved("q", s.keys());
  layer.key = read_convolved("k", s.keys());
  layer.value = read_convolved("v", s.values());
  const Shape per_head = {s.value_head_count, s.hidden_size};
  layer.decay = weights.ReadMatrix(attention + "a_proj.weight", per_head);
  layer.beta = weights.ReadMatrix(attention + "b_proj.weight", per_head);
  layer.decay_rate = weights.ReadVector(attention + "A_log", {s.value_head_count});
  layer.decay_bias = weights.ReadVector(attention + "dt_bias", {s.value_head_count});
  if (s.gated) {
    layer.output_gate =
        weights.ReadMatrix(attention + "g_proj.weight", {s.values(), s.hidden_size});
  }
  layer.output_norm = weights.ReadVector(attention + "o_norm.weight", {s.value_size});
  layer.out = weights.ReadMatrix(attention + "o_proj.weight", {s.hidden_size, s.values()});
  const Shape inner = {s.feed_forward_size, s.hidden_size};
  layer.gate = weights.ReadMatrix(prefix + "mlp.gate_proj.weight", inner);
  layer.up = weights.ReadMatrix(prefix + "mlp.up_proj.weight", inner);
  layer.down =
      weights.ReadMatrix(prefix + "mlp.down_proj.weight", {s.hidden_size, s.feed_forward_size});
  layer.state_offset_bytes = state_layout_.Add(state + "s", info_.state_dtype,
                                               {s.value_head_count, s.key_size, s.value_size});
  return layer;
}

absl::Status GatedDeltaNet::Load(Weights& weights) {
  const Settings& s = settings_;
  const Shape table = {s.vocabulary_size, s.hidden_size};
  const std::string embedding = "model.embeddings.weight", head = "lm_head.weight";
  embedding_ = weights.ReadTable(embedding, table);
  for (int64_t i = 0; i < s.layer_count; ++i) layers_.push_back(ReadLayer(weights, i));
  final_norm_ = weights.ReadVector("model.norm.weight", {s.hidden_size});
  head_ = weights.ReadMatrix(s.tied ? embedding : head, table);
  if (s.tied) weights.Ignore(head);  // some files have it all the same
  EDDY_ASSIGN_OR_RETURN(LoadedWeights loaded, weights.Finish());
  buffers_ = std::move(loaded.buffers);
  info_.parameter_count = loaded.parameter_count;
  info_.weight_bytes = loaded.weight_bytes;
  return absl::OkStatus();
}

void GatedDeltaNet::Forward(const Rows& rows, const StateRef& pool, Workspace& workspace,
                            const Tensor& logits) {
  Step step = {rows, pool, workspace, {}, {}, {}};
  for (Tensor* tensor : {&step.x, &step.change, &step.normal}) {
    *tensor = workspace.Take(DType::kF32, {rows.token_count, settings_.hidden_size});
  }
  const bool measuring = !step.x.present();
  if (!measuring) backend_.Embed(rows, embedding_, 0, step.x);
  for (const Layer& layer : layers_) {
    const bool first = &layer == &layers_.front();
    if (!measuring) {
      Normalise(layer.mixer_norm, step.x, first ? Tensor() : step.change, first ? Tensor() : step.x,
                step.normal);
    }
    Mix(layer, step);
    if (!measuring) {
      Normalise(layer.feed_forward_norm, step.x, step.change, step.x, step.normal);
    }
    FeedForward(layer, step);
  }
  Predict(step, logits);
}

// change = the mixer of normal.
void GatedDeltaNet::Mix(const Layer& layer, const Step& step) {
  const Settings& s = settings_;
  const int64_t tokens = step.rows.token_count, heads = s.value_head_count;
  Workspace& workspace = step.workspace;
  const int64_t mark = workspace.Mark();
  const auto take = [&](int64_t width) { return workspace.Take(DType::kF32, {tokens, width}); };
  const Tensor q_input = take(s.keys()), k_input = take(s.keys()), v_input = take(s.values());
  const Tensor q = take(s.keys()), k = take(s.keys()), v = take(s.values());
  const Tensor decay = take(heads), beta = take(heads);
  const Tensor y = take(s.values());
  const Tensor gate = s.gated ? take(s.values()) : Tensor();
  workspace.Release(mark);
  if (!q.present()) return;

  const std::array<Product, 6> products = {{{step.normal, &layer.query.projection, {}, q_input},
                                            {step.normal, &layer.key.projection, {}, k_input},
                                            {step.normal, &layer.value.projection, {}, v_input},
                                            {step.normal, &layer.decay, {}, decay},
                                            {step.normal, &layer.beta, {}, beta},
                                            {step.normal, &layer.output_gate, {}, gate}}};
  backend_.MatMulGroup(std::span(products).first(s.gated ? 6 : 5));
  Convolve(layer.query, step, q_input, q);
  Convolve(layer.key, step, k_input, k);
  Convolve(layer.value, step, v_input, v);
  backend_.MakeDecay({DecayMap::kSoftplus}, decay, layer.decay_rate, layer.decay_bias);
  backend_.Activate(Activation::kSigmoid, beta, beta);
  RecurrenceInputs inputs;
  inputs.q = q.As({tokens, s.head_count, s.key_size});
  inputs.k = k.As({tokens, s.head_count, s.key_size});
  inputs.v = v.As({tokens, heads, s.value_size});
  inputs.decay = decay;
  inputs.beta = beta;
  for (const Tensor* unit : {&inputs.q, &inputs.k}) {
    backend_.Normalise({NormKind::kL2, kL2Eps}, {*unit, {}, {}, {}, {}}, Tensor(), *unit);
  }
  const Tensor read = y.As({tokens, heads, s.value_size});
  Recur(layer, step, inputs, read);
  const Tensor read_gate = s.gated ? gate.As(read.shape()) : Tensor();
  backend_.Normalise({NormKind::kRms, s.norm_eps, Activation::kSilu},
                     {read, {}, layer.output_norm, {}, read_gate}, Tensor(), read);
  backend_.MatMul(y, layer.out, Tensor(), step.change);
}

void GatedDeltaNet::Recur(const Layer& layer, const Step& step, const RecurrenceInputs& inputs,
                          const Tensor& out) {
  RecurrenceOptions options;
  options.decay = Decay::kScalar;
  options.removal = Removal::kDelta;
  options.scale = 1.0f / std::sqrt(static_cast<float>(settings_.key_size));
  StateRef state = step.pool;
  state.offset_bytes = layer.state_offset_bytes;
  state.dtype = info_.state_dtype;
  backend_.Recurrence(options, step.rows, inputs, state, StateRef(), out);
}

// change = the feed-forward part of normal.
void GatedDeltaNet::FeedForward(const Layer& layer, const Step& step) {
  const Shape shape = {step.rows.token_count, settings_.feed_forward_size};
  const int64_t mark = step.workspace.Mark();
  const Tensor gate = step.workspace.Take(DType::kF32, shape);
  const Tensor up = step.workspace.Take(DType::kF32, shape);
  step.workspace.Release(mark);
  if (!gate.present()) return;

  const std::array<Product, 2> products = {
      {{step.normal, &layer.gate, {}, gate}, {step.normal, &layer.up, {}, up}}};
  backend_.MatMulGroup(products);
  backend_.Gate(Activation::kSilu, gate, up, gate);
  backend_.MatMul(gate, layer.down, Tensor(), step.change);
}

// Only the tokens whose logits are wanted.
void GatedDeltaNet::Predict(const Step& step, const Tensor& logits) {
  const Shape shape = {step.rows.logits_count, settings_.hidden_size};
  const Tensor x = step.workspace.Take(DType::kF32, shape);
  const Tensor change = step.workspace.Take(DType::kF32, shape);
  if (!x.present() || step.rows.logits_count == 0) return;
  backend_.GatherLogitsRows(step.rows, step.x, x);
  backend_.GatherLogitsRows(step.rows, step.change, change);
  Normalise(final_norm_, x, change, Tensor(), x);
  backend_.MatMul(x, head_, Tensor(), logits);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Model>> MakeGatedDeltaNet(const Config& config, Weights& weights,
                                                         Backend& backend, ModelInfo info) {
  EDDY_ASSIGN_OR_RETURN(const Settings settings, ReadSettings(config));
  info.vocabulary_size = static_cast<int32_t>(settings.vocabulary_size);
  EDDY_ASSIGN_OR_RETURN(info.end_of_text_ids,
                        config.TokenIds("eos_token_id", settings.vocabulary_size));
  auto model = std::make_unique<GatedDeltaNet>(settings, backend, std::move(info));
  EDDY_RETURN_IF_ERROR(model->Load(weights));
  return model;
}

}  // namespace eddy
