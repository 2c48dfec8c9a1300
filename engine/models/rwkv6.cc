// SPDX-License-Identifier: Apache-2.0
// RWKV-6 ("Finch", arXiv 2404.05892), by the names of the official checkpoints, of the RWKV
// organisation's on Hugging Face, and of fla.
//
// Time mix, per head with S [K, N] by key and value; delta = before - x, and for s of w, k, v, r, g
//   x_s = x + delta (mu_s + tanh((x + delta mu_x) W1_s) W2_s)
//   w = exp(-exp(w0 + tanh(x_w D1) D2));  y = S^T r + (sum r u k) v;  S <- diag(w) S + k v^T
//   change = W_o (GroupNorm(y) silu(W_g x_g))
// Channel mix: change = sigmoid(W_r x_r) (W_v relu(W_k x_k)^2), x_s = x + delta mu_s.
#include <array>
#include <memory>
#include <optional>
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
constexpr int64_t kChannelsMax = 1 << 17;  // of all heads
constexpr size_t kMixCount = 5;

enum class Layout { kOfficial, kHuggingFace, kFla };

struct Settings : RwkvSettings {
  Layout layout = Layout::kOfficial;
  int64_t head_count = 0;  // H
  int64_t key_size = 0;    // K
  int64_t value_size = 0;  // N
  int64_t mix_rank = 0, decay_rank = 0;
  float group_eps = 0.0f;

  bool fla() const { return layout == Layout::kFla; }
  int64_t keys() const { return head_count * key_size; }
  int64_t values() const { return head_count * value_size; }
  // The order in which the file has the five mixes.
  std::string_view letters() const { return fla() ? "rwkvg" : "wkvrg"; }
};

