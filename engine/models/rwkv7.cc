// SPDX-License-Identifier: Apache-2.0
// RWKV-7 ("Goose", arXiv 2503.14456), by the names of the official checkpoints and by those of fla
// (Hugging Face).
//
// Pre-norm layers of two mixers; each sees its input x and that of the token before, x_s = x +
// (before - x) mu_s. Time mix, per head with S [N, N] by key and value:
//   w = exp(-e^(-1/2) sigmoid(w0 + tanh(x_w w1) w2));  a = sigmoid(a0 + x_a a1 a2)
//   v <- v + (v of the first layer - v) sigmoid(v0 + x_v v1 v2);  kappa = k k_k / |k k_k|
//   k <- k (1 + (a - 1) k_a);  S <- diag(w) S - (kappa a) (S^T kappa)^T + k v^T;  y = S^T r
//   x <- x + W_o ((GroupNorm(y) + (sum r k r_k) v) (sigmoid(x_g g1) g2))
// Channel mix: x <- x + W_v relu(W_k x_k)^2. A session's state is S and both mixers' last input.
#include <array>
#include <memory>
#include <optional>
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

constexpr int64_t kHiddenSizeMax = 1 << 16;
constexpr int64_t kLayerCountMax = 1024;
constexpr int64_t kRankMax = 1 << 14;
constexpr int64_t kStateBytesMax = int64_t{1} << 40;  // of one session

// What the rows of a time mix's `mix` are for.
enum Mix : int64_t { kReceptance, kDecay, kKey, kValue, kRate, kGate, kMixCount };

struct Settings {
  bool official = false;  // the names of the tensors
  int64_t vocabulary_size = 0;
  int64_t hidden_size = 0;  // C
  int64_t layer_count = 0;
  int64_t head_count = 0;  // H
  int64_t head_size = 0;   // N
  int64_t feed_forward_size = 0;
  int64_t decay_rank = 0, rate_rank = 0, value_rank = 0, gate_rank = 0;
  bool first_norm = true;
  bool norm_bias = true;
  float norm_eps = 0.0f;
};

struct Norm {
  Tensor weight;  // [C]
  Tensor bias;    // [C] or absent
};

// Two matrices with little between them: up f(down x) + bias.
struct LowRank {
  Matrix down;  // [rank, C]
  Matrix up;    // [C, rank]
  Tensor bias;  // [C]; absent of the gate
};

struct TimeMix {
  Tensor mix;                          // [kMixCount, C]
  Matrix receptance, key, value, out;  // [C, C]
  LowRank decay, rate, gate;
  LowRank value_mix;                          // none in the first layer
  Tensor key_scale, rate_scale, bonus;        // k_k, k_a, r_k [H, N]
  Tensor group_norm_weight, group_norm_bias;  // [H, N]
  int64_t shift_offset_bytes = 0;             // [C]
  int64_t state_offset_bytes = 0;             // S [H, N, N]
};

struct ChannelMix {
  Tensor mix;                      // [1, C]
  Matrix key;                      // [feed forward, C]
  Matrix value;                    // [C, feed forward]
  int64_t shift_offset_bytes = 0;  // [C]
};

struct Layer {
  Norm time_norm, channel_norm;
  TimeMix time;
  ChannelMix channel;
};

// Names in one layer: the official one or fla's.
class LayerNames {
 public:
  LayerNames(bool official, int64_t layer)
      : official_(official),
        prefix_(absl::StrCat(official ? "blocks." : "model.layers.", layer, ".")) {}
  std::string operator()(const char* official, const char* fla) const {
    return prefix_ + (official_ ? official : fla);
  }
  // A tensor of the time mix that both name alike.
  std::string Time(const std::string& name) const {
    return prefix_ + (official_ ? "att." : "attn.") + name;
  }

 private:
  const bool official_;
  const std::string prefix_;
};

