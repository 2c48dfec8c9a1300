// SPDX-License-Identifier: Apache-2.0
#include "tests/support/fake_backend.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <new>
#include <numeric>
#include <utility>

#include "kernels/check.h"

namespace eddy {
namespace {

constexpr auto kAlign = std::align_val_t{64};

double LogTotal(std::span<const float> logits) {
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit));
  return std::log(sum);
}

float LogProb(std::span<const float> logits, int32_t token, double log_total) {
  return static_cast<float>(static_cast<double>(logits[static_cast<size_t>(token)]) - log_total);
}

bool AreFinite(std::span<const float> logits) {
  return std::all_of(logits.begin(), logits.end(), [](float x) { return std::isfinite(x); });
}

// Most probable first.
std::vector<int32_t> Ranked(std::span<const float> logits) {
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)];
  });
  return order;
}

void FillLogProbs(std::span<const float> logits, const SampleRow& row, SampleResult* result) {
  const double log_total = LogTotal(logits);
  result->log_prob = LogProb(logits, result->token, log_total);
  const std::vector<int32_t> order = Ranked(logits);
  result->alternative_count = std::min(row.alternative_count, static_cast<int32_t>(logits.size()));
  for (int32_t i = 0; i < result->alternative_count; ++i) {
    result->alternative_token[i] = order[static_cast<size_t>(i)];
    result->alternative_log_prob[i] = LogProb(logits, order[static_cast<size_t>(i)], log_total);
  }
}

void ScoreOne(std::span<const float> logits, const ScoreRow& row, ScoreResult* result) {
  *result = ScoreResult();
  if (!AreFinite(logits)) return;
  const double log_total = LogTotal(logits);
  result->is_finite = true;
  result->log_prob = LogProb(logits, row.token, log_total);
  const std::vector<int32_t> order = Ranked(logits);
  const size_t count = std::min(row.alternatives.size(), logits.size());
  for (size_t i = 0; i < count; ++i) {
    row.alternatives[i] = {order[i], LogProb(logits, order[i], log_total)};
  }
  result->alternative_count = static_cast<int32_t>(count);
}

void SampleOne(std::span<float> logits, const SampleRow& row, SampleResult* result) {
  result->token = -1;
  if (!AreFinite(logits)) return;
  const auto adjusted = [&](int32_t token) -> float& { return logits[static_cast<size_t>(token)]; };
  std::vector<float> original;
  if (row.wants_log_prob) original.assign(logits.begin(), logits.end());
  for (const TokenCount& seen : row.seen) {
    float& logit = adjusted(seen.token);
    logit = logit > 0 ? logit / row.repetition_penalty : logit * row.repetition_penalty;
    logit -= row.presence_penalty + row.frequency_penalty * static_cast<float>(seen.count);
  }
  for (const LogitBias& bias : row.biases) adjusted(bias.token) += bias.bias;
  for (const int32_t token : row.banned) {
    adjusted(token) = -std::numeric_limits<float>::infinity();
  }
  result->token =
      static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  if (row.wants_log_prob) FillLogProbs(original, row, result);
}

}  // namespace

FakeBackend::~FakeBackend() { EDDY_CHECK_EQ(allocated_bytes_, 0) << "a buffer was not freed"; }

void FakeBackend::RunAll() {
  for (const auto& work : work_) work();
  work_.clear();
}

absl::StatusOr<Buffer> FakeBackend::Allocate(int64_t bytes) {
  void* data = ::operator new(static_cast<size_t>(bytes), kAlign, std::nothrow);
  if (data == nullptr) return absl::ResourceExhaustedError("The fake backend is out of memory.");
  std::memset(data, 0, static_cast<size_t>(bytes));
  allocated_bytes_ += bytes;
  return Buffer(this, data, bytes);
}

void FakeBackend::Free(void* data, int64_t bytes) {
  RunAll();
  allocated_bytes_ -= bytes;
  ::operator delete(data, kAlign);
}

void FakeBackend::CopyIn(const void* host, void* device, int64_t bytes) {
  CopyOnDevice(host, device, bytes);
}

void FakeBackend::CopyOut(const void* device, void* host, int64_t bytes) {
  CopyOnDevice(device, host, bytes);
}

void FakeBackend::CopyOnDevice(const void* from, void* to, int64_t bytes) {
  Run([=] { std::memcpy(to, from, static_cast<size_t>(bytes)); });
}

void FakeBackend::FillBytes(void* device, uint8_t value, int64_t bytes) {
  Run([=] { std::memset(device, value, static_cast<size_t>(bytes)); });
}

const Rows& FakeBackend::BeginStep(const Rows& host) {
  EDDY_CHECK(work_.empty() || stream_ == Stream::kLazy);
  RunAll();  // the arrays of the step before are not in use any more
  const auto rows = static_cast<size_t>(host.row_count);
  tokens_.assign(host.tokens, host.tokens + host.token_count);
  token_begin_.assign(host.token_begin, host.token_begin + rows + 1);
  slot_.assign(host.slot, host.slot + rows);
  position_.assign(host.position, host.position + rows);
  logits_token_.assign(host.logits_token, host.logits_token + host.logits_count);
  rows_ = {.row_count = host.row_count,
           .token_count = host.token_count,
           .logits_count = host.logits_count,
           .tokens = tokens_.data(),
           .token_begin = token_begin_.data(),
           .slot = slot_.data(),
           .position = position_.data(),
           .logits_token = logits_token_.data()};
  return rows_;
}

