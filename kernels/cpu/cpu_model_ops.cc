// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstring>

#include "kernels/cpu/cpu_backend.h"

namespace eddy::cpu {
namespace {

// Rough costs of one element, in multiply-adds.
constexpr int64_t kActivateCost = 8;
constexpr int64_t kNormCost = 6;
constexpr int64_t kSinusoidCost = 128;
constexpr int64_t kRecurrenceCost = 4;  // of an element of the state, and its way through memory
constexpr int64_t kShiftCost = 2;

}  // namespace

void CpuBackend::Embed(const Rows& rows, const Tensor& table, int64_t column, const Tensor& out) {
  const int64_t size = table.dim(1);
  const int64_t stride = out.dim(1);
  CheckF32(out, {rows.token_count, stride}, "out");
  EDDY_CHECK(table.present() && table.shape().rank() == 2) << table.shape().ToString();
  EDDY_CHECK(table.dtype() == DType::kF32 || table.dtype() == DType::kBF16)
      << DTypeName(table.dtype());
  EDDY_CHECK(column >= 0 && column + size <= stride) << column << " + " << size;
  const int64_t row_bytes = size * DTypeBytes(table.dtype());
  for (int32_t t = 0; t < rows.token_count; ++t) {
    const int64_t token = rows.tokens[t];
    EDDY_CHECK(token >= 0 && token < table.dim(0)) << token << " of " << table.dim(0);
    ops_.embed_row(static_cast<const std::byte*>(table.data()) + token * row_bytes, table.dtype(),
                   out.f32() + t * stride + column, size);
  }
}

void CpuBackend::Sinusoid(const Rows& rows, int64_t column, int64_t size, const Tensor& out) {
  const int64_t stride = out.dim(1);
  CheckF32(out, {rows.token_count, stride}, "out");
  EDDY_CHECK(size >= 2 && size % 2 == 0) << size;
  EDDY_CHECK(column >= 0 && column + size <= stride) << column << " + " << size;
  Split(rows.token_count, 1, size * kSinusoidCost, [&](int64_t begin, int64_t end) {
    const int32_t* ends = rows.token_begin + 1;
    int64_t row = std::upper_bound(ends, ends + rows.row_count, begin) - ends;
    for (int64_t t = begin; t < end; ++t) {
      while (t >= ends[row]) ++row;
      ops_.sinusoid_row(rows.position[row] + t - rows.token_begin[row],
                        out.f32() + t * stride + column, size);
    }
  });
}

void CpuBackend::Normalise(const NormOptions& options, const NormInputs& inputs, const Tensor& sum,
                           const Tensor& out) {
  const Shape& shape = inputs.x.shape();
  EDDY_CHECK(shape.rank() == 2 || shape.rank() == 3) << shape.ToString();
  EDDY_CHECK(options.gate == Activation::kSilu || options.gate == Activation::kSigmoid);
  CheckF32(inputs.x, shape, "x");
  CheckF32(out, shape, "out");
  NormArgs args;
  args.options = options;
  args.size = shape[shape.rank() - 1];
  const bool grouped = inputs.weight.present() && inputs.weight.shape().rank() == 2;
  EDDY_CHECK(!grouped || shape.rank() == 3) << shape.ToString();
  if (grouped) args.weight_count = shape[1];
  const Shape weight_shape = grouped ? Shape{shape[1], args.size} : Shape{args.size};
  args.x = inputs.x.f32();
  args.residual = CheckOptional(inputs.residual.present(), inputs.residual, shape, "residual");
  args.weight = CheckOptional(inputs.weight.present(), inputs.weight, weight_shape, "weight");
  args.bias = CheckOptional(inputs.bias.present(), inputs.bias, weight_shape, "bias");
  args.gate = CheckOptional(inputs.gate.present(), inputs.gate, shape, "gate");
  CheckOptional(sum.present(), sum, shape, "sum");
  args.sum = sum.present() ? sum.f32() : nullptr;
  args.out = out.f32();
  EDDY_CHECK(args.sum != args.out) << "out must not be sum";
  if (options.gate_first) {
    EDDY_CHECK(args.sum == nullptr) << "gate_first takes no sum";
  } else {
    EDDY_CHECK(args.gate != args.out || args.residual == nullptr) << "out must not be gate";
  }
  const int64_t cost = args.size * (kNormCost + (args.gate == nullptr ? 0 : kActivateCost));
  Split(shape.element_count() / args.size, 1, cost,
        [&](int64_t begin, int64_t end) { ops_.normalise(args, begin, end); });
}

void CpuBackend::Activate(Activation f, const Tensor& x, const Tensor& out) {
  CheckF32(x, x.shape(), "x");
  CheckF32(out, x.shape(), "out");
  Split(x.element_count(), kLanes, kActivateCost, [&](int64_t begin, int64_t end) {
    ops_.activate(f, x.f32() + begin, out.f32() + begin, end - begin);
  });
}

void CpuBackend::Gate(Activation f, const Tensor& x, const Tensor& y, const Tensor& out) {
  CheckF32(x, x.shape(), "x");
  CheckF32(y, x.shape(), "y");
  CheckF32(out, x.shape(), "out");
  Split(x.element_count(), kLanes, kActivateCost, [&](int64_t begin, int64_t end) {
    ops_.gate(f, x.f32() + begin, y.f32() + begin, out.f32() + begin, end - begin);
  });
}

void CpuBackend::TokenMatMul(const Tensor& x, const Tensor& a, const Tensor& b, const Tensor& out) {
  TokenMatMulArgs args;
  const int64_t tokens = x.dim(0);
  args.in_size = x.dim(1);
  args.out_size = out.dim(1);
  CheckF32(x, {tokens, args.in_size}, "x");
  CheckF32(a, {tokens, args.in_size * args.out_size}, "a");
  CheckF32(b, {tokens, args.in_size * args.out_size}, "b");
  CheckF32(out, {tokens, args.out_size}, "out");
  EDDY_CHECK(out.data() != x.data() && out.data() != a.data() && out.data() != b.data());
  args.x = x.f32();
  args.a = a.f32();
  args.b = b.f32();
  args.out = out.f32();
  Split(tokens, 1, args.in_size * args.out_size,
        [&](int64_t begin, int64_t end) { ops_.token_matmul(args, begin, end); });
}

void CpuBackend::GatherLogitsRows(const Rows& rows, const Tensor& x, const Tensor& out) {
  const int64_t size = x.dim(1);
  CheckF32(x, {rows.token_count, size}, "x");
  CheckF32(out, {rows.logits_count, size}, "out");
  for (int32_t i = 0; i < rows.logits_count; ++i) {
    std::memcpy(out.f32() + i * size, x.f32() + rows.logits_token[i] * size,
                static_cast<size_t>(size) * sizeof(float));
  }
}

void CpuBackend::TokenShift(const Rows& rows, const Tensor& x, const StateRef& state,
                            const Tensor& out) {
  TokenShiftArgs args;
  args.size = x.dim(1);
  args.row_count = rows.row_count;
  CheckF32(x, {rows.token_count, args.size}, "x");
  CheckF32(out, {rows.token_count, args.size}, "out");
  EDDY_CHECK(out.data() != x.data()) << "out must not be x";
  EDDY_CHECK(state.base != nullptr);
  args.x = x.f32();
  args.out = out.f32();
  args.token_begin = rows.token_begin;
  args.slot = rows.slot;
  args.state = state.base + state.offset_bytes;
  args.state_slot_bytes = state.slot_bytes;
  const int64_t cost = CeilDivide(rows.token_count, std::max(rows.row_count, 1)) * args.size;
  Split(args.row_count, 1, cost * kShiftCost,
        [&](int64_t begin, int64_t end) { ops_.token_shift(args, begin, end); });
}

void CpuBackend::ShortConvolution(const Rows& rows, const Tensor& x, const Tensor& weight,
                                  const Tensor& bias, const StateRef& state, const Tensor& out) {
  ShortConvolutionArgs args;
  args.channel_count = x.dim(1);
  args.width = weight.dim(0);
  args.row_count = rows.row_count;
  EDDY_CHECK(args.width >= 1) << args.width;
  CheckF32(x, {rows.token_count, args.channel_count}, "x");
  CheckF32(weight, {args.width, args.channel_count}, "weight");
  CheckF32(out, {rows.token_count, args.channel_count}, "out");
  EDDY_CHECK(state.base != nullptr);
  EDDY_CHECK(out.data() != x.data()) << "out must not be x";
  args.x = x.f32();
  args.weight = weight.f32();
  args.bias = CheckOptional(bias.present(), bias, {args.channel_count}, "bias");
  args.out = out.f32();
  args.token_begin = rows.token_begin;
  args.slot = rows.slot;
  args.state = state.base + state.offset_bytes;
  args.state_slot_bytes = state.slot_bytes;
  // By columns: a row's first tokens read the state that its last ones replace.
  Split(args.channel_count, kLanes, rows.token_count * (args.width + kActivateCost),
        [&](int64_t begin, int64_t end) { ops_.short_convolution(args, begin, end); });
}

void CpuBackend::MakeDecay(const DecayOptions& options, const Tensor& decay, const Tensor& rate,
                           const Tensor& bias) {
  const Shape& shape = decay.shape();
  EDDY_CHECK(shape.rank() == 2 || shape.rank() == 3) << shape.ToString();
  CheckF32(decay, shape, "decay");
  MakeDecayArgs args;
  args.options = options;
  args.head_count = shape[1];
  args.key_size = shape.rank() == 3 ? shape[2] : 1;
  const Shape bias_shape =
      shape.rank() == 3 ? Shape{args.head_count, args.key_size} : Shape{args.head_count};
  args.decay = decay.f32();
  args.rate = CheckOptional(rate.present(), rate, {args.head_count}, "rate");
  args.bias = CheckOptional(bias.present(), bias, bias_shape, "bias");
  Split(shape[0], 1, args.head_count * args.key_size * kActivateCost * 4,
        [&](int64_t begin, int64_t end) { ops_.make_decay(args, begin, end); });
}

void CpuBackend::Hgrn2Prepare(const Tensor& floor, const Tensor& decay, const Tensor& key) {
  Hgrn2PrepareArgs args;
  args.size = decay.dim(1);
  CheckF32(decay, {decay.dim(0), args.size}, "decay");
  CheckF32(key, {decay.dim(0), args.size}, "key");
  args.floor = CheckOptional(floor.present(), floor, {args.size}, "floor");
  args.decay = decay.f32();
  args.key = key.f32();
  Split(decay.dim(0), 1, args.size * kActivateCost * 2,
        [&](int64_t begin, int64_t end) { ops_.hgrn2_prepare(args, begin, end); });
}

void CpuBackend::Rotate(const Tensor& angles, const Tensor& x) {
  RotateArgs args;
  args.head_count = x.dim(1);
  args.key_size = x.dim(2);
  EDDY_CHECK_EQ(args.key_size % 2, 0);
  CheckF32(x, {x.dim(0), args.head_count, args.key_size}, "x");
  CheckF32(angles, {x.dim(0), args.key_size}, "angles");
  args.angles = angles.f32();
  args.x = x.f32();
  Split(x.dim(0), 1, args.head_count * args.key_size * 2,
        [&](int64_t begin, int64_t end) { ops_.rotate(args, begin, end); });
}

void CpuBackend::SignedSoftmax(const Tensor& x, const Tensor& out) {
  const int64_t size = x.dim(1);
  CheckF32(x, {x.dim(0), size}, "x");
  CheckF32(out, {x.dim(0), size * 2}, "out");
  Split(x.dim(0), 1, size * kActivateCost * 2, [&](int64_t begin, int64_t end) {
    ops_.signed_softmax(x.f32() + begin * size, out.f32() + begin * size * 2, end - begin, size);
  });
}

void CpuBackend::Mamba2Prepare(const StepRange& range, const Tensor& rate, const Tensor& bias,
                               const Tensor& step, const Tensor& decay) {
  EDDY_CHECK(range.min <= range.max) << range.min << " to " << range.max;
  Mamba2PrepareArgs args;
  args.range = range;
  args.head_count = step.dim(1);
  CheckF32(rate, {args.head_count}, "rate");
  CheckF32(bias, {args.head_count}, "bias");
  CheckF32(step, {step.dim(0), args.head_count}, "step");
  CheckF32(decay, step.shape(), "decay");
  EDDY_CHECK(step.data() != decay.data()) << "step must not be decay";
  args.rate = rate.f32();
  args.bias = bias.f32();
  args.step = step.f32();
  args.decay = decay.f32();
  Split(step.dim(0), 1, args.head_count * kActivateCost * 4,
        [&](int64_t begin, int64_t end) { ops_.mamba2_prepare(args, begin, end); });
}

void CpuBackend::Rwkv7Prepare(const Rwkv7Projections& inputs, const Tensor& removal) {
  Rwkv7PrepareArgs args;
  const int64_t tokens = inputs.k.dim(0);
  args.head_count = inputs.key_scale.dim(0);
  args.head_size = inputs.key_scale.dim(1);
  const Shape shape = {tokens, args.head_count * args.head_size};
  const Shape heads = {args.head_count, args.head_size};
  CheckF32(inputs.decay, shape, "decay");
  CheckF32(inputs.rate, shape, "rate");
  CheckF32(inputs.k, shape, "k");
  CheckF32(inputs.v, shape, "v");
  CheckF32(inputs.key_scale, heads, "key_scale");
  CheckF32(inputs.rate_scale, heads, "rate_scale");
  CheckF32(removal, shape, "removal");
  const bool mixes = inputs.first_v.present();
  args.decay = inputs.decay.f32();
  args.rate = inputs.rate.f32();
  args.k = inputs.k.f32();
  args.v = inputs.v.f32();
  args.value_mix = CheckOptional(mixes, inputs.value_mix, shape, "value_mix");
  args.first_v = CheckOptional(mixes, inputs.first_v, shape, "first_v");
  args.key_scale = inputs.key_scale.f32();
  args.rate_scale = inputs.rate_scale.f32();
  args.removal = removal.f32();
  Split(tokens * args.head_count, 1, args.head_size * kActivateCost * (mixes ? 4 : 3),
        [&](int64_t begin, int64_t end) { ops_.rwkv7_prepare(args, begin, end); });
}

void CpuBackend::Rwkv7Finish(const Rwkv7Readout& inputs, float eps, const Tensor& out) {
  Rwkv7FinishArgs args;
  const Shape shape = inputs.y.shape();
  EDDY_CHECK(shape.rank() == 3) << shape.ToString();
  const Shape heads = {shape[1], shape[2]};
  CheckF32(inputs.y, shape, "y");
  CheckF32(inputs.r, shape, "r");
  CheckF32(inputs.k, shape, "k");
  CheckF32(inputs.v, shape, "v");
  CheckF32(inputs.gate, shape, "gate");
  CheckF32(inputs.bonus, heads, "bonus");
  CheckF32(inputs.norm_weight, heads, "norm_weight");
  CheckF32(inputs.norm_bias, heads, "norm_bias");
  CheckF32(out, shape, "out");
  args.y = inputs.y.f32();
  args.r = inputs.r.f32();
  args.k = inputs.k.f32();
  args.v = inputs.v.f32();
  args.gate = inputs.gate.f32();
  args.bonus = inputs.bonus.f32();
  args.norm_weight = inputs.norm_weight.f32();
  args.norm_bias = inputs.norm_bias.f32();
  args.out = out.f32();
  args.head_count = shape[1];
  args.head_size = shape[2];
  args.eps = eps;
  Split(shape[0] * shape[1], 1, shape[2] * kNormCost * 2,
        [&](int64_t begin, int64_t end) { ops_.rwkv7_finish(args, begin, end); });
}

void CpuBackend::Recurrence(const RecurrenceOptions& options, const Rows& rows,
                            const RecurrenceInputs& inputs, const StateRef& state,
                            const StateRef& normaliser_state, const Tensor& out) {
  const int64_t tokens = rows.token_count;
  const int64_t heads = inputs.v.dim(1);
  const int64_t key_heads = inputs.q.dim(1);
  const int64_t key_size = inputs.q.dim(2);
  const int64_t value_size = inputs.v.dim(2);
  EDDY_CHECK(key_heads >= 1 && heads % key_heads == 0) << heads << " / " << key_heads;
  CheckF32(inputs.q, {tokens, key_heads, key_size}, "q");
  CheckF32(inputs.k, {tokens, key_heads, key_size}, "k");
  CheckF32(inputs.v, {tokens, heads, value_size}, "v");
  CheckF32(out, {tokens, heads, value_size}, "out");
  const Shape decay_shape = options.decay == Decay::kConstant ? Shape{heads}
                            : options.decay == Decay::kScalar ? Shape{tokens, heads}
                                                              : Shape{tokens, heads, key_size};
  const bool general = options.removal == Removal::kGeneral;
  RecurrenceArgs args;
  args.options = &options;
  args.q = inputs.q.f32();
  args.k = inputs.k.f32();
  args.v = inputs.v.f32();
  args.decay = CheckOptional(options.decay != Decay::kNone, inputs.decay, decay_shape, "decay");
  const bool scales = options.removal == Removal::kNone && inputs.beta.present();
  args.beta = CheckOptional(options.removal == Removal::kDelta || scales, inputs.beta,
                            {tokens, heads}, "beta");
  args.a = CheckOptional(general, inputs.a, {tokens, heads, key_size}, "a");
  args.b = CheckOptional(general, inputs.b, {tokens, heads, key_size}, "b");
  args.bonus = CheckOptional(options.read == Read::kBeforeWriteWithBonus, inputs.bonus,
                             {heads, key_size}, "bonus");
  args.skip = CheckOptional(inputs.skip.present(), inputs.skip, {heads}, "skip");
  args.out = out.f32();
  args.token_begin = rows.token_begin;
  args.slot = rows.slot;
  EDDY_CHECK(state.base != nullptr);
  args.state = state.base + state.offset_bytes;
  args.state_slot_bytes = state.slot_bytes;
  EDDY_CHECK(state.dtype == DType::kF32 || state.dtype == DType::kBF16) << DTypeName(state.dtype);
  args.state_is_bf16 = state.dtype == DType::kBF16;
  const bool normalises = options.normaliser != Normaliser::kNone;
  EDDY_CHECK(normalises == (normaliser_state.base != nullptr));
  if (normalises) {
    EDDY_CHECK_EQ(key_heads, heads);
    args.normaliser = normaliser_state.base + normaliser_state.offset_bytes;
    args.normaliser_slot_bytes = normaliser_state.slot_bytes;
  }
  args.head_count = heads;
  args.key_head_count = key_heads;
  args.key_size = key_size;
  args.value_size = value_size;
  const int64_t item_count = rows.row_count * heads;
  if (tokens == 0) return;
  const int64_t cost = CeilDivide(tokens * key_size * value_size, rows.row_count) * kRecurrenceCost;
  const int64_t tile_size = args.state_is_bf16 ? key_size * value_size : 0;
  const auto tiles_size = static_cast<size_t>(tile_size * info_.thread_count);
  if (state_tiles_.size() < tiles_size) state_tiles_.resize(tiles_size);
  const int64_t chunk = ChunkSize(item_count, 1, item_count * cost);
  pool_.ParallelFor(CeilDivide(item_count, chunk), [&](int64_t i, int thread) {
    ops_.recurrence(args, i * chunk, std::min(item_count, (i + 1) * chunk),
                    state_tiles_.data() + thread * tile_size);
  });
}

}  // namespace eddy::cpu
