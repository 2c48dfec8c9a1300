// SPDX-License-Identifier: Apache-2.0
// RWKV-7 ("Goose", arXiv 2503.14456), by the names of the official checkpoints and by those of fla
// (Hugging Face).
//
// Time mix, per head with S [N, N] by key and value; x_s = x + (before - x) mu_s:
//   w = exp(-e^(-1/2) sigmoid(w0 + tanh(x_w w1) w2));  a = sigmoid(a0 + x_a a1 a2)
//   v <- v + (v of the first layer - v) sigmoid(v0 + x_v v1 v2);  kappa = k k_k / |k k_k|
//   k <- k (1 + (a - 1) k_a);  S <- diag(w) S - (kappa a) (S^T kappa)^T + k v^T;  y = S^T r
//   change = W_o ((GroupNorm(y) + (sum r k r_k) v) (sigmoid(x_g g1) g2))
// Channel mix: change = W_v relu(W_k x_k)^2. In RWKV-7a (deep embedding) what W_v multiplies is
// multiplied by (x s1) E s2 + s0 before, where E [S, S] depends on the token alone: its row of
// s_emb and s_emb_x times its normalised embedding.
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
#include "engine/model_families.h"
#include "engine/sublayers/rwkv_block.h"
#include "kernels/status_macros.h"

namespace eddy {
namespace {

constexpr int64_t kRankMax = 1 << 14;
constexpr int64_t kDeepSizeMax = 1 << 10;  // S

// What the rows of a time mix's `mix` are for.
enum Mix : int64_t { kReceptance, kDecay, kKey, kValue, kRate, kGate, kMixCount };

struct Settings : RwkvSettings {
  bool official = false;   // the names of the tensors
  int64_t head_count = 0;  // H
  int64_t head_size = 0;   // N
  int64_t decay_rank = 0, rate_rank = 0, value_rank = 0, gate_rank = 0;
  int64_t deep_size = 0;  // S of the deep embedding, or 0
};

RwkvNames NamesOf(bool official) {
  if (official) {
    return {"emb.weight", "head.weight", "ln_out", "blocks.", "ln0", "ln1", "ln2", "att.", "ffn."};
  }
  return {"model.embeddings.weight",
          "lm_head.weight",
          "model.norm",
          "model.layers.",
          "pre_norm",
          "attn_norm",
          "ffn_norm",
          "attn.",
          "ffn."};
}

absl::Status ReadHeads(const Config& config, const Weights& weights, const RwkvNames& names,
                       Settings* s) {
  const int64_t stored = StoredSize(weights, names.Time(0) + "r_k", 0);
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
  return CheckRwkvState(config, *s, s->hidden_size * s->head_size);
}

absl::Status ReadRanks(const Config& config, const Weights& weights, const RwkvNames& names,
                       Settings* s) {
  const auto rank = [&](int64_t layer, const std::string& letter, const char* key) {
    const std::string time = names.Time(layer);
    return StoredSizeOr(config, key, kRankMax,
                        s->official
                            ? StoredSize(weights, time + letter + "1", 0)
                            : StoredSize(weights, time + letter + "_lora.lora.0.weight", 1));
  };
  EDDY_ASSIGN_OR_RETURN(s->decay_rank, rank(0, "w", "decay_low_rank_dim"));
  EDDY_ASSIGN_OR_RETURN(s->rate_rank, rank(0, "a", "a_low_rank_dim"));
  EDDY_ASSIGN_OR_RETURN(s->gate_rank, rank(0, "g", "gate_low_rank_dim"));
  if (s->layer_count == 1) return absl::OkStatus();  // the first layer has no value mix
  EDDY_ASSIGN_OR_RETURN(s->value_rank, rank(1, "v", "v_low_rank_dim"));
  return absl::OkStatus();
}

// The deep embedding needs the norm of the embedding, which official checkpoints have.
absl::Status ReadDeepSize(const Weights& weights, const RwkvNames& names, Settings* s) {
  const std::string name = names.Channel(0) + "s_emb.weight";
  if (!weights.StoredShape(name)) return absl::OkStatus();
  s->deep_size = StoredSize(weights, names.Channel(0) + "s1", 0);
  if (s->deep_size >= 1 && s->deep_size <= kDeepSizeMax && s->official && s->first_norm) {
    return absl::OkStatus();
  }
  return absl::UnimplementedError(
      absl::StrCat(weights.file().file(), ": ", name,
                   " is part of a deep embedding (RWKV-7a), expected with it the names of an "
                   "official checkpoint, ln0, and s1 of 1 to ",
                   kDeepSizeMax, " columns"));
}

absl::StatusOr<Settings> ReadSettings(const Config& config, const Weights& weights,
                                      const RwkvNames& names) {
  Settings s;
  EDDY_ASSIGN_OR_RETURN(static_cast<RwkvSettings&>(s),
                        ReadRwkvSettings(config, weights, names, "key.weight"));
  s.official = weights.StoredShape("emb.weight").has_value();
  EDDY_RETURN_IF_ERROR(ReadHeads(config, weights, names, &s));
  EDDY_RETURN_IF_ERROR(ReadRanks(config, weights, names, &s));
  EDDY_RETURN_IF_ERROR(ReadDeepSize(weights, names, &s));
  return s;
}

// ---- the time mix ----

struct TimeMixParts {
  Tensor mix;                          // [kMixCount, C]
  Matrix receptance, key, value, out;  // [C, C]
  LowRank decay, rate, gate;
  LowRank value_mix;                          // none in the first layer
  Tensor key_scale, rate_scale, bonus;        // k_k, k_a, r_k [H, N]
  Tensor group_norm_weight, group_norm_bias;  // [H, N]
  TokenShift shift;
  StatePart state;  // S [H, N, N]
};

// The values of the first layer are step.shared.
class TimeMix : public Sublayer {
 public:
  TimeMix(const Settings& settings, bool is_first, TimeMixParts parts)
      : settings_(settings), is_first_(is_first), parts_(std::move(parts)) {}