RwkvNames NamesOf(Layout layout) {
  switch (layout) {
    case Layout::kOfficial:
      return {"emb.weight", "head.weight", "ln_out", "blocks.", "ln0",
              "ln1",        "ln2",         "att.",   "ffn."};
    case Layout::kHuggingFace:
      return {"rwkv.embeddings.weight",
              "head.weight",
              "rwkv.ln_out",
              "rwkv.blocks.",
              "pre_ln",
              "ln1",
              "ln2",
              "attention.",
              "feed_forward."};
    default:
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
}

absl::Status ReadHeads(const Config& config, const Weights& weights, const RwkvNames& names,
                       Settings* s) {
  const std::string bonus = names.Time(0) + (s->fla() ? "bonus" : "time_faaaa");
  s->head_count = StoredSize(weights, bonus, 1);
  s->key_size = StoredSize(weights, bonus, 0);
  const std::string norm = names.Time(0) + (s->fla() ? "g_norm" : "ln_x") + ".weight";
  const int64_t values = StoredSize(weights, norm, 0);
  if (s->head_count < 1 || s->key_size < 1 || s->head_count > kChannelsMax ||
      s->key_size > kChannelsMax || s->keys() > kChannelsMax) {
    return absl::InvalidArgumentError(
        absl::StrCat(weights.file().file(), ": ", bonus,
                     " is missing or has another shape, expected [heads, head size] of at most ",
                     kChannelsMax, " in all"));
  }
  s->value_size = values / s->head_count;
  if (values < 1 || values > kChannelsMax || s->values() != values) {
    return absl::InvalidArgumentError(absl::StrCat(
        weights.file().file(), ": ", norm, " has ", values, " numbers, expected a multiple of the ",
        s->head_count, " heads and at most ", kChannelsMax));
  }
  EDDY_ASSIGN_OR_RETURN(const int64_t size, config.Int("head_size", 1, kChannelsMax, s->key_size));
  if (size != s->key_size) {
    return config.Error("head_size",
                        absl::StrCat("but the heads of ", bonus, " have ", s->key_size));
  }
  return CheckRwkvState(config, *s, s->keys() * s->value_size);
}

absl::StatusOr<Settings> ReadSettings(const Config& config, const Weights& weights, Layout layout,
                                      const RwkvNames& names) {
  Settings s;
  const std::string inner = layout == Layout::kFla ? "key.linear.weight" : "key.weight";
  EDDY_ASSIGN_OR_RETURN(static_cast<RwkvSettings&>(s),
                        ReadRwkvSettings(config, weights, names, inner));
  s.layout = layout;
  EDDY_RETURN_IF_ERROR(ReadHeads(config, weights, names, &s));
  const std::string time = names.Time(0);
  const auto stored_rank = [&](const char* official, const char* fla, int64_t parts) {
    return (s.fla() ? StoredSize(weights, time + fla, 1)
                    : StoredSize(weights, time + official, 0)) /
           parts;
  };
  EDDY_ASSIGN_OR_RETURN(
      s.mix_rank, StoredSizeOr(config, "proj_low_rank_dim", kRankMax,
                               stored_rank("time_maa_w1", "x_proj.0.linear.weight", kMixCount)));
  EDDY_ASSIGN_OR_RETURN(
      s.decay_rank, StoredSizeOr(config, "gate_low_rank_dim", kRankMax,
                                 stored_rank("time_decay_w1", "w_proj.linear.lora.0.weight", 1)));
  // fla's own norm has the eps of all its norms; the official one has 8^2 times 1e-5.
  EDDY_ASSIGN_OR_RETURN(const int64_t divisor, config.Int("head_size_divisor", 1, 1024, 8));
  s.group_eps = s.fla() ? s.norm_eps : 1e-5f * static_cast<float>(divisor * divisor);
  return s;
}

// ---- the time mix ----

struct TimeMixParts {
  Tensor mix;                                 // mu_x [C]
  Tensor mixes;                               // mu [kMixCount, C], as the file orders them
  std::array<Matrix, kMixCount> mix_down;     // W1_s [R, C]
  std::array<Matrix, kMixCount> mix_up;       // W2_s [C, R]
  Matrix receptance, key;                     // [H K, C]
  Matrix value, gate;                         // [H N, C]
  LowRank decay;                              // D1, D2, w0 [H K]
  Tensor bonus;                               // u [H, K]
  Tensor group_norm_weight, group_norm_bias;  // [H, N]
  Matrix out;                                 // [C, H N]
  TokenShift shift;
  StatePart state;  // S [H, K, N]
};

class TimeMix : public Sublayer {
 public:
  TimeMix(const Settings& settings, TimeMixParts parts)
      : settings_(settings), parts_(std::move(parts)) {}

  void Run(const Step& step) const override;

 private:
  // One step's arrays [T, ...].
  struct Scratch {
    Tensor difference;
    Tensor mix_inner;  // [kMixCount, T, R]
    Tensor mixes;      // [kMixCount, T, C]
    Tensor r, k, v, gate, decay, decay_inner, y;
  };
  void MakeMixes(const Step& step, const Scratch& scratch) const;
  void Project(const Step& step, const Scratch& scratch) const;
  void Recur(const Step& step, const Scratch& scratch) const;
  int64_t MixOf(char letter) const {
    return static_cast<int64_t>(settings_.letters().find(letter));
  }

  const Settings settings_;
  const TimeMixParts parts_;
};

void TimeMix::Run(const Step& step) const {
  const int64_t tokens = step.rows.token_count;
  const int64_t size = settings_.hidden_size;
  Scratch s;
  s.difference = step.Take(size);
  s.mix_inner = step.Take(settings_.mix_rank * int64_t{kMixCount});
  s.mixes = step.Take(size * int64_t{kMixCount});
  s.r = step.Take(settings_.keys());
  s.k = step.Take(settings_.keys());
  s.v = step.Take(settings_.values());
  s.gate = step.Take(settings_.values());
  s.decay = step.Take(settings_.keys());
  s.decay_inner = step.Take(settings_.decay_rank);
  s.y = step.Take(settings_.values());
  if (step.workspace.measuring()) return;
  s.mix_inner = s.mix_inner.As({kMixCount, tokens, settings_.mix_rank});
  s.mixes = s.mixes.As({kMixCount, tokens, size});
  parts_.shift.Run(step, s.difference);
  MakeMixes(step, s);
  Project(step, s);
  Recur(step, s);
  step.backend.MatMul(s.y, parts_.out, Tensor(), step.change);
}

void TimeMix::MakeMixes(const Step& step, const Scratch& s) const {
  std::array<Product, kMixCount> downs, ups;
  for (size_t i = 0; i < kMixCount; ++i) {
    const auto part = static_cast<int64_t>(i);
    downs[i] = {step.normal,          &parts_.mix_down[i], {},
                s.mix_inner.At(part), s.difference,        parts_.mix};
    ups[i] = {s.mix_inner.At(part), &parts_.mix_up[i], parts_.mixes.At(part), s.mixes.At(part)};
  }
  step.backend.MatMulGroup(downs);
  step.backend.Activate(Activation::kTanh, s.mix_inner, s.mix_inner);
  step.backend.MatMulGroup(ups);
}

void TimeMix::Project(const Step& step, const Scratch& s) const {
  const auto product = [&](char letter, const Matrix& weight, const Tensor& out) {
    return Product{step.normal, &weight, {}, out, s.difference, s.mixes.At(MixOf(letter))};
  };
  const std::array<Product, 5> products = {
      {product('r', parts_.receptance, s.r), product('k', parts_.key, s.k),
       product('v', parts_.value, s.v), product('g', parts_.gate, s.gate),
       product('w', parts_.decay.down, s.decay_inner)}};
  step.backend.MatMulGroup(products);
  step.backend.Activate(Activation::kTanh, s.decay_inner, s.decay_inner);
  step.backend.MatMul(s.decay_inner, parts_.decay.up, parts_.decay.bias, s.decay);
  step.backend.Activate(Activation::kExpMinusExp, s.decay, s.decay);
}

// y <- what is read, normalised and gated.
void TimeMix::Recur(const Step& step, const Scratch& s) const {
  const int64_t tokens = step.rows.token_count;
  const Shape keys = {tokens, settings_.head_count, settings_.key_size};
  const Shape values = {tokens, settings_.head_count, settings_.value_size};
  RecurrenceOptions options;
  options.decay = Decay::kVector;
  options.read = Read::kBeforeWriteWithBonus;
  RecurrenceInputs inputs;
  inputs.q = s.r.As(keys);
  inputs.k = s.k.As(keys);
  inputs.v = s.v.As(values);
  inputs.decay = s.decay.As(keys);
  inputs.bonus = parts_.bonus;
  const Tensor y = s.y.As(values);
  step.backend.Recurrence(options, step.rows, inputs, parts_.state.In(step.pool), StateRef(), y);
  step.backend.Normalise(
      {NormKind::kLayer, settings_.group_eps, Activation::kSilu},
      {y, {}, parts_.group_norm_weight, parts_.group_norm_bias, s.gate.As(values)}, Tensor(), y);
}

// A matrix that lies somewhere among `numbers`; none when there are none.
struct Place {
  int64_t begin = 0;
  int64_t row_stride = 1;
  int64_t column_stride = 1;
};
Matrix PackPart(Weights& weights, const std::string& name, const std::vector<float>& numbers,
                const Place& place, const Shape& shape) {
  std::vector<float> part;
  for (int64_t row = 0; row < shape[0] && !numbers.empty(); ++row) {
    for (int64_t column = 0; column < shape[1]; ++column) {
      const int64_t at = place.begin + row * place.row_stride + column * place.column_stride;
      part.push_back(numbers[static_cast<size_t>(at)]);
    }
  }
  return weights.PackNumbers(name, part, shape);
}

// The file has all five of each in one tensor: W1 as [C, 5 R] or (fla) [5 R, C], W2 as [5, R, C] or
// [C, 5 R].
void ReadMixes(const Settings& s, const std::string& time, Weights& weights, TimeMixParts* parts) {
  const int64_t size = s.hidden_size, rank = s.mix_rank, ranks = rank * int64_t{kMixCount};
  const std::string down = time + (s.fla() ? "x_proj.0.linear.weight" : "time_maa_w1");
  const std::string up = time + (s.fla() ? "x_proj.2.weight" : "time_maa_w2");
  const std::vector<float> downs =
      weights.ReadNumbers(down, s.fla() ? Shape{ranks, size} : Shape{size, ranks});
  const std::vector<float> ups =
      weights.ReadNumbers(up, s.fla() ? Shape{size, ranks} : Shape{kMixCount, rank, size});
  for (size_t i = 0; i < kMixCount; ++i) {
    const int64_t first_rank = static_cast<int64_t>(i) * rank;
    const Place by_rank = {first_rank * size, size, 1}, by_channel = {first_rank, ranks, 1};
    const auto turned = [](const Place& place) {
      return Place{place.begin, place.column_stride, place.row_stride};
    };
    parts->mix_down[i] =
        PackPart(weights, down, downs, s.fla() ? by_rank : turned(by_channel), {rank, size});
    parts->mix_up[i] =
        PackPart(weights, up, ups, s.fla() ? by_channel : turned(by_rank), {size, rank});
  }
  parts->mix = weights.ReadVector(time + (s.fla() ? "x_proj.0.mu" : "time_maa_x"), {size});
  if (s.fla()) {
    parts->mixes = weights.ReadVector(time + "x_bias", {kMixCount, size});
    return;
  }
  std::vector<std::string> names;
  for (const char letter : s.letters()) names.push_back(time + "time_maa_" + letter);
  parts->mixes = weights.ReadVectors(names, size);
}

std::unique_ptr<Sublayer> ReadTimeMix(const Settings& s, const RwkvNames& names, RwkvLayer layer) {
  Weights& weights = layer.weights;
  const std::string time = names.Time(layer.index);
  const auto read = [&](const char* official, const char* fla, const Shape& shape) {
    return weights.ReadMatrix(time + (s.fla() ? fla : official) + ".weight", shape);
  };
  TimeMixParts parts;
  ReadMixes(s, time, weights, &parts);
  const int64_t size = s.hidden_size;
  parts.receptance = read("receptance", "r_proj.linear", {s.keys(), size});
  parts.key = read("key", "k_proj.linear", {s.keys(), size});
  parts.value = read("value", "v_proj.linear", {s.values(), size});
  parts.gate = read("gate", "g_proj.linear", {s.values(), size});
  parts.out = read("output", "o_proj", {size, s.values()});
  const std::string lora = time + "w_proj.linear.lora.";
  const LowRankShape shape = {size, s.decay_rank, s.keys(), !s.fla()};
  parts.decay = s.fla()
                    ? ReadLowRank(weights, shape, lora + "0.weight", lora + "2.weight")
                    : ReadLowRank(weights, shape, time + "time_decay_w1", time + "time_decay_w2");
  parts.decay.bias =
      weights.ReadVector(s.fla() ? lora + "2.bias" : time + "time_decay", {s.keys()});
  const Shape heads = {s.head_count, s.value_size};
  parts.bonus =
      weights.ReadVector(time + (s.fla() ? "bonus" : "time_faaaa"), {s.head_count, s.key_size});
  const std::string group_norm = time + (s.fla() ? "g_norm" : "ln_x");
  parts.group_norm_weight = weights.ReadVector(group_norm + ".weight", {s.values()}).As(heads);
  parts.group_norm_bias = weights.ReadVector(group_norm + ".bias", {s.values()}).As(heads);
  parts.shift = layer.AddShift("time");
  parts.state = layer.AddMatrices({s.head_count, s.key_size, s.value_size});
  return std::make_unique<TimeMix>(s, std::move(parts));
}

// ---- the channel mix ----

struct ChannelMixParts {
  Tensor key_mix, receptance_mix;  // mu [C]
  Matrix key;                      // [F, C]
  Matrix receptance;               // [C, C]
  Matrix value;                    // [C, F]
  TokenShift shift;
};

class ChannelMix : public Sublayer {
 public:
  explicit ChannelMix(ChannelMixParts parts) : parts_(std::move(parts)) {}

  void Run(const Step& step) const override {
    const Tensor difference = step.Take(step.normal.dim(1));
    const Tensor receptance = step.Take(step.normal.dim(1));
    const Tensor inner = step.Take(parts_.key.out_size);
    if (step.workspace.measuring()) return;
    parts_.shift.Run(step, difference);
    const std::array<Product, 2> products = {
        {{step.normal, &parts_.key, {}, inner, difference, parts_.key_mix},
         {step.normal, &parts_.receptance, {}, receptance, difference, parts_.receptance_mix}}};
    step.backend.MatMulGroup(products);
    step.backend.Activate(Activation::kSquaredRelu, inner, inner);
    step.backend.MatMul(inner, parts_.value, Tensor(), step.change);
    step.backend.Gate(Activation::kSigmoid, receptance, step.change, step.change);
  }

 private:
  const ChannelMixParts parts_;
};

std::unique_ptr<Sublayer> ReadChannelMix(const Settings& s, const RwkvNames& names,
                                         RwkvLayer layer) {
  Weights& weights = layer.weights;
  const std::string channel = names.Channel(layer.index);
  const auto mix = [&](const char* letter, const char* fla) {
    return weights.ReadVector(
        s.fla() ? absl::StrCat(channel, fla, ".mu") : absl::StrCat(channel, "time_maa_", letter),
        {s.hidden_size});
  };
  const std::string linear = s.fla() ? ".linear.weight" : ".weight";
  ChannelMixParts parts;
  parts.key_mix = mix("k", "key");
  parts.receptance_mix = mix("r", "receptance");
  parts.key = weights.ReadMatrix(channel + "key" + linear, {s.feed_forward_size, s.hidden_size});
  parts.receptance =
      weights.ReadMatrix(channel + "receptance" + linear, {s.hidden_size, s.hidden_size});
  parts.value = weights.ReadMatrix(channel + "value.weight", {s.hidden_size, s.feed_forward_size});
  parts.shift = layer.AddShift("channel");
  return std::make_unique<ChannelMix>(std::move(parts));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Model>> MakeRwkv6(const Config& config, Weights& weights,
                                                 Backend& backend, ModelInfo info) {
  const Layout layout = weights.StoredShape("emb.weight")               ? Layout::kOfficial
                        : weights.StoredShape("rwkv.embeddings.weight") ? Layout::kHuggingFace
                                                                        : Layout::kFla;
  const RwkvNames names = NamesOf(layout);
  EDDY_ASSIGN_OR_RETURN(const Settings s, ReadSettings(config, weights, layout, names));
  RwkvMixes mixes;
  mixes.read_time = [&](RwkvLayer layer) { return ReadTimeMix(s, names, layer); };
  mixes.read_channel = [&](RwkvLayer layer) { return ReadChannelMix(s, names, layer); };
  return MakeRwkvModel(config, weights, backend, std::move(info), s, names, mixes);
}

}  // namespace eddy
