// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <string>
#include <utility>

#include "tests/bench/metered_backend.h"
#include "tests/bench/op_bench.h"

namespace eddy {
namespace {

constexpr int64_t kStatesBytes = int64_t{160} << 20;

struct Family {
  const char* name;
  RecurrenceOptions options;
};

RecurrenceOptions Options(Decay decay, Removal removal, Read read, Normaliser normaliser) {
  RecurrenceOptions options;
  options.decay = decay;
  options.removal = removal;
  options.read = read;
  options.normaliser = normaliser;
  options.normaliser_eps = 1e-6f;
  return options;
}

const std::vector<Family>& Families() {
  static const std::vector<Family> families = {
      {"linear_transformer",
       Options(Decay::kNone, Removal::kNone, Read::kAfterWrite, Normaliser::kAddEps)},
      {"retnet", Options(Decay::kConstant, Removal::kNone, Read::kAfterWrite, Normaliser::kNone)},
      {"gla", Options(Decay::kVector, Removal::kNone, Read::kAfterWrite, Normaliser::kNone)},
      {"gated_delta_net",
       Options(Decay::kScalar, Removal::kDelta, Read::kAfterWrite, Normaliser::kNone)},
      {"rwkv6",
       Options(Decay::kVector, Removal::kNone, Read::kBeforeWriteWithBonus, Normaliser::kNone)},
      {"rwkv7", Options(Decay::kVector, Removal::kGeneral, Read::kAfterWrite, Normaliser::kNone)},
  };
  return families;
}

void Recurrence(OpBench& bench, benchmark::State& state, const Family& family, int64_t heads,
                int64_t size, int32_t row_count, int32_t length) {
  BenchRows step(row_count, length);
  const int64_t tokens = step.rows.token_count;
  const int64_t state_floats = heads * size * size;
  const int64_t slot_floats = state_floats + heads * size;
  std::vector<float> x = RandomValues(tokens * heads * size);
  std::vector<float> decay(static_cast<size_t>(tokens * heads * size), 0.9f);
  // As in a step, the next layer's states come from memory.
  const int64_t layer_bytes = row_count * slot_floats * 4;
  const int64_t layer_count = std::clamp<int64_t>(kStatesBytes / layer_bytes, 1, 1024);
  std::vector<float> states(static_cast<size_t>(layer_count * row_count * slot_floats), 0.01f);
  std::vector<float> out(x.size());
  // Small keys keep the delta rule and the like from growing without bound.
  std::vector<float> keys(x.size(), 0.05f), removal(x.size(), -0.05f);
  const Shape shape = {tokens, heads, size};
  RecurrenceInputs inputs;
  inputs.q = inputs.v = View(x, shape);
  inputs.k = View(keys, shape);
  switch (family.options.decay) {
    case Decay::kNone:
      break;
    case Decay::kConstant:
      inputs.decay = View(decay, {heads});
      break;
    case Decay::kScalar:
      inputs.decay = View(decay, {tokens, heads});
      break;
    case Decay::kVector:
      inputs.decay = View(decay, shape);
      break;
  }
  if (family.options.removal == Removal::kDelta) inputs.beta = View(decay, {tokens, heads});
  if (family.options.removal == Removal::kGeneral) {
    inputs.a = View(keys, shape);
    inputs.b = View(removal, shape);
  }
  if (family.options.read == Read::kBeforeWriteWithBonus) inputs.bonus = View(keys, {heads, size});
  auto* base = reinterpret_cast<std::byte*>(states.data());
  StateRef normaliser;
  if (family.options.normaliser != Normaliser::kNone) {
    normaliser = {base, slot_floats * 4, state_floats * 4};
  }
  const OpWork work = {.bytes = 8.0 * static_cast<double>(row_count * state_floats),
                       .operations = RecurrenceOperations(family.options) *
                                     static_cast<double>(tokens * state_floats)};
  int64_t layer = 0;
  bench.Measure(state, work, [&] {
    StateRef layer_state = {base + layer * layer_bytes, slot_floats * 4, 0};
    StateRef layer_normaliser = normaliser;
    if (normaliser.base != nullptr) layer_normaliser.base = layer_state.base;
    bench.backend().Recurrence(family.options, step.rows, inputs, layer_state, layer_normaliser,
                               View(out, shape));
    layer = (layer + 1) % layer_count;
  });
}

}  // namespace

void RegisterRecurrence(OpBench& bench) {
  // Heads and their size: of RWKV-7 0.19B and 1.5B, and of the paper's image models.
  constexpr std::pair<int64_t, int64_t> kHeads[] = {{12, 64}, {32, 64}, {8, 32}};
  for (const Family& family : Families()) {
    for (const auto& [heads, size] : kHeads) {
      for (const auto& [rows, length] : {std::pair{1, 1}, {64, 1}, {1, 256}}) {
        Register("Recurrence/" + std::string(family.name) + "/heads:" + std::to_string(heads) +
                     "/size:" + std::to_string(size) + "/rows:" + std::to_string(rows) +
                     "/tokens:" + std::to_string(length),
                 [&bench, &family, heads = heads, size = size, rows = rows,
                  length = length](benchmark::State& state) {
                   Recurrence(bench, state, family, heads, size, rows, length);
                 });
      }
    }
  }
}

}  // namespace eddy