  void Run(const Step& step) const override;

 private:
  // One step's arrays, [T, C] and [T, rank].
  struct Scratch {
    Tensor difference, r, k, v, decay, rate, gate, removal, y, value_mix;
    Tensor decay_inner, rate_inner, gate_inner, value_inner;
  };
  Scratch TakeScratch(const Step& step) const;
  void Project(const Step& step, const Scratch& scratch) const;
  void Recur(const Step& step, const Scratch& scratch) const;

  const Settings settings_;
  const bool is_first_;
  const TimeMixParts parts_;
};

TimeMix::Scratch TimeMix::TakeScratch(const Step& step) const {
  const int64_t size = settings_.hidden_size;
  Scratch s;
  s.difference = step.Take(size);
  s.r = step.Take(size);
  s.k = step.Take(size);
  s.v = is_first_ ? step.shared : step.Take(size);
  s.decay = step.Take(size);
  s.rate = step.Take(size);
  s.gate = step.Take(size);
  s.removal = step.Take(size);
  s.y = step.Take(size);
  s.value_mix = is_first_ ? Tensor() : step.Take(size);
  s.decay_inner = step.Take(settings_.decay_rank);
  s.rate_inner = step.Take(settings_.rate_rank);
  s.gate_inner = step.Take(settings_.gate_rank);
  s.value_inner = is_first_ ? Tensor() : step.Take(settings_.value_rank);
  return s;
}

void TimeMix::Run(const Step& step) const {
  const Scratch s = TakeScratch(step);
  if (step.workspace.measuring()) return;
  parts_.shift.Run(step, s.difference);
  Project(step, s);
  step.backend.Rwkv7Prepare(
      {s.decay, s.rate, s.k, s.v, s.value_mix, is_first_ ? Tensor() : step.shared, parts_.key_scale,
       parts_.rate_scale},
      s.removal);
  Recur(step, s);
  step.backend.MatMul(s.y, parts_.out, Tensor(), step.change);
}

void TimeMix::Project(const Step& step, const Scratch& s) const {
  const TimeMixParts& p = parts_;
  const auto product = [&](int mix, const Matrix& weight, const Tensor& out) {
    return Product{step.normal, &weight, {}, out, s.difference, p.mix.At(mix)};
  };
  const std::array<Product, 7> downs = {product(kReceptance, p.receptance, s.r),
                                        product(kKey, p.key, s.k),
                                        product(kValue, p.value, s.v),
                                        product(kDecay, p.decay.down, s.decay_inner),
                                        product(kRate, p.rate.down, s.rate_inner),
                                        product(kGate, p.gate.down, s.gate_inner),
                                        product(kValue, p.value_mix.down, s.value_inner)};
  step.backend.MatMulGroup(std::span(downs).first(is_first_ ? 6 : 7));
  step.backend.Activate(Activation::kTanh, s.decay_inner, s.decay_inner);
  step.backend.Activate(Activation::kSigmoid, s.gate_inner, s.gate_inner);
  const std::array<Product, 4> ups = {
      {{s.decay_inner, &p.decay.up, p.decay.bias, s.decay},
       {s.rate_inner, &p.rate.up, p.rate.bias, s.rate},
       {s.gate_inner, &p.gate.up, {}, s.gate},
       {s.value_inner, &p.value_mix.up, p.value_mix.bias, s.value_mix}}};
  step.backend.MatMulGroup(std::span(ups).first(is_first_ ? 3 : 4));
}

// y <- what is read, normalised and gated.
void TimeMix::Recur(const Step& step, const Scratch& s) const {
  const Shape heads = {step.rows.token_count, settings_.head_count, settings_.head_size};
  RecurrenceOptions options;
  options.decay = Decay::kVector;
  options.removal = Removal::kGeneral;
  RecurrenceInputs inputs;
  inputs.q = s.r.As(heads);
  inputs.k = s.k.As(heads);
  inputs.v = s.v.As(heads);
  inputs.decay = s.decay.As(heads);
  inputs.a = s.removal.As(heads);
  inputs.b = s.rate.As(heads);
  const Tensor y = s.y.As(heads);
  step.backend.Recurrence(options, step.rows, inputs, parts_.state.In(step.pool), StateRef(), y);
  // The group norm's eps is the layer norms' times the head size: 64e-5 as published.
  const float group_eps = settings_.norm_eps * static_cast<float>(settings_.head_size);
  step.backend.Rwkv7Finish({y, inputs.q, inputs.k, inputs.v, s.gate.As(heads), parts_.bonus,
                            parts_.group_norm_weight, parts_.group_norm_bias},
                           group_eps, y);
}

LowRank ReadTimeLowRank(Weights& weights, const Settings& s, const std::string& time,
                        const std::string& letter, int64_t rank, bool has_bias = true) {
  const std::string lora = time + letter + "_lora.lora.";
  const LowRankShape shape = {s.hidden_size, rank, s.hidden_size, s.official};
  LowRank low_rank = s.official
                         ? ReadLowRank(weights, shape, time + letter + "1", time + letter + "2")
                         : ReadLowRank(weights, shape, lora + "0.weight", lora + "2.weight");
  const std::string bias = s.official ? time + letter + "0" : lora + "2.bias";
  if (has_bias) low_rank.bias = weights.ReadVector(bias, {s.hidden_size});
  return low_rank;
}

Tensor ReadMixes(Weights& weights, const Settings& s, const std::string& time) {
  if (weights.StoredShape(time + "x_x")) {  // in the first conversions for fla
    return weights.ReadVector(time + "x_x", {kMixCount, s.hidden_size});
  }
  std::vector<std::string> names;
  for (const char letter : std::string_view("rwkvag")) names.push_back(time + "x_" + letter);
  return weights.ReadVectors(names, s.hidden_size);
}

std::unique_ptr<Sublayer> ReadTimeMix(const Settings& s, const RwkvNames& names, RwkvLayer layer) {
  Weights& weights = layer.weights;
  const std::string time = names.Time(layer.index);
  const auto read_square = [&](const char* official, const char* fla) {
    return weights.ReadMatrix(time + (s.official ? official : fla) + ".weight",
                              {s.hidden_size, s.hidden_size});
  };
  const auto read_heads = [&](const std::string& name) {
    return weights.ReadVector(time + name, {s.hidden_size}).As({s.head_count, s.head_size});
  };
  TimeMixParts parts;
  parts.mix = ReadMixes(weights, s, time);
  parts.receptance = read_square("receptance", "r_proj");
  parts.key = read_square("key", "k_proj");
  parts.value = read_square("value", "v_proj");
  parts.out = read_square("output", "o_proj");
  parts.decay = ReadTimeLowRank(weights, s, time, "w", s.decay_rank);
  parts.rate = ReadTimeLowRank(weights, s, time, "a", s.rate_rank);
  parts.gate = ReadTimeLowRank(weights, s, time, "g", s.gate_rank, /*has_bias=*/false);
  const bool is_first = layer.index == 0;
  if (is_first) {
    for (const char* unused : {"v0", "v1", "v2"}) weights.Ignore(time + unused);
  } else {
    parts.value_mix = ReadTimeLowRank(weights, s, time, "v", s.value_rank);
  }
  parts.key_scale = read_heads("k_k");
  parts.rate_scale = read_heads("k_a");
  parts.bonus = weights.ReadVector(time + "r_k", {s.head_count, s.head_size});
  const std::string group_norm = s.official ? "ln_x" : "g_norm";
  parts.group_norm_weight = read_heads(group_norm + ".weight");
  parts.group_norm_bias = read_heads(group_norm + ".bias");
  parts.shift = layer.AddShift("time");
  parts.state = layer.AddMatrices({s.head_count, s.head_size, s.head_size});
  return std::make_unique<TimeMix>(s, is_first, std::move(parts));
}

// ---- the channel mix ----

// RWKV-7a's.
struct DeepEmbedding {
  Tensor embedding;       // [vocabulary, C], the model's
  Norm norm;              // of the embedding
  Tensor table;           // s_emb [vocabulary, S S]
  Matrix from_embedding;  // s_emb_x [S S, C]
  Matrix down;            // s1 [S, C]
  Matrix up;              // s2 [F, S]
  Tensor bias;            // s0 [F]
};

struct ChannelMixParts {
  Tensor mix;    // [1, C]
  Matrix key;    // [F, C]
  Matrix value;  // [C, F]
  std::optional<DeepEmbedding> deep;
  TokenShift shift;
};

class ChannelMix : public Sublayer {
 public:
  explicit ChannelMix(ChannelMixParts parts) : parts_(std::move(parts)) {}

