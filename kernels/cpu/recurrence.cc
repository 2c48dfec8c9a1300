// SPDX-License-Identifier: Apache-2.0
#include <cstdint>

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/simd.h"

namespace eddy::cpu::EDDY_TARGET {
namespace {

// How the factor of the state varies: not at all, one per token, one per token and key.
enum class Factor { kOne, kToken, kKey };

// Columns of the state that are walked together: their sums must fit the registers.
#if EDDY_TARGET_LEVEL >= 4
constexpr int kVectorsMax = 4;
#else
constexpr int kVectorsMax = 2;
#endif
// Tokens whose per-token scalars are kept on the stack; the state's columns stay in L1 over them.
constexpr int64_t kTokenBlock = 64;

// A run of tokens of one row and head; pointers are at its first token, strides from token to
// token.
struct Run {
  const float* q;
  const float* k;
  const float* v;
  const float* a;
  const float* b;
  const float* w;  // kToken: [token], kKey: [token, K]
  const float* beta;
  float* out;
  float* state;  // [K, V]
  int64_t key_stride;
  int64_t head_key_stride;  // of a, b and w by key
  int64_t value_stride;
  int64_t w_stride;
  int64_t beta_stride;
  int64_t token_count;
  int64_t key_size;
  int64_t value_size;
  float scale;
  bool divides;
  const float* bonus;    // [token]: sum_d q_d u_d k_d
  const float* divisor;  // [token]
  const float* skip;     // D or null
};

template <int C>
struct Columns {
  F32x16 v[C];
};

// lanes = 16 but in the last, partial vector, which has C = 1.
template <int C>
inline Columns<C> LoadColumns(const float* p, int64_t lanes) {
  Columns<C> out;
  if constexpr (C == 1) {
    out.v[0] = LoadPartial(p, lanes);
  } else {
    EDDY_UNROLL
    for (int c = 0; c < C; ++c) out.v[c] = Load(p + c * kLanes);
  }
  return out;
}
template <int C>
inline void StoreColumns(float* p, const Columns<C>& x, int64_t lanes) {
  if constexpr (C == 1) {
    StorePartial(p, x.v[0], lanes);
  } else {
    EDDY_UNROLL
    for (int c = 0; c < C; ++c) Store(p + c * kLanes, x.v[c]);
  }
}

// What the removal needs before the state is written: S^T a (general) or (w S)^T k (delta).
template <Factor F, Removal M, int C>
inline Columns<C> Project(const Run& run, int64_t t, const float* state, int64_t lanes) {
  const float* left =
      M == Removal::kGeneral ? run.a + t * run.head_key_stride : run.k + t * run.key_stride;
  const float* w = run.w + t * run.w_stride;
  Columns<C> sum;
  EDDY_UNROLL
  for (int c = 0; c < C; ++c) sum.v[c] = Zero();
  for (int64_t i = 0; i < run.key_size; ++i) {
    const Columns<C> s = LoadColumns<C>(state + i * run.value_size, lanes);
    const F32x16 factor = Set(F == Factor::kOne ? 1.0f : w[F == Factor::kKey ? i : 0]);
    const F32x16 value = Set(left[i]);
    EDDY_UNROLL
    for (int c = 0; c < C; ++c) {
      const F32x16 decayed = M == Removal::kDelta && F != Factor::kOne ? factor * s.v[c] : s.v[c];
      sum.v[c] = Fma(decayed, value, sum.v[c]);
    }
  }
  return sum;
}

template <Factor F, Removal M, Read R, int C>
inline void StepColumns(const Run& run, int64_t t, int64_t column, int64_t lanes) {
  float* state = run.state + column;
  const float* q = run.q + t * run.key_stride;
  const float* k = run.k + t * run.key_stride;
  const float* w = run.w + t * run.w_stride;
  const float* b = run.b + t * run.head_key_stride;
  const Columns<C> v = LoadColumns<C>(run.v + t * run.value_stride + column, lanes);
  Columns<C> write = v;  // v, or u of the delta rule
  Columns<C> removed = v;
  if constexpr (M != Removal::kNone) {
    removed = Project<F, M, C>(run, t, state, lanes);
    if constexpr (M == Removal::kDelta) {
      const F32x16 beta = Set(run.beta[t * run.beta_stride]);
      EDDY_UNROLL
      for (int c = 0; c < C; ++c) write.v[c] = beta * (v.v[c] - removed.v[c]);
    }
  } else if (run.beta != nullptr) {
    const F32x16 beta = Set(run.beta[t * run.beta_stride]);
    EDDY_UNROLL
    for (int c = 0; c < C; ++c) write.v[c] = beta * v.v[c];
  }
  Columns<C> y;
  EDDY_UNROLL
  for (int c = 0; c < C; ++c) y.v[c] = Zero();
  for (int64_t i = 0; i < run.key_size; ++i) {
    Columns<C> s = LoadColumns<C>(state + i * run.value_size, lanes);
    const F32x16 key = Set(k[i]);
    const F32x16 query = Set(q[i]);
    const F32x16 factor = Set(F == Factor::kOne ? 1.0f : w[F == Factor::kKey ? i : 0]);
    const F32x16 rank_one = Set(M == Removal::kGeneral ? b[i] : 0.0f);
    EDDY_UNROLL
    for (int c = 0; c < C; ++c) {
      if constexpr (R == Read::kBeforeWriteWithBonus) y.v[c] = Fma(s.v[c], query, y.v[c]);
      if constexpr (F != Factor::kOne) s.v[c] = factor * s.v[c];
      if constexpr (M == Removal::kGeneral) s.v[c] = Fma(rank_one, removed.v[c], s.v[c]);
      s.v[c] = Fma(key, write.v[c], s.v[c]);
      if constexpr (R == Read::kAfterWrite) y.v[c] = Fma(s.v[c], query, y.v[c]);
    }
    StoreColumns<C>(state + i * run.value_size, s, lanes);
  }
  const F32x16 scale = Set(run.scale);
  EDDY_UNROLL
  for (int c = 0; c < C; ++c) {
    if constexpr (R == Read::kBeforeWriteWithBonus) {
      y.v[c] = Fma(Set(run.bonus[t]), v.v[c], y.v[c]);
    }
    y.v[c] = scale * y.v[c];
    if (run.divides) y.v[c] = y.v[c] / Set(run.divisor[t]);
    if (run.skip != nullptr) y.v[c] = Fma(Set(*run.skip), v.v[c], y.v[c]);
  }
  StoreColumns<C>(run.out + t * run.value_stride + column, y, lanes);
}

// C vectors at a time from `column` on, as many as whole ones fit; then the rest by fewer.
template <Factor F, Removal M, Read R, int C>
void RunColumnsFrom(const Run& run, int64_t column) {
  constexpr int64_t kWidth = C * kLanes;
  for (; column + kWidth <= run.value_size; column += kWidth) {
    for (int64_t t = 0; t < run.token_count; ++t) StepColumns<F, M, R, C>(run, t, column, kLanes);
  }
  if constexpr (C > 1) {
    if (column < run.value_size) RunColumnsFrom<F, M, R, C / 2>(run, column);
  } else if (column < run.value_size) {
    for (int64_t t = 0; t < run.token_count; ++t) {
      StepColumns<F, M, R, 1>(run, t, column, run.value_size - column);
    }
  }
}

template <Factor F, Removal M, Read R>
void RunColumns(const Run& run) {
  RunColumnsFrom<F, M, R, kVectorsMax>(run, 0);
}

using RunFn = void (*)(const Run& run);

template <Factor F, Removal M>
RunFn PickRead(Read read) {
  return read == Read::kAfterWrite ? &RunColumns<F, M, Read::kAfterWrite>
                                   : &RunColumns<F, M, Read::kBeforeWriteWithBonus>;
}

template <Factor F>
RunFn PickRemoval(const RecurrenceOptions& options) {
  switch (options.removal) {
    case Removal::kDelta:
      return PickRead<F, Removal::kDelta>(options.read);
    case Removal::kGeneral:
      return PickRead<F, Removal::kGeneral>(options.read);
    default:
      return PickRead<F, Removal::kNone>(options.read);
  }
}

RunFn Pick(const RecurrenceOptions& options) {
  switch (options.decay) {
    case Decay::kConstant:
    case Decay::kScalar:
      return PickRemoval<Factor::kToken>(options);
    case Decay::kVector:
      return PickRemoval<Factor::kKey>(options);
    default:
      return PickRemoval<Factor::kOne>(options);
  }
}

// z <- w z + k, then the divisor of y.
float UpdateNormaliser(const RecurrenceOptions& options, const Run& run, int64_t t, float* z) {
  const float* q = run.q + t * run.key_stride;
  const float* k = run.k + t * run.key_stride;
  const float* w = run.w + t * run.w_stride;
  F32x16 sum = Zero();
  for (int64_t i = 0; i < run.key_size; i += kLanes) {
    const int64_t left = run.key_size - i;
    const int64_t lanes = left < kLanes ? left : kLanes;
    F32x16 factor = Set(1.0f);
    if (options.decay == Decay::kVector) {
      factor = LoadPartial(w + i, lanes);
    } else if (options.decay != Decay::kNone) {
      factor = Set(w[0]);
    }
    const F32x16 next = Fma(factor, LoadPartial(z + i, lanes), LoadPartial(k + i, lanes));
    StorePartial(z + i, next, lanes);
    sum = Fma(LoadPartial(q + i, lanes), next, sum);
  }
  const float dot = options.scale * ReduceAdd(sum);
  if (options.normaliser == Normaliser::kAddEps) return dot + options.normaliser_eps;
  return dot > options.normaliser_eps ? dot : options.normaliser_eps;
}

// sum_d q_d u_d k_d
float Bonus(const Run& run, int64_t t, const float* u) {
  const float* q = run.q + t * run.key_stride;
  const float* k = run.k + t * run.key_stride;
  F32x16 sum = Zero();
  for (int64_t i = 0; i < run.key_size; i += kLanes) {
    const int64_t left = run.key_size - i;
    const int64_t lanes = left < kLanes ? left : kLanes;
    const F32x16 product = LoadPartial(q + i, lanes) * LoadPartial(u + i, lanes);
    sum = Fma(product, LoadPartial(k + i, lanes), sum);
  }
  return ReduceAdd(sum);
}

// An absent input stays null: nothing reads it, and null plus an offset would be undefined.
inline const float* At(const float* base, int64_t offset) {
  return base == nullptr ? nullptr : base + offset;
}

Run RunAt(const RecurrenceArgs& args, int64_t head, int64_t token, int64_t count) {
  const int64_t heads = args.head_count;
  const int64_t key_size = args.key_size;
  const int64_t key_head = head / (heads / args.key_head_count);
  const int64_t key_offset = (token * args.key_head_count + key_head) * key_size;
  const int64_t head_key_offset = (token * heads + head) * key_size;
  const int64_t value_offset = (token * heads + head) * args.value_size;
  Run run = {};
  run.q = args.q + key_offset;
  run.k = args.k + key_offset;
  run.v = args.v + value_offset;
  run.a = At(args.a, head_key_offset);
  run.b = At(args.b, head_key_offset);
  run.beta = At(args.beta, token * heads + head);
  switch (args.options->decay) {
    case Decay::kNone:
      break;
    case Decay::kConstant:
      run.w = args.decay + head;
      break;
    case Decay::kScalar:
      run.w = args.decay + token * heads + head;
      run.w_stride = heads;
      break;
    case Decay::kVector:
      run.w = args.decay + head_key_offset;
      run.w_stride = heads * key_size;
      break;
  }
  run.skip = At(args.skip, head);
  run.out = args.out + value_offset;
  run.key_stride = args.key_head_count * key_size;
  run.head_key_stride = args.a == nullptr ? 0 : heads * key_size;
  run.value_stride = heads * args.value_size;
  run.beta_stride = heads;
  run.token_count = count;
  run.key_size = key_size;
  run.value_size = args.value_size;
  run.scale = args.options->scale;
  return run;
}

// ---- a state kept as bf16 ----

void Widen(const uint16_t* from, float* to, int64_t count) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) Store(to + i, LoadBf16(from + i));
  for (; i < count; ++i) to[i] = Bf16ToF32(from[i]);
}

