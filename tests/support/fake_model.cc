// SPDX-License-Identifier: Apache-2.0
#include "tests/support/fake_model.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "kernels/check.h"

namespace eddy {
namespace {

// At the start of a slot; the floats follow.
struct State {
  uint64_t hash;
  int64_t token_count;
  int64_t is_nan;
};

uint64_t Mix(uint64_t x) {  // splitmix64
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

uint64_t Absorb(uint64_t hash, int32_t token) {
  return Mix(hash ^ static_cast<uint64_t>(token + 1));
}

int32_t NextToken(uint64_t hash, int32_t vocabulary_size) {
  return static_cast<int32_t>(Mix(hash) % static_cast<uint64_t>(vocabulary_size));
}

void WriteLogits(uint64_t hash, std::span<float> logits) {
  for (size_t v = 0; v < logits.size(); ++v) {
    logits[v] = static_cast<float>(Mix(hash ^ (v << 32)) >> 40) * 0x1p-24f;
  }
  logits[static_cast<size_t>(NextToken(hash, static_cast<int32_t>(logits.size())))] += 2.0f;
}

float BodyFloat(uint64_t hash, int i) {
  return static_cast<float>(Mix(hash + static_cast<uint64_t>(i)) >> 40);
}

}  // namespace

FakeModel::FakeModel(const FakeModelOptions& options, FakeBackend* backend)
    : options_(options), backend_(backend) {
  info_.name = "fake";
  info_.family = "fake";
  info_.vocabulary_size = options.vocabulary_size;
  info_.position_max = options.position_max;
  info_.end_of_text_ids = options.end_of_text_ids;
  layout_.Add("head", DType::kI64, {3});
  layout_.Add("body", DType::kF32, {options.state_float_count});
}

void FakeModel::Forward(const Rows& rows, const StateRef& pool, Workspace& workspace,
                        const Tensor& logits) {
  // Taken so that a step larger than the dry run is noticed.
  workspace.Take(DType::kF32, {rows.token_count, 4});
  workspace.Take(DType::kF32, {rows.row_count, 4});
  if (workspace.measuring()) return;
  if (options_.before_step) options_.before_step();
  const auto work = [this, rows, pool, logits] {
    int32_t logits_index = 0;
    for (int32_t row = 0; row < rows.row_count; ++row) {
      ReadRow(rows, row, pool.base + rows.slot[row] * pool.slot_bytes, logits, &logits_index);
    }
    EDDY_CHECK_EQ(logits_index, rows.logits_count);
  };
  if (backend_ == nullptr) {
    work();
  } else {
    backend_->Run(work);
  }
}

void FakeModel::ReadRow(const Rows& rows, int32_t row, std::byte* slot, Tensor logits,
                        int32_t* logits_index) const {
  State state;
  std::memcpy(&state, slot, sizeof(state));
  auto* body = reinterpret_cast<float*>(slot + layout_.tensors()[1].offset_bytes);
  EDDY_CHECK_EQ(state.token_count, rows.position[row]) << "a state out of step with its session";
  for (int i = 0; i < options_.state_float_count; ++i) {
    const float expected = state.token_count == 0 ? 0.0f : BodyFloat(state.hash, i);
    EDDY_CHECK(body[i] == expected) << "a state that is not whole, at float " << i;
  }
  EDDY_CHECK(state.token_count > 0 || state.hash == 0) << "a slot that was not zeroed";
  for (int32_t t = rows.token_begin[row]; t < rows.token_begin[row + 1]; ++t) {
    state.hash = Absorb(state.hash, rows.tokens[t]);
    ++state.token_count;
    if (rows.tokens[t] == options_.nan_token) state.is_nan = 1;
    if (*logits_index == rows.logits_count || rows.logits_token[*logits_index] != t) continue;
    const auto vocabulary = static_cast<size_t>(options_.vocabulary_size);
    float* out = logits.f32() + static_cast<size_t>((*logits_index)++) * vocabulary;
    WriteLogits(state.hash, {out, vocabulary});
    if (state.is_nan != 0) std::fill_n(out, vocabulary, std::numeric_limits<float>::quiet_NaN());
  }
  for (int i = 0; i < options_.state_float_count; ++i) body[i] = BodyFloat(state.hash, i);
  std::memcpy(slot, &state, sizeof(state));
}

std::vector<int32_t> FakeModel::Continue(std::vector<int32_t> tokens, int count,
                                         int32_t vocabulary_size) {
  uint64_t hash = 0;
  for (const int32_t token : tokens) hash = Absorb(hash, token);
  std::vector<int32_t> generated;
  for (int i = 0; i < count; ++i) {
    generated.push_back(NextToken(hash, vocabulary_size));
    hash = Absorb(hash, generated.back());
  }
  return generated;
}

std::vector<float> FakeModel::Logits(std::span<const int32_t> tokens, int32_t vocabulary_size) {
  uint64_t hash = 0;
  for (const int32_t token : tokens) hash = Absorb(hash, token);
  std::vector<float> logits(static_cast<size_t>(vocabulary_size));
  WriteLogits(hash, logits);
  return logits;
}

FakeTokenizer::FakeTokenizer(int32_t vocabulary_size) {
  for (int32_t token = 0; token < vocabulary_size; ++token) {
    bytes_.push_back(std::string(1, static_cast<char>('a' + token % 26)));
  }
}

absl::StatusOr<std::vector<int32_t>> FakeTokenizer::Encode(std::string_view text) const {
  std::vector<int32_t> tokens;
  for (const char c : text) {
    if (c < 'a' || c > 'z') return absl::InvalidArgumentError("The fake tokenizer knows a-z only.");
    tokens.push_back(c - 'a');
  }
  return tokens;
}

}  // namespace eddy