// Axis `axis`, counted from the last one, of a stored tensor; 0 when there is none.
int64_t StoredSize(const Weights& weights, const std::string& name, int axis) {
  const std::optional<Shape> shape = weights.StoredShape(name);
  return shape && axis < shape->rank() ? (*shape)[shape->rank() - 1 - axis] : 0;
}

// What config.json says; where it is silent, what the tensors say (official checkpoints have no
// configuration).
absl::StatusOr<int64_t> SizeOf(const Config& config, const std::string& key, int64_t max,
                               int64_t stored) {
  if (!config.Has(key) && stored >= 1 && stored <= max) return stored;
  return config.Int(key, 1, max);
}

// What makes this another model than the one above, by its configuration or its tensors.
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
    if (name.find(".ffn.s_emb") != std::string::npos) {
      return absl::UnimplementedError(
          absl::StrCat(weights.file().file(), ": ", name,
                       " is part of a deep embedding (RWKV-7a), which cannot be served"));
    }
  }
  constexpr std::string_view kActivations[] = {"sqrelu"};
  EDDY_RETURN_IF_ERROR(config.Choice("hidden_act", kActivations, 0).status());
  EDDY_ASSIGN_OR_RETURN(const bool tied, config.Bool("tie_word_embeddings", false));
  if (tied) return config.Error("tie_word_embeddings", "expected false");
  return absl::OkStatus();
}

absl::Status ReadHeads(const Config& config, const Weights& weights, Settings* s) {
  const int64_t stored = StoredSize(weights, LayerNames(s->official, 0).Time("r_k"), 0);
  if (stored >= 1 && stored <= s->hidden_size) {
    s->head_size = stored;  // configurations are known to be wrong about num_heads
  } else {
    EDDY_ASSIGN_OR_RETURN(s->head_size, config.Int("head_dim", 1, s->hidden_size, 64));
  }
  if (s->hidden_size % s->head_size != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(config.file(), ": hidden_size is ", s->hidden_size,
                     ", expected a multiple of the head size ", s->head_size));
  }
  s->head_count = s->hidden_size / s->head_size;
  // At most 2^10 2^16 (2^16 + 2) 2^2 < 2^45: no overflow.
  const int64_t state_bytes = s->layer_count * s->hidden_size * (s->head_size + 2) * 4;
  if (state_bytes <= kStateBytesMax) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(config.file(), ": the sizes make ", state_bytes,
                                                 " bytes of state per session, expected at most ",
                                                 kStateBytesMax));
}

// The tensors go before the configuration, which is known to be wrong about these.
absl::Status ReadRanks(const Config& config, const Weights& weights, Settings* s) {
  const auto rank = [&](int64_t layer, const std::string& letter,
                        const char* key) -> absl::StatusOr<int64_t> {
    const LayerNames names(s->official, layer);
    const int64_t stored = s->official
                               ? StoredSize(weights, names.Time(letter + "1"), 0)
                               : StoredSize(weights, names.Time(letter + "_lora.lora.0.weight"), 1);
    if (stored >= 1 && stored <= kRankMax) return stored;
    return config.Int(key, 1, kRankMax);
  };
  EDDY_ASSIGN_OR_RETURN(s->decay_rank, rank(0, "w", "decay_low_rank_dim"));
  EDDY_ASSIGN_OR_RETURN(s->rate_rank, rank(0, "a", "a_low_rank_dim"));
  EDDY_ASSIGN_OR_RETURN(s->gate_rank, rank(0, "g", "gate_low_rank_dim"));
  if (s->layer_count == 1) return absl::OkStatus();  // the first layer has no value mix
  EDDY_ASSIGN_OR_RETURN(s->value_rank, rank(1, "v", "v_low_rank_dim"));
  return absl::OkStatus();
}

