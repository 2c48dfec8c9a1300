// SPDX-License-Identifier: Apache-2.0
// Token streams for the recurrence, its plain double-precision twin, and a way to run the streams
// through a backend in any steps: all rows at once, row by row, token by token, in any chunks.
#pragma once

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "tests/kernels/kernel_fixture.h"

namespace eddy {

struct RecurrenceShape {
  int64_t heads = 1;
  int64_t key_heads = 1;
  int64_t key_size = 1;
  int64_t value_size = 1;
};

// The inputs of one row, token by token: each tensor's values for one token are `stride` long.
struct PerToken {
  int64_t stride = 0;
  std::vector<float> values;
};

// One row's whole stream.
struct RecurrenceStream {
  int64_t token_count = 0;
  PerToken q, k, v, decay, beta, a, b;
};

inline std::vector<float> Normalised(std::vector<float> values, int64_t size, bool positive) {
  for (size_t begin = 0; begin < values.size(); begin += static_cast<size_t>(size)) {
    double squares = 1e-9;
    for (int64_t i = 0; i < size; ++i) {
      float& value = values[begin + static_cast<size_t>(i)];
      if (positive) value = std::abs(value);
      squares += double{value} * value;
    }
    for (int64_t i = 0; i < size; ++i) {
      values[begin + static_cast<size_t>(i)] /= static_cast<float>(std::sqrt(squares));
    }
  }
  return values;
}

inline RecurrenceStream MakeStream(const RecurrenceOptions& options, const RecurrenceShape& shape,
                                   int64_t token_count, Numbers& numbers) {
  const bool positive = options.normaliser != Normaliser::kNone;  // so that q.z is
  const int64_t key = shape.key_heads * shape.key_size;
  const int64_t head_key = shape.heads * shape.key_size;
  const int64_t value = shape.heads * shape.value_size;
  RecurrenceStream s;
  s.token_count = token_count;
  s.q = {key, Normalised(numbers.Normal(token_count * key), shape.key_size, positive)};
  s.k = {key, Normalised(numbers.Normal(token_count * key), shape.key_size, positive)};
  s.v = {value, numbers.Normal(token_count * value)};
  const int64_t decay = options.decay == Decay::kScalar   ? shape.heads
                        : options.decay == Decay::kVector ? head_key
                                                          : 0;
  s.decay = {decay, numbers.Uniform(token_count * decay, 0.8f, 1.0f)};
  s.beta = {shape.heads, numbers.Uniform(token_count * shape.heads, 0.0f, 1.0f)};
  s.a = {head_key, Normalised(numbers.Normal(token_count * head_key), shape.key_size, false)};
  s.b = {head_key, s.a.values};
  for (float& x : s.b.values) x *= -0.5f;
  return s;
}

// Everything one comparison needs.
struct RecurrenceCase {
  RecurrenceOptions options;
  RecurrenceShape shape;
  std::vector<RecurrenceStream> streams;  // [row]
  std::vector<int32_t> slots;             // [row]
  std::vector<float> constant_decay;      // [head]
  std::vector<float> bonus;               // [head, K]
  bool scales_writes = false;             // a beta without removal
  std::vector<float> skip;                // [head], or empty
  std::vector<float> initial;             // [slot, state then z]
  int64_t slot_floats = 0;
  int64_t state_floats = 0;
};

inline constexpr int32_t kSlotCount = 6;

inline RecurrenceCase MakeCase(const RecurrenceOptions& options, const RecurrenceShape& shape,
                               const std::vector<int64_t>& lengths, uint32_t seed) {
  Numbers numbers(seed);
  RecurrenceCase c;
  c.options = options;
  c.shape = shape;
  for (const int64_t length : lengths) {
    c.streams.push_back(MakeStream(options, shape, length, numbers));
  }
  const std::vector<int32_t> slots = {4, 1, 3, 0};
  c.slots.assign(slots.begin(), slots.begin() + static_cast<int64_t>(lengths.size()));
  c.constant_decay = numbers.Uniform(shape.heads, 0.8f, 1.0f);
  c.bonus = numbers.Normal(shape.heads * shape.key_size);
  c.state_floats = shape.heads * shape.key_size * shape.value_size;
  // Between the slots lies a canary that no kernel may touch.
  c.slot_floats = c.state_floats + shape.heads * shape.key_size + 3;
  c.initial = numbers.Uniform(kSlotCount * c.slot_floats, 0.1f, 0.5f);
  return c;
}

struct RecurrenceOutcome {
  std::vector<std::vector<float>> out;  // [row][token, H, V]
  std::vector<float> slots;             // as RecurrenceCase::initial, afterwards
};

// A piece of one row's stream that goes through one step.
struct Piece {
  size_t row = 0;
  int64_t begin = 0;
  int64_t count = 0;
};

// The pieces' tokens of one tensor, one after the other; absent when the tensor is.
class StepTensor {
 public:
  StepTensor(const RecurrenceCase& c, const std::vector<Piece>& pieces,
             PerToken RecurrenceStream::*member) {
    for (const Piece& piece : pieces) {
      const PerToken& from = c.streams[piece.row].*member;
      values_.insert(values_.end(), from.values.begin() + piece.begin * from.stride,
                     from.values.begin() + (piece.begin + piece.count) * from.stride);
    }
  }
  Tensor As(Shape shape) { return View(values_, shape); }