absl::Status FakeBackend::Synchronize() {
  RunAll();
  if (fail_countdown_ > 0 && --fail_countdown_ == 0) lost_ = true;
  if (lost_) return absl::InternalError("The fake device was told to fail.");
  return absl::OkStatus();
}

void FakeBackend::Sample(const Tensor& logits, std::span<const SampleRow> rows,
                         std::span<SampleResult> results) {
  EDDY_CHECK_EQ(logits.dim(0), static_cast<int64_t>(rows.size()));
  EDDY_CHECK_EQ(rows.size(), results.size());
  Run([=] {
    const auto vocabulary = static_cast<size_t>(logits.dim(1));
    for (size_t i = 0; i < rows.size(); ++i) {
      SampleOne({logits.f32() + i * vocabulary, vocabulary}, rows[i], &results[i]);
    }
  });
}

void FakeBackend::Score(const Tensor& logits, std::span<const ScoreRow> rows,
                        std::span<ScoreResult> results) {
  EDDY_CHECK_EQ(logits.dim(0), static_cast<int64_t>(rows.size()));
  EDDY_CHECK_EQ(rows.size(), results.size());
  Run([=] {
    const auto vocabulary = static_cast<size_t>(logits.dim(1));
    for (size_t i = 0; i < rows.size(); ++i) {
      ScoreOne({logits.f32() + i * vocabulary, vocabulary}, rows[i], &results[i]);
    }
  });
}

void FakeBackend::SampleMixture(const Tensor& outputs, int32_t value_count,
                                std::span<const SampleRow> rows, std::span<SampleResult> results) {
  EDDY_CHECK_EQ(outputs.dim(0), static_cast<int64_t>(rows.size()));
  EDDY_CHECK_EQ(rows.size(), results.size());
  Run([=] {
    const auto size = static_cast<size_t>(outputs.dim(1)) / 3;
    for (size_t i = 0; i < rows.size(); ++i) {
      const float* const row = outputs.f32() + i * 3 * size;
      const auto likeliest = static_cast<size_t>(std::max_element(row, row + size) - row);
      const float last = static_cast<float>(value_count - 1);
      const float value = (row[size + likeliest] + 1.0f) * 0.5f * last;
      results[i].token = static_cast<int32_t>(std::lround(std::clamp(value, 0.0f, last)));
    }
  });
}

absl::StatusOr<Matrix> FakeBackend::AllocateMatrix(int64_t, int64_t, DType) {
  return absl::UnimplementedError("The fake backend has no matrices.");
}
void FakeBackend::PackRows(const Tensor&, int64_t, const Matrix&) { std::abort(); }
void FakeBackend::PackQuantisedRows(const QuantisedMatrix&, int64_t, const Matrix&) {
  std::abort();
}
void FakeBackend::ScoreMixture(const Tensor&, int32_t, std::span<const ScoreRow>,
                               std::span<ScoreResult>) {
  std::abort();
}
void FakeBackend::Embed(const Rows&, const Tensor&, int64_t, const Tensor&) { std::abort(); }
void FakeBackend::Sinusoid(const Rows&, int64_t, int64_t, const Tensor&) { std::abort(); }
void FakeBackend::MatMulGroup(std::span<const Product>) { std::abort(); }
void FakeBackend::Normalise(const NormOptions&, const NormInputs&, const Tensor&, const Tensor&) {
  std::abort();
}
void FakeBackend::Activate(Activation, const Tensor&, const Tensor&) { std::abort(); }
void FakeBackend::GatherLogitsRows(const Rows&, const Tensor&, const Tensor&) { std::abort(); }
void FakeBackend::TokenShift(const Rows&, const Tensor&, const StateRef&, const Tensor&) {
  std::abort();
}
void FakeBackend::Gate(Activation, const Tensor&, const Tensor&, const Tensor&) { std::abort(); }
void FakeBackend::TokenMatMul(const Tensor&, const Tensor&, const Tensor&, const Tensor&) {
  std::abort();
}
void FakeBackend::ShortConvolution(const Rows&, const Tensor&, const Tensor&, const Tensor&,
                                   const StateRef&, const Tensor&) {
  std::abort();
}
void FakeBackend::Mamba2Prepare(const StepRange&, const Tensor&, const Tensor&, const Tensor&,
                                const Tensor&) {
  std::abort();
}
void FakeBackend::MakeDecay(const DecayOptions&, const Tensor&, const Tensor&, const Tensor&) {
  std::abort();
}
void FakeBackend::Hgrn2Prepare(const Tensor&, const Tensor&, const Tensor&) { std::abort(); }
void FakeBackend::Rotate(const Tensor&, const Tensor&) { std::abort(); }
void FakeBackend::SignedSoftmax(const Tensor&, const Tensor&) { std::abort(); }
void FakeBackend::Rwkv7Prepare(const Rwkv7Projections&, const Tensor&) { std::abort(); }
void FakeBackend::Rwkv7Finish(const Rwkv7Readout&, float, const Tensor&) { std::abort(); }
void FakeBackend::Recurrence(const RecurrenceOptions&, const Rows&, const RecurrenceInputs&,
                             const StateRef&, const StateRef&, const Tensor&) {
  std::abort();
}

}  // namespace eddy