absl::StatusOr<Settings> ReadSettings(const Config& config, const Weights& weights) {
  EDDY_RETURN_IF_ERROR(RefuseVariants(config, weights));
  Settings s;
  s.official = weights.StoredShape("emb.weight").has_value();
  const std::string embedding = s.official ? "emb.weight" : "model.embeddings.weight";
  EDDY_ASSIGN_OR_RETURN(s.vocabulary_size,
                        SizeOf(config, "vocab_size", 1 << 23, StoredSize(weights, embedding, 1)));
  EDDY_ASSIGN_OR_RETURN(s.hidden_size, SizeOf(config, "hidden_size", kHiddenSizeMax,
                                              StoredSize(weights, embedding, 0)));
  int64_t layers = 0;
  while (layers < kLayerCountMax &&
         weights.StoredShape(LayerNames(s.official, layers)("ln1.weight", "attn_norm.weight"))) {
    ++layers;
  }
  EDDY_ASSIGN_OR_RETURN(s.layer_count, SizeOf(config, "num_hidden_layers", kLayerCountMax, layers));
  const std::string key = LayerNames(s.official, 0)("ffn.key.weight", "ffn.key.weight");
  EDDY_ASSIGN_OR_RETURN(s.feed_forward_size,
                        SizeOf(config, "intermediate_size", 1 << 20, StoredSize(weights, key, 1)));
  EDDY_RETURN_IF_ERROR(ReadHeads(config, weights, &s));
  EDDY_RETURN_IF_ERROR(ReadRanks(config, weights, &s));
  EDDY_ASSIGN_OR_RETURN(s.norm_eps, config.Float("norm_eps", 0.0f, 1.0f, 1e-5f));
  EDDY_ASSIGN_OR_RETURN(s.first_norm, config.Bool("norm_first", true));
  EDDY_ASSIGN_OR_RETURN(s.norm_bias, config.Bool("norm_bias", true));
  return s;
}

Norm ReadNorm(Weights& weights, const Settings& s, const std::string& name) {
  Norm norm;
  norm.weight = weights.ReadVector(name + ".weight", {s.hidden_size});
  if (s.norm_bias) norm.bias = weights.ReadVector(name + ".bias", {s.hidden_size});
  return norm;
}

LowRank ReadLowRank(Weights& weights, const Settings& s, const LayerNames& names,
                    const std::string& letter, int64_t rank, bool has_bias = true) {
  LowRank low_rank;
  const Shape down = {rank, s.hidden_size};
  const Shape up = {s.hidden_size, rank};
  const std::string lora = names.Time(letter + "_lora.lora.");
  if (s.official) {  // x w1 w2: stored as [in, out]
    low_rank.down = weights.ReadTransposedMatrix(names.Time(letter + "1"), up);
    low_rank.up = weights.ReadTransposedMatrix(names.Time(letter + "2"), down);
  } else {
    low_rank.down = weights.ReadMatrix(lora + "0.weight", down);
    low_rank.up = weights.ReadMatrix(lora + "2.weight", up);
  }
  const std::string bias = s.official ? names.Time(letter + "0") : lora + "2.bias";
  if (has_bias) low_rank.bias = weights.ReadVector(bias, {s.hidden_size});
  return low_rank;
}