 private:
  std::vector<float> values_;
};

// Runs one step, adding to outcome.
inline void RunStep(Backend& backend, const RecurrenceCase& c, const std::vector<Piece>& pieces,
                    RecurrenceOutcome& outcome) {
  std::vector<int32_t> lengths;
  std::vector<int32_t> slots;
  for (const Piece& piece : pieces) {
    lengths.push_back(static_cast<int32_t>(piece.count));
    slots.push_back(c.slots[piece.row]);
  }
  const RowsFixture batch(lengths, slots);
  const int64_t t = batch.rows().token_count;
  const RecurrenceShape& s = c.shape;
  StepTensor q(c, pieces, &RecurrenceStream::q), k(c, pieces, &RecurrenceStream::k),
      v(c, pieces, &RecurrenceStream::v), decay(c, pieces, &RecurrenceStream::decay),
      beta(c, pieces, &RecurrenceStream::beta), a(c, pieces, &RecurrenceStream::a),
      b(c, pieces, &RecurrenceStream::b);
  std::vector<float> constant_decay = c.constant_decay;
  std::vector<float> bonus = c.bonus;
  std::vector<float> skip = c.skip;
  RecurrenceInputs inputs;
  inputs.q = q.As({t, s.key_heads, s.key_size});
  inputs.k = k.As({t, s.key_heads, s.key_size});
  inputs.v = v.As({t, s.heads, s.value_size});
  if (c.options.decay == Decay::kConstant) inputs.decay = View(constant_decay, {s.heads});
  if (c.options.decay == Decay::kScalar) inputs.decay = decay.As({t, s.heads});
  if (c.options.decay == Decay::kVector) inputs.decay = decay.As({t, s.heads, s.key_size});
  if (c.options.removal == Removal::kDelta || c.scales_writes) inputs.beta = beta.As({t, s.heads});
  if (c.options.removal == Removal::kGeneral) {
    inputs.a = a.As({t, s.heads, s.key_size});
    inputs.b = b.As({t, s.heads, s.key_size});
  }
  if (c.options.read == Read::kBeforeWriteWithBonus) {
    inputs.bonus = View(bonus, {s.heads, s.key_size});
  }
  if (!skip.empty()) inputs.skip = View(skip, {s.heads});
  auto* base = reinterpret_cast<std::byte*>(outcome.slots.data());
  const StateRef state = {base, c.slot_floats * 4, 0};
  StateRef normaliser = {base, c.slot_floats * 4, c.state_floats * 4};
  if (c.options.normaliser == Normaliser::kNone) normaliser = {};
  const int64_t token_floats = s.heads * s.value_size;
  std::vector<float> out(static_cast<size_t>(t * token_floats), NAN);
  backend.Recurrence(c.options, batch.rows(), inputs, state, normaliser,
                     View(out, {t, s.heads, s.value_size}));
  auto from = out.begin();
  for (const Piece& piece : pieces) {
    auto& to = outcome.out[piece.row];
    to.insert(to.end(), from, from + piece.count * token_floats);
    from += piece.count * token_floats;
  }
}

// All rows in every step, `chunk` tokens each (the last one what is left).
inline RecurrenceOutcome RunTogether(Backend& backend, const RecurrenceCase& c, int64_t chunk) {
  RecurrenceOutcome outcome;
  outcome.out.resize(c.streams.size());
  outcome.slots = c.initial;
  for (int64_t begin = 0;; begin += chunk) {
    std::vector<Piece> pieces;
    for (size_t row = 0; row < c.streams.size(); ++row) {
      const int64_t left = c.streams[row].token_count - begin;
      if (left > 0) pieces.push_back({row, begin, std::min(chunk, left)});
    }
    if (pieces.empty()) return outcome;
    RunStep(backend, c, pieces, outcome);
  }
}

// One row after the other, each whole.
inline RecurrenceOutcome RunAlone(Backend& backend, const RecurrenceCase& c) {
  RecurrenceOutcome outcome;
  outcome.out.resize(c.streams.size());
  outcome.slots = c.initial;
  for (size_t row = 0; row < c.streams.size(); ++row) {
    RunStep(backend, c, {{row, 0, c.streams[row].token_count}}, outcome);
  }
  return outcome;
}

namespace reference {

// One head's state.
struct HeadState {
  std::vector<double> s;  // [K, V]
  std::vector<double> z;  // [K]
};

// y [V] of one token and head; the formulas of Backend::Recurrence, line by line.
inline std::vector<double> RecurrenceStep(const RecurrenceCase& c, const RecurrenceStream& stream,
                                          int64_t t, int64_t head, HeadState& state) {
  const auto key = static_cast<size_t>(c.shape.key_size);
  const auto value = static_cast<size_t>(c.shape.value_size);
  const auto at = [t](const PerToken& x, int64_t offset) {
    return x.values.data() + t * x.stride + offset;
  };
  const int64_t key_offset = head / (c.shape.heads / c.shape.key_heads) * c.shape.key_size;
  const float* q = at(stream.q, key_offset);
  const float* k = at(stream.k, key_offset);
  const float* v = at(stream.v, head * c.shape.value_size);
  const float* a = at(stream.a, head * c.shape.key_size);
  const float* b = at(stream.b, head * c.shape.key_size);
  std::vector<double> w(key, 1.0);
  for (size_t i = 0; i < key; ++i) {
    if (c.options.decay == Decay::kConstant) w[i] = c.constant_decay[static_cast<size_t>(head)];
    if (c.options.decay == Decay::kScalar) w[i] = at(stream.decay, head)[0];
    if (c.options.decay == Decay::kVector) w[i] = at(stream.decay, head * c.shape.key_size)[i];
  }
  std::vector<double> y(value);
  double bonus = 0.0;
  double dot = 0.0;
  for (size_t i = 0; i < key; ++i) {
    const float* u = c.bonus.data() + head * c.shape.key_size;
    bonus += double{q[i]} * u[i] * k[i];
    state.z[i] = w[i] * state.z[i] + k[i];
    dot += q[i] * state.z[i] * c.options.scale;
  }
  const std::vector<double> before = state.s;
  for (size_t j = 0; j < value; ++j) {
    const auto s = [&](size_t i) -> double& { return state.s[i * value + j]; };
    double removed = 0.0;
    double write = v[j];
    if (c.scales_writes) write *= at(stream.beta, head)[0];
    for (size_t i = 0; i < key; ++i) removed += s(i) * a[i];
    for (size_t i = 0; i < key; ++i) s(i) *= w[i];
    if (c.options.removal == Removal::kGeneral) {
      for (size_t i = 0; i < key; ++i) s(i) += b[i] * removed;
    }
    if (c.options.removal == Removal::kDelta) {
      double old = 0.0;
      for (size_t i = 0; i < key; ++i) old += s(i) * k[i];
      write = at(stream.beta, head)[0] * (v[j] - old);
    }
    for (size_t i = 0; i < key; ++i) s(i) += k[i] * write;
    for (size_t i = 0; i < key; ++i) {
      y[j] += q[i] * (c.options.read == Read::kAfterWrite ? s(i) : before[i * value + j]);
    }
    if (c.options.read == Read::kBeforeWriteWithBonus) y[j] += bonus * v[j];
    y[j] *= c.options.scale;
    const double eps = c.options.normaliser_eps;
    if (c.options.normaliser == Normaliser::kAddEps) y[j] /= dot + eps;
    if (c.options.normaliser == Normaliser::kFloor) y[j] /= std::max(dot, eps);
    if (!c.skip.empty()) y[j] += double{c.skip[static_cast<size_t>(head)]} * v[j];
  }
  return y;
}

struct RecurrenceResult {
  std::vector<std::vector<double>> out;  // [row][token, H, V]
  std::vector<double> slots;
};

inline RecurrenceResult Recurrence(const RecurrenceCase& c) {
  RecurrenceResult result;
  result.slots.assign(c.initial.begin(), c.initial.end());
  const int64_t key = c.shape.key_size;
  const int64_t head_floats = key * c.shape.value_size;
  for (size_t row = 0; row < c.streams.size(); ++row) {
    std::vector<HeadState> heads;
    const auto slot = result.slots.begin() + c.slots[row] * c.slot_floats;
    for (int64_t h = 0; h < c.shape.heads; ++h) {
      const auto s = slot + h * head_floats;
      const auto z = slot + c.state_floats + h * key;
      heads.push_back({{s, s + head_floats}, {z, z + key}});
    }
    std::vector<double> out;
    for (int64_t t = 0; t < c.streams[row].token_count; ++t) {
      for (int64_t h = 0; h < c.shape.heads; ++h) {
        const auto y = RecurrenceStep(c, c.streams[row], t, h, heads[static_cast<size_t>(h)]);
        out.insert(out.end(), y.begin(), y.end());
      }
    }
    result.out.push_back(out);
    for (int64_t h = 0; h < c.shape.heads; ++h) {
      const HeadState& head = heads[static_cast<size_t>(h)];
      std::copy(head.s.begin(), head.s.end(), slot + h * head_floats);
      if (c.options.normaliser == Normaliser::kNone) continue;
      std::copy(head.z.begin(), head.z.end(), slot + c.state_floats + h * key);
    }
  }
  return result;
}

}  // namespace reference
}  // namespace eddy
