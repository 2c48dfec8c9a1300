// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/metered_backend.h"

namespace eddy {
namespace {

double Count(int64_t count) { return static_cast<double>(count); }

}  // namespace

double StepCost::bytes() const {
  double sum = 0.0;
  for (const OpCost& op : ops) sum += op.bytes;
  return sum;
}

double StepCost::operations() const {
  double sum = 0.0;
  for (const OpCost& op : ops) sum += op.operations;
  return sum;
}

double RecurrenceOperations(const RecurrenceOptions& options) {
  constexpr double kWrite = 2.0, kRead = 2.0, kReadAndRemove = 4.0;
  double operations = kWrite + kRead;
  if (options.decay != Decay::kNone) operations += 1.0;
  switch (options.removal) {
    case Removal::kNone:
      break;
    case Removal::kDelta:  // what is read goes into the one write
      operations += kRead;
      break;
    case Removal::kGeneral:
      operations += kReadAndRemove;
      break;
  }
  return operations;
}

template <typename Op>
void MeteredBackend::Meter(OpClass op_class, double bytes, double operations, const Op& op) {
  OpCost& cost = cost_.ops[static_cast<size_t>(op_class)];
  cost.bytes += bytes;
  cost.operations += operations;
  if (!timed_) return op();
  const double waited = backend_->WaitSeconds();
  const auto start = std::chrono::steady_clock::now();
  op();
  const auto end = std::chrono::steady_clock::now();
  const double wait_seconds = backend_->WaitSeconds() - waited;
  cost.wait_seconds += wait_seconds;
  cost.seconds += std::chrono::duration<double>(end - start).count() - wait_seconds;
}

void MeteredBackend::Embed(const Rows& rows, const Tensor& table, int64_t column,
                           const Tensor& out) {
  const int64_t row_bytes = table.dim(1) * DTypeBytes(table.dtype());
  Meter(OpClass::kElementwise, Count(rows.token_count * row_bytes), 0.0,
        [&] { backend_->Embed(rows, table, column, out); });
}

void MeteredBackend::Sinusoid(const Rows& rows, int64_t column, int64_t size, const Tensor& out) {
  Meter(OpClass::kElementwise, 0.0, 0.0, [&] { backend_->Sinusoid(rows, column, size, out); });
}

void MeteredBackend::MatMulGroup(std::span<const Product> products) {
  double bytes = 0.0, operations = 0.0;
  for (const Product& product : products) {
    bytes += Count(product.weight->buffer.bytes());
    operations +=
        2.0 * Count(product.weight->out_size * product.weight->in_size) * Count(product.x.dim(0));
  }
  Meter(OpClass::kMatMul, bytes, operations, [&] { backend_->MatMulGroup(products); });
}

void MeteredBackend::Normalise(const NormOptions& options, const NormInputs& inputs,
                               const Tensor& sum, const Tensor& out) {
  Meter(OpClass::kNorm, 0.0, 0.0, [&] { backend_->Normalise(options, inputs, sum, out); });
}

void MeteredBackend::TokenMatMul(const Tensor& x, const Tensor& a, const Tensor& b,
                                 const Tensor& out) {
  Meter(OpClass::kElementwise, 0.0, 2.0 * Count(a.element_count()),
        [&] { backend_->TokenMatMul(x, a, b, out); });
}

void MeteredBackend::Activate(Activation f, const Tensor& x, const Tensor& out) {
  Meter(OpClass::kElementwise, 0.0, 0.0, [&] { backend_->Activate(f, x, out); });
}

void MeteredBackend::Gate(Activation f, const Tensor& x, const Tensor& y, const Tensor& out) {
  Meter(OpClass::kElementwise, 0.0, 0.0, [&] { backend_->Gate(f, x, y, out); });
}

void MeteredBackend::GatherLogitsRows(const Rows& rows, const Tensor& x, const Tensor& out) {
  Meter(OpClass::kElementwise, 0.0, 0.0, [&] { backend_->GatherLogitsRows(rows, x, out); });
}

void MeteredBackend::TokenShift(const Rows& rows, const Tensor& x, const StateRef& state,
                                const Tensor& out) {
  Meter(OpClass::kElementwise, 8.0 * Count(rows.row_count * x.dim(1)), 0.0,
        [&] { backend_->TokenShift(rows, x, state, out); });
}

void MeteredBackend::ShortConvolution(const Rows& rows, const Tensor& x, const Tensor& weight,
                                      const Tensor& bias, const StateRef& state,
                                      const Tensor& out) {
  const int64_t state_numbers = (weight.dim(0) - 1) * weight.dim(1);
  Meter(OpClass::kElementwise, 8.0 * Count(rows.row_count * state_numbers), 0.0,
        [&] { backend_->ShortConvolution(rows, x, weight, bias, state, out); });
}

void MeteredBackend::MakeDecay(const DecayOptions& options, const Tensor& decay, const Tensor& rate,
                               const Tensor& bias) {
  Meter(OpClass::kElementwise, 0.0, 0.0, [&] { backend_->MakeDecay(options, decay, rate, bias); });
}

void MeteredBackend::Hgrn2Prepare(const Tensor& floor, const Tensor& decay, const Tensor& key) {
  Meter(OpClass::kElementwise, 0.0, 0.0, [&] { backend_->Hgrn2Prepare(floor, decay, key); });
}

void MeteredBackend::Rotate(const Tensor& angles, const Tensor& x) {
  Meter(OpClass::kElementwise, 0.0, 0.0, [&] { backend_->Rotate(angles, x); });
}

void MeteredBackend::SignedSoftmax(const Tensor& x, const Tensor& out) {
  Meter(OpClass::kElementwise, 0.0, 0.0, [&] { backend_->SignedSoftmax(x, out); });
}

void MeteredBackend::Mamba2Prepare(const StepRange& range, const Tensor& rate, const Tensor& bias,
                                   const Tensor& step, const Tensor& decay) {
  Meter(OpClass::kElementwise, 0.0, 0.0,
        [&] { backend_->Mamba2Prepare(range, rate, bias, step, decay); });
}

void MeteredBackend::Rwkv7Prepare(const Rwkv7Projections& inputs, const Tensor& removal) {
  Meter(OpClass::kElementwise, 0.0, 0.0, [&] { backend_->Rwkv7Prepare(inputs, removal); });
}

void MeteredBackend::Rwkv7Finish(const Rwkv7Readout& inputs, float eps, const Tensor& out) {
  Meter(OpClass::kElementwise, 0.0, 0.0, [&] { backend_->Rwkv7Finish(inputs, eps, out); });
}

void MeteredBackend::Recurrence(const RecurrenceOptions& options, const Rows& rows,
                                const RecurrenceInputs& inputs, const StateRef& state,
                                const StateRef& normaliser_state, const Tensor& out) {
  const int64_t state_numbers = inputs.v.dim(1) * inputs.k.dim(2) * inputs.v.dim(2);
  const int64_t normaliser_numbers =
      options.normaliser == Normaliser::kNone ? 0 : inputs.k.dim(1) * inputs.k.dim(2);
  const int64_t row_bytes = DTypeBytes(state.dtype) * state_numbers + 4 * normaliser_numbers;
  Meter(OpClass::kRecurrence, 2.0 * Count(rows.row_count * row_bytes),
        RecurrenceOperations(options) * Count(rows.token_count * state_numbers),
        [&] { backend_->Recurrence(options, rows, inputs, state, normaliser_state, out); });
}

void MeteredBackend::Sample(const Tensor& logits, std::span<const SampleRow> rows,
                            std::span<SampleResult> results) {
  Meter(OpClass::kSampling, 0.0, 0.0, [&] { backend_->Sample(logits, rows, results); });
}

void MeteredBackend::Score(const Tensor& logits, std::span<const ScoreRow> rows,
                           std::span<ScoreResult> results) {
  Meter(OpClass::kSampling, 0.0, 0.0, [&] { backend_->Score(logits, rows, results); });
}

void MeteredBackend::SampleMixture(const Tensor& outputs, int32_t value_count,
                                   std::span<const SampleRow> rows,
                                   std::span<SampleResult> results) {
  Meter(OpClass::kSampling, 0.0, 0.0,
        [&] { backend_->SampleMixture(outputs, value_count, rows, results); });
}

void MeteredBackend::ScoreMixture(const Tensor& outputs, int32_t value_count,
                                  std::span<const ScoreRow> rows, std::span<ScoreResult> results) {
  Meter(OpClass::kSampling, 0.0, 0.0,
        [&] { backend_->ScoreMixture(outputs, value_count, rows, results); });
}

}  // namespace eddy