TimeMix ReadTimeMix(Weights& weights, const Settings& s, int64_t layer) {
  const LayerNames names(s.official, layer);
  const auto read_square = [&](const char* official, const char* fla) {
    return weights.ReadMatrix(names(official, fla), {s.hidden_size, s.hidden_size});
  };
  const auto read_heads = [&](const std::string& name) {
    return weights.ReadVector(name, {s.hidden_size}).As({s.head_count, s.head_size});
  };
  TimeMix time;
  if (weights.StoredShape(names.Time("x_x"))) {  // in the first conversions for fla
    time.mix = weights.ReadVector(names.Time("x_x"), {kMixCount, s.hidden_size});
  } else {
    std::vector<std::string> mixes;
    for (const char letter : std::string_view("rwkvag")) {
      mixes.push_back(names.Time(std::string("x_") + letter));
    }
    time.mix = weights.ReadVectors(mixes, s.hidden_size);
  }
  time.receptance = read_square("att.receptance.weight", "attn.r_proj.weight");
  time.key = read_square("att.key.weight", "attn.k_proj.weight");
  time.value = read_square("att.value.weight", "attn.v_proj.weight");
  time.out = read_square("att.output.weight", "attn.o_proj.weight");
  time.decay = ReadLowRank(weights, s, names, "w", s.decay_rank);
  time.rate = ReadLowRank(weights, s, names, "a", s.rate_rank);
  time.gate = ReadLowRank(weights, s, names, "g", s.gate_rank, /*has_bias=*/false);
  if (layer > 0) {
    time.value_mix = ReadLowRank(weights, s, names, "v", s.value_rank);
  } else {
    for (const char* unused : {"v0", "v1", "v2"}) weights.Ignore(names.Time(unused));
  }
  time.key_scale = read_heads(names.Time("k_k"));
  time.rate_scale = read_heads(names.Time("k_a"));
  time.bonus = weights.ReadVector(names.Time("r_k"), {s.head_count, s.head_size});
  time.group_norm_weight = read_heads(names("att.ln_x.weight", "attn.g_norm.weight"));
  time.group_norm_bias = read_heads(names("att.ln_x.bias", "attn.g_norm.bias"));
  return time;
}

class Rwkv7 : public Model {
 public:
  Rwkv7(const Settings& settings, Backend& backend, ModelInfo info)
      : settings_(settings), backend_(backend), info_(std::move(info)) {}

  absl::Status Load(Weights& weights);

  const ModelInfo& info() const override { return info_; }
  const StateLayout& state_layout() const override { return state_layout_; }
  void Forward(const Rows& rows, const StateRef& pool, Workspace& workspace,
               const Tensor& logits) override;

 private:
  // One step's arrays of all layers; [T, C].
  struct Step {
    const Rows& rows;
    const StateRef& pool;
    Workspace& workspace;
    Tensor x;        // the residual stream, but for `change`
    Tensor change;   // what the last mixer adds to it
    Tensor normal;   // the next mixer's input
    Tensor first_v;  // the first layer's values
  };

  void MixTime(const Layer& layer, const Step& step);
  void MixChannels(const Layer& layer, const Step& step);
  void Predict(const Step& step, const Tensor& logits);
  void Normalise(const Norm& norm, const Tensor& x, const Tensor& residual, const Tensor& sum,
                 const Tensor& out) {
    backend_.Normalise({NormKind::kLayer, settings_.norm_eps},
                       {x, residual, norm.weight, norm.bias, Tensor()}, sum, out);
  }

  // All constant after Load.
  const Settings settings_;
  Backend& backend_;
  ModelInfo info_;
  StateLayout state_layout_;
  std::vector<Buffer> buffers_;  // of all Tensors below
  Tensor embedding_;             // [vocabulary, C]
  Norm first_norm_;              // of the embedding; absent without first_norm
  std::vector<Layer> layers_;
  Norm final_norm_;
  Matrix head_;  // [vocabulary, C]
};

