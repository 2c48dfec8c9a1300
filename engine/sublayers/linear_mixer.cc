// SPDX-License-Identifier: Apache-2.0
#include "engine/sublayers/linear_mixer.h"

#include <array>
#include <span>

namespace eddy {

// One step's arrays [T, ...]; those that the options leave out are absent.
struct LinearMixer::Scratch {
  Tensor q_input, k_input, v_input;  // of the convolutions
  Tensor q, k, v;                    // before the feature maps
  Tensor second;                     // a feature map's own scratch
  Tensor q_mapped, k_mapped;         // behind them: q and k where nothing is mapped by a matrix
  Tensor decay, decay_inner;
  Tensor beta;
  Tensor gate, gate_inner;
  Tensor y;
};

namespace {

bool MapsByMatrix(const FeatureMap& map) { return map.weight.out_size > 0; }
bool NeedsScratch(const FeatureMap& map) {
  return map.kind == FeatureMap::Kind::kProduct || map.kind == FeatureMap::Kind::kHedgehog;
}

// Products of one group, counted as they come.
class ProductList {
 public:
  void Add(const Tensor& x, const Matrix& weight, const Tensor& bias, const Tensor& out) {
    products_[static_cast<size_t>(count_++)] = {x, &weight, bias, out};
  }
  // A projection's first product.
  void AddFirst(const Projection& projection, const Tensor& x, const Tensor& inner,
                const Tensor& out) {
    if (!projection.present()) return;
    if (inner.present()) {
      Add(x, projection.down, Tensor(), inner);
    } else {
      Add(x, projection.weight, projection.bias, out);
    }
  }
  // And its second one, if it has two.
  void AddSecond(const Projection& projection, const Tensor& inner, const Tensor& out) {
    if (inner.present()) Add(inner, projection.weight, projection.bias, out);
  }
  void Run(Backend& backend) const {
    if (count_ > 0) {
      backend.MatMulGroup(std::span(products_).first(static_cast<size_t>(count_)));
    }
  }