void RoundTile(float* tile, int64_t count) {
  for (int64_t i = 0; i < count; i += kLanes) {
    const int64_t lanes = count - i < kLanes ? count - i : kLanes;
    StorePartial(tile + i, RoundToBf16(LoadPartial(tile + i, lanes)), lanes);
  }
}

// Of numbers that bf16 can hold.
void Narrow(const float* from, uint16_t* to, int64_t count) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) StoreHighHalves(to + i, ToI32(Load(from + i)));
  for (; i < count; ++i) {
    to[i] = static_cast<uint16_t>(__builtin_bit_cast(uint32_t, from[i]) >> 16);
  }
}

}  // namespace

void Recurrence(const RecurrenceArgs& args, int64_t item_begin, int64_t item_end, float* tile) {
  const RecurrenceOptions& options = *args.options;
  const RunFn run_columns = Pick(options);
  const int64_t tile_size = args.key_size * args.value_size;
  // What is rounded after every token is the same however the tokens are cut.
  const int64_t token_block = args.state_is_bf16 ? 1 : kTokenBlock;
  float bonus[kTokenBlock] = {};
  float divisor[kTokenBlock] = {};
  for (int64_t item = item_begin; item < item_end; ++item) {
    const int64_t row = item / args.head_count;
    const int64_t head = item % args.head_count;
    const int64_t end = args.token_begin[row + 1];
    std::byte* slot_state = args.state + args.slot[row] * args.state_slot_bytes;
    auto* stored = reinterpret_cast<uint16_t*>(slot_state) + head * tile_size;
    float* state = reinterpret_cast<float*>(slot_state) + head * tile_size;
    if (args.state_is_bf16) {
      state = tile;
      Widen(stored, tile, tile_size);
    }
    for (int64_t token = args.token_begin[row]; token < end; token += token_block) {
      const int64_t left = end - token;
      const int64_t count = left < token_block ? left : token_block;
      Run run = RunAt(args, head, token, count);
      run.state = state;
      run.bonus = bonus;
      run.divisor = divisor;
      if (options.normaliser != Normaliser::kNone) {
        float* z = reinterpret_cast<float*>(args.normaliser +
                                            args.slot[row] * args.normaliser_slot_bytes) +
                   head * args.key_size;
        for (int64_t t = 0; t < count; ++t) divisor[t] = UpdateNormaliser(options, run, t, z);
        run.divides = true;
      }
      if (options.read == Read::kBeforeWriteWithBonus) {
        const float* u = args.bonus + head * args.key_size;
        for (int64_t t = 0; t < count; ++t) bonus[t] = Bonus(run, t, u);
      }
      run_columns(run);
      if (args.state_is_bf16) RoundTile(tile, tile_size);
    }
    if (args.state_is_bf16) Narrow(tile, stored, tile_size);
  }
}

}  // namespace eddy::cpu::EDDY_TARGET