absl::Status Rwkv7::Load(Weights& weights) {
  const Settings& s = settings_;
  const Shape table = {s.vocabulary_size, s.hidden_size};
  embedding_ = weights.ReadTable(s.official ? "emb.weight" : "model.embeddings.weight", table);
  if (s.first_norm) {
    first_norm_ = ReadNorm(weights, s, LayerNames(s.official, 0)("ln0", "pre_norm"));
  }
  for (int64_t i = 0; i < s.layer_count; ++i) {
    const LayerNames names(s.official, i);
    Layer& layer = layers_.emplace_back();
    layer.time_norm = ReadNorm(weights, s, names("ln1", "attn_norm"));
    layer.channel_norm = ReadNorm(weights, s, names("ln2", "ffn_norm"));
    layer.time = ReadTimeMix(weights, s, i);
    const std::string ffn = names("ffn.", "ffn.");
    layer.channel.mix = weights.ReadVector(ffn + "x_k", {1, s.hidden_size});
    layer.channel.key =
        weights.ReadMatrix(ffn + "key.weight", {s.feed_forward_size, s.hidden_size});
    layer.channel.value =
        weights.ReadMatrix(ffn + "value.weight", {s.hidden_size, s.feed_forward_size});
    const std::string state = absl::StrCat("layers.", i, ".");
    const Shape heads = {s.head_count, s.head_size, s.head_size};
    layer.time.shift_offset_bytes =
        state_layout_.Add(state + "time_shift", DType::kF32, {s.hidden_size});
    layer.time.state_offset_bytes = state_layout_.Add(state + "s", info_.state_dtype, heads);
    layer.channel.shift_offset_bytes =
        state_layout_.Add(state + "channel_shift", DType::kF32, {s.hidden_size});
  }
  final_norm_ = ReadNorm(weights, s, s.official ? "ln_out" : "model.norm");
  head_ = weights.ReadMatrix(s.official ? "head.weight" : "lm_head.weight", table);
  EDDY_ASSIGN_OR_RETURN(LoadedWeights loaded, weights.Finish());
  buffers_ = std::move(loaded.buffers);
  info_.parameter_count = loaded.parameter_count;
  info_.weight_bytes = loaded.weight_bytes;
  return absl::OkStatus();
}

void Rwkv7::Forward(const Rows& rows, const StateRef& pool, Workspace& workspace,
                    const Tensor& logits) {
  const Shape shape = {rows.token_count, settings_.hidden_size};
  Step step = {rows, pool, workspace, {}, {}, {}, {}};
  for (Tensor* tensor : {&step.x, &step.change, &step.normal, &step.first_v}) {
    *tensor = workspace.Take(DType::kF32, shape);
  }
  const bool measuring = !step.x.present();
  if (!measuring) {
    backend_.Embed(rows, embedding_, 0, step.x);
    if (settings_.first_norm) Normalise(first_norm_, step.x, Tensor(), Tensor(), step.x);
  }
  for (const Layer& layer : layers_) {
    const bool first = &layer == &layers_.front();
    if (!measuring) {
      Normalise(layer.time_norm, step.x, first ? Tensor() : step.change, first ? Tensor() : step.x,
                step.normal);
    }
    MixTime(layer, step);
    if (!measuring) {
      Normalise(layer.channel_norm, step.x, step.change, step.x, step.normal);
    }
    MixChannels(layer, step);
  }
  Predict(step, logits);
}