 private:
  std::array<Product, 6> products_;
  int count_ = 0;
};

}  // namespace

LinearMixer::Scratch LinearMixer::TakeScratch(const Step& step) const {
  const LinearMixerParts& p = parts_;
  const auto input_size = [](const Stream& stream) {
    return stream.convolution.present() ? stream.channel_count() : 0;
  };
  const int64_t keys = p.key_head_count * p.key_size;
  const int64_t values = p.head_count * p.value_size;
  Scratch s;
  s.q_input = step.Take(input_size(p.query));
  s.k_input = step.Take(input_size(p.key));
  s.v_input = step.Take(input_size(p.value));
  s.q = step.Take(keys);
  s.k = step.Take(keys);
  s.v = step.Take(values);
  s.second = step.Take(NeedsScratch(p.query_map) || NeedsScratch(key_map()) ? keys : 0);
  const auto mapped = [&](const FeatureMap& map, const Tensor& plain) {
    if (!MapsByMatrix(map)) return plain;
    return step.Take(p.key_head_count * map.FeatureSize(p.key_size));
  };
  s.q_mapped = mapped(p.query_map, s.q);
  s.k_mapped = mapped(key_map(), s.k);
  s.decay = step.Take(p.key_from_decay ? keys : p.decay.weight.out_size);
  s.decay_inner = step.Take(p.decay.down.out_size);
  s.beta = step.Take(p.recurrence.removal == Removal::kDelta ? p.head_count : 0);
  s.gate = step.Take(p.gate.weight.out_size);
  s.gate_inner = step.Take(p.gate.down.out_size);
  s.y = step.Take(values);
  return s;
}

void LinearMixer::Run(const Step& step) const {
  const Scratch scratch = TakeScratch(step);
  if (step.workspace.measuring()) return;
  Project(step, scratch);
  PrepareKeys(step, scratch);
  Recur(step, scratch);
  Finish(step, scratch);
}

// All that is linear in the input, and the convolutions.
void LinearMixer::Project(const Step& step, const Scratch& s) const {
  const LinearMixerParts& p = parts_;
  const Tensor& key = p.key_from_decay ? s.decay : s.k;
  const auto first_of = [](const Tensor& input, const Tensor& out) {
    return input.present() ? input : out;
  };
  ProductList products;
  products.Add(step.normal, p.query.projection, {}, first_of(s.q_input, s.q));
  products.Add(step.normal, p.key.projection, {}, first_of(s.k_input, key));
  products.Add(step.normal, p.value.projection, {}, first_of(s.v_input, s.v));
  products.AddFirst(p.decay, step.normal, s.decay_inner, s.decay);
  products.AddFirst(p.beta, step.normal, Tensor(), s.beta);
  products.AddFirst(p.gate, step.normal, s.gate_inner, s.gate);
  products.Run(step.backend);
  ProductList seconds;
  seconds.AddSecond(p.decay, s.decay_inner, s.decay);
  seconds.AddSecond(p.gate, s.gate_inner, s.gate);
  seconds.Run(step.backend);
  FinishStream(step, p.query, s.q_input, s.q);
  FinishStream(step, p.key, s.k_input, key);
  FinishStream(step, p.value, s.v_input, s.v);
}

void LinearMixer::FinishStream(const Step& step, const Stream& stream, const Tensor& input,
                               const Tensor& out) const {
  if (input.present()) {
    step.backend.ShortConvolution(step.rows, input, stream.convolution, stream.inputs.In(step.pool),
                                  out);
  }
  if (stream.activation != Activation::kIdentity) {
    step.backend.Activate(stream.activation, out, out);
  }
}

// out = phi(x), over heads as rows.
void LinearMixer::MapFeatures(const Step& step, const FeatureMap& map, const Tensor& x,
                              const Tensor& second, const Tensor& out) const {
  Backend& backend = step.backend;
  const Shape heads = {x.element_count() / parts_.key_size, parts_.key_size};
  const Tensor rows = x.As(heads);
  switch (map.kind) {
    case FeatureMap::Kind::kNone:
      return;
    case FeatureMap::Kind::kRelu:
      backend.MatMul(rows, map.weight, map.bias, out.As(heads));
      return backend.Activate(Activation::kRelu, out, out);
    case FeatureMap::Kind::kProduct: {
      const Product products[] = {{rows, &map.weight, map.bias, out.As(heads)},
                                  {rows, &map.second_weight, map.second_bias, second.As(heads)}};
      backend.MatMulGroup(products);
      return backend.Gate(Activation::kIdentity, out, second, out);
    }
    case FeatureMap::Kind::kHedgehog:
      backend.MatMul(rows, map.weight, map.bias, second.As(heads));
      return backend.SignedSoftmax(second.As(heads), out.As({heads[0], 2 * parts_.key_size}));
  }
}

// Everything between the projections and the recurrence.
void LinearMixer::PrepareKeys(const Step& step, const Scratch& s) const {
  const LinearMixerParts& p = parts_;
  Backend& backend = step.backend;
  const int64_t tokens = step.rows.token_count;
  if (p.key_from_decay) backend.Hgrn2Prepare(p.decay_floor, s.decay, s.k);
  MapFeatures(step, p.query_map, s.q, s.second, s.q_mapped);
  MapFeatures(step, key_map(), s.k, s.second, s.k_mapped);
  const auto normalise = [&](const std::optional<NormOptions>& options, const Tensor& x) {
    if (!options) return;
    const Tensor heads = x.As({tokens, p.key_head_count, x.dim(1) / p.key_head_count});
    backend.Normalise(*options, {heads}, Tensor(), heads);
  };
  normalise(p.query_norm, s.q_mapped);
  normalise(p.key_norm, s.k_mapped);
  if (p.rotates) {
    if (p.makes_angles) backend.Sinusoid(step.rows, 0, p.key_size, step.shared);
    for (const Tensor& x : {s.q_mapped, s.k_mapped}) {
      backend.Rotate(step.shared, x.As({tokens, p.key_head_count, p.key_size}));
    }
  }
  if (p.decay.present()) {
    const Tensor decay = p.recurrence.decay == Decay::kScalar
                             ? s.decay
                             : s.decay.As({tokens, p.head_count, p.key_size});
    backend.MakeDecay(p.decay_options, decay, p.decay_rate, p.decay_bias);
  }
  if (p.beta.present()) {
    backend.Activate(p.beta_activation, s.beta, s.beta);
  } else if (s.beta.present()) {
    backend.FillBytes(s.beta.data(), 0, s.beta.bytes());
    backend.Activate(Activation::kExp, s.beta, s.beta);
  }
}

void LinearMixer::Recur(const Step& step, const Scratch& s) const {
  const LinearMixerParts& p = parts_;
  const int64_t tokens = step.rows.token_count;
  const Shape keys = {tokens, p.key_head_count, s.q_mapped.dim(1) / p.key_head_count};
  RecurrenceInputs inputs;
  inputs.q = s.q_mapped.As(keys);
  inputs.k = s.k_mapped.As(keys);
  inputs.v = s.v.As({tokens, p.head_count, p.value_size});
  switch (p.recurrence.decay) {
    case Decay::kNone:
      break;
    case Decay::kConstant:
      inputs.decay = p.constant_decay;
      break;
    case Decay::kScalar:
      inputs.decay = s.decay;
      break;
    case Decay::kVector:
      inputs.decay = s.decay.As({tokens, p.head_count, p.key_size});
      break;
  }
  inputs.beta = s.beta;
  const bool normalises = p.recurrence.normaliser != Normaliser::kNone;
  step.backend.Recurrence(p.recurrence, step.rows, inputs, p.state.In(step.pool),
                          normalises ? p.normaliser.In(step.pool) : StateRef(),
                          s.y.As(inputs.v.shape()));
}

void LinearMixer::Finish(const Step& step, const Scratch& s) const {
  const LinearMixerParts& p = parts_;
  const bool by_head = p.out_norm.weight.element_count() == p.value_size;
  const Tensor y = by_head ? s.y.As({step.rows.token_count, p.head_count, p.value_size}) : s.y;
  const Tensor gate = s.gate.present() ? s.gate.As(y.shape()) : Tensor();
  step.backend.Normalise(p.out_norm.options, {y, {}, p.out_norm.weight, p.out_norm.bias, gate},
                         Tensor(), y);
  step.backend.MatMul(s.y, p.out, Tensor(), step.change);
}

}  // namespace eddy