  void Run(const Step& step) const override;

 private:
  // factor [T, F]: what the deep embedding multiplies with.
  void MakeFactor(const Step& step, const DeepEmbedding& deep, const Tensor& factor) const;

  const ChannelMixParts parts_;
};

void ChannelMix::Run(const Step& step) const {
  const Tensor difference = step.Take(step.normal.dim(1));
  const Tensor inner = step.Take(parts_.key.out_size);
  const Tensor factor = step.Take(parts_.deep ? parts_.key.out_size : 0);
  if (parts_.deep) MakeFactor(step, *parts_.deep, factor);
  if (step.workspace.measuring()) return;
  parts_.shift.Run(step, difference);
  const Product key = {step.normal, &parts_.key, {}, inner, difference, parts_.mix.At(0)};
  step.backend.MatMulGroup({&key, 1});
  if (parts_.deep) {
    step.backend.Gate(Activation::kSquaredRelu, inner, factor, inner);
  } else {
    step.backend.Activate(Activation::kSquaredRelu, inner, inner);
  }
  step.backend.MatMul(inner, parts_.value, Tensor(), step.change);
}

void ChannelMix::MakeFactor(const Step& step, const DeepEmbedding& deep,
                            const Tensor& factor) const {
  const Tensor embedded = step.Take(deep.from_embedding.in_size);
  const Tensor row = step.Take(deep.from_embedding.out_size);
  const Tensor change = step.Take(deep.from_embedding.out_size);
  const Tensor before = step.Take(deep.down.out_size), behind = step.Take(deep.down.out_size);
  if (step.workspace.measuring()) return;
  step.backend.Embed(step.rows, deep.embedding, 0, embedded);
  step.backend.Normalise(deep.norm.options, {embedded, {}, deep.norm.weight, deep.norm.bias, {}},
                         Tensor(), embedded);
  step.backend.Embed(step.rows, deep.table, 0, row);
  const std::array<Product, 2> products = {
      {{embedded, &deep.from_embedding, {}, change}, {step.normal, &deep.down, {}, before}}};
  step.backend.MatMulGroup(products);
  step.backend.TokenMatMul(before, row, change, behind);
  step.backend.MatMul(behind, deep.up, deep.bias, factor);
}

std::unique_ptr<Sublayer> ReadChannelMix(const Settings& s, const RwkvNames& names,
                                         RwkvLayer layer) {
  Weights& weights = layer.weights;
  const std::string channel = names.Channel(layer.index);
  ChannelMixParts parts;
  parts.mix = weights.ReadVector(channel + "x_k", {1, s.hidden_size});
  parts.key = weights.ReadMatrix(channel + "key.weight", {s.feed_forward_size, s.hidden_size});
  parts.value = weights.ReadMatrix(channel + "value.weight", {s.hidden_size, s.feed_forward_size});
  parts.shift = layer.AddShift("channel");
  if (s.deep_size > 0) {
    DeepEmbedding& deep = parts.deep.emplace();
    const int64_t square = s.deep_size * s.deep_size;
    deep.embedding = layer.stack.embedding;
    deep.norm = *layer.stack.first_norm;
    deep.table = weights.ReadTable(channel + "s_emb.weight", {s.vocabulary_size, square});
    deep.from_embedding = weights.ReadMatrix(channel + "s_emb_x.weight", {square, s.hidden_size});
    LowRank low_rank = ReadLowRank(weights, {s.hidden_size, s.deep_size, s.feed_forward_size, true},
                                   channel + "s1", channel + "s2");
    deep.down = std::move(low_rank.down);
    deep.up = std::move(low_rank.up);
    deep.bias = weights.ReadVector(channel + "s0", {s.feed_forward_size});
  }
  return std::make_unique<ChannelMix>(std::move(parts));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Model>> MakeRwkv7(const Config& config, Weights& weights,
                                                 Backend& backend, ModelInfo info) {
  const RwkvNames names = NamesOf(weights.StoredShape("emb.weight").has_value());
  EDDY_ASSIGN_OR_RETURN(const Settings s, ReadSettings(config, weights, names));
  RwkvMixes mixes;
  mixes.read_time = [&](RwkvLayer layer) { return ReadTimeMix(s, names, layer); };
  mixes.read_channel = [&](RwkvLayer layer) { return ReadChannelMix(s, names, layer); };
  mixes.shared_size = s.hidden_size;
  return MakeRwkvModel(config, weights, backend, std::move(info), s, names, mixes);
}

}  // namespace eddy