// change = the time mix of normal.
void Rwkv7::MixTime(const Layer& layer, const Step& step) {
  const TimeMix& time = layer.time;
  const bool first = &layer == &layers_.front();
  const int64_t tokens = step.rows.token_count, size = settings_.hidden_size;
  Workspace& workspace = step.workspace;
  const int64_t mark = workspace.Mark();
  const auto take = [&](int64_t width) { return workspace.Take(DType::kF32, {tokens, width}); };
  const Tensor difference = take(size);
  const Tensor r = take(size), k = take(size), v = first ? step.first_v : take(size);
  const Tensor decay = take(size), rate = take(size), gate = take(size);
  const Tensor removal = take(size), y = take(size);
  const Tensor value_mix = first ? Tensor() : take(size);
  const Tensor decay_inner = take(settings_.decay_rank), rate_inner = take(settings_.rate_rank);
  const Tensor gate_inner = take(settings_.gate_rank);
  const Tensor value_inner = first ? Tensor() : take(settings_.value_rank);
  workspace.Release(mark);
  if (!difference.present()) return;

  StateRef shift = step.pool, state = step.pool;
  shift.offset_bytes = time.shift_offset_bytes;
  state.offset_bytes = time.state_offset_bytes;
  state.dtype = info_.state_dtype;
  backend_.TokenShift(step.rows, step.normal, shift, difference);
  const auto product = [&](int mix, const Matrix& weight, const Tensor& out) {
    return Product{step.normal, &weight, {}, out, difference, time.mix.At(mix)};
  };
  const std::array<Product, 7> downs = {product(kReceptance, time.receptance, r),
                                        product(kKey, time.key, k),
                                        product(kValue, time.value, v),
                                        product(kDecay, time.decay.down, decay_inner),
                                        product(kRate, time.rate.down, rate_inner),
                                        product(kGate, time.gate.down, gate_inner),
                                        product(kValue, time.value_mix.down, value_inner)};
  backend_.MatMulGroup(std::span(downs).first(first ? 6 : 7));
  backend_.Activate(Activation::kTanh, decay_inner, decay_inner);
  backend_.Activate(Activation::kSigmoid, gate_inner, gate_inner);
  const std::array<Product, 4> ups = {
      {{decay_inner, &time.decay.up, time.decay.bias, decay},
       {rate_inner, &time.rate.up, time.rate.bias, rate},
       {gate_inner, &time.gate.up, {}, gate},
       {value_inner, &time.value_mix.up, time.value_mix.bias, value_mix}}};
  backend_.MatMulGroup(std::span(ups).first(first ? 3 : 4));
  backend_.Rwkv7Prepare({decay, rate, k, v, value_mix, first ? Tensor() : step.first_v,
                         time.key_scale, time.rate_scale},
                        removal);

  const Shape heads = {tokens, settings_.head_count, settings_.head_size};
  RecurrenceOptions options;
  options.decay = Decay::kVector;
  options.removal = Removal::kGeneral;
  RecurrenceInputs inputs;
  inputs.q = r.As(heads);
  inputs.k = k.As(heads);
  inputs.v = v.As(heads);
  inputs.decay = decay.As(heads);
  inputs.a = removal.As(heads);
  inputs.b = rate.As(heads);
  backend_.Recurrence(options, step.rows, inputs, state, StateRef(), y.As(heads));
  // The group norm's eps is the layer norms' times the head size: 64e-5 as published.
  const float group_eps = settings_.norm_eps * static_cast<float>(settings_.head_size);
  backend_.Rwkv7Finish({y.As(heads), r.As(heads), k.As(heads), v.As(heads), gate.As(heads),
                        time.bonus, time.group_norm_weight, time.group_norm_bias},
                       group_eps, y.As(heads));
  backend_.MatMul(y, time.out, Tensor(), step.change);
}

// change = the channel mix of normal.
void Rwkv7::MixChannels(const Layer& layer, const Step& step) {
  const ChannelMix& channel = layer.channel;
  const int64_t tokens = step.rows.token_count;
  const int64_t mark = step.workspace.Mark();
  const Tensor difference = step.workspace.Take(DType::kF32, {tokens, settings_.hidden_size});
  const Tensor inner = step.workspace.Take(DType::kF32, {tokens, settings_.feed_forward_size});
  step.workspace.Release(mark);
  if (!difference.present()) return;

  StateRef shift = step.pool;
  shift.offset_bytes = channel.shift_offset_bytes;
  backend_.TokenShift(step.rows, step.normal, shift, difference);
  const Product key = {step.normal, &channel.key, {}, inner, difference, channel.mix.At(0)};
  backend_.MatMulGroup({&key, 1});
  backend_.Activate(Activation::kSquaredRelu, inner, inner);
  backend_.MatMul(inner, channel.value, Tensor(), step.change);
}

// Only the tokens whose logits are wanted.
void Rwkv7::Predict(const Step& step, const Tensor& logits) {
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

absl::StatusOr<std::unique_ptr<Model>> MakeRwkv7(const Config& config, Weights& weights,
                                                 Backend& backend, ModelInfo info) {
  EDDY_ASSIGN_OR_RETURN(const Settings settings, ReadSettings(config, weights));
  info.vocabulary_size = static_cast<int32_t>(settings.vocabulary_size);
  EDDY_ASSIGN_OR_RETURN(info.end_of_text_ids,
                        config.TokenIds("eos_token_id", settings.vocabulary_size));
  auto model = std::make_unique<Rwkv7>(settings, backend, std::move(info));
  EDDY_RETURN_IF_ERROR(model->Load(weights));
  return model;
}

}  // namespace eddy
