// SPDX-License-Identifier: Apache-2.0
// MeteredBackend: another backend, with what its ops cost counted: the bytes they must move, their
// operations and, when asked for, their time.
//
// Bytes are those that no cache can save in a step: packed weights once, the embedding's rows that
// are looked up, a session's state read and written once. Activations are none of them. Operations
// are two for each weight and token, and those of the recurrence. Not thread-safe.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <span>
#include <utility>

#include "kernels/backend.h"

namespace eddy {

enum class OpClass { kMatMul, kRecurrence, kNorm, kElementwise, kSampling };
constexpr int kOpClassCount = 5;
constexpr const char* kOpClassNames[kOpClassCount] = {"matmul", "recurrence", "norm", "elementwise",
                                                      "sampling"};

struct OpCost {
  double seconds = 0.0;  // 0 unless timed; without the wait for workers
  double wait_seconds = 0.0;
  double bytes = 0.0;
  double operations = 0.0;
};

// Since the last Reset.
struct StepCost {
  std::array<OpCost, kOpClassCount> ops;
  const OpCost& of(OpClass op_class) const { return ops[static_cast<size_t>(op_class)]; }
  double bytes() const;
  double operations() const;
};

class MeteredBackend : public Backend {
 public:
  explicit MeteredBackend(std::unique_ptr<Backend> backend) : backend_(std::move(backend)) {}

  // Clocks cost some tens of nanoseconds an op, so they are off at first.
  void set_timed(bool timed) { timed_ = timed; }
  void Reset() { cost_ = {}; }
  const StepCost& cost() const { return cost_; }

  const BackendInfo& info() const override { return backend_->info(); }
  absl::StatusOr<Buffer> Allocate(int64_t bytes) override { return backend_->Allocate(bytes); }
  void Free(void* data, int64_t bytes) override { backend_->Free(data, bytes); }
  void CopyIn(const void* host, void* device, int64_t bytes) override {
    backend_->CopyIn(host, device, bytes);
  }
  void CopyOut(const void* device, void* host, int64_t bytes) override {
    backend_->CopyOut(device, host, bytes);
  }
  void CopyOnDevice(const void* from, void* to, int64_t bytes) override {
    backend_->CopyOnDevice(from, to, bytes);
  }
  void FillBytes(void* device, uint8_t value, int64_t bytes) override {
    backend_->FillBytes(device, value, bytes);
  }
  absl::StatusOr<Matrix> AllocateMatrix(int64_t out_size, int64_t in_size, DType dtype) override {
    return backend_->AllocateMatrix(out_size, in_size, dtype);
  }
  void PackRows(const Tensor& host, int64_t out_begin, const Matrix& matrix) override {
    backend_->PackRows(host, out_begin, matrix);
  }
  void PackQuantisedRows(const QuantisedMatrix& host, int64_t out_begin,
                         const Matrix& matrix) override {
    backend_->PackQuantisedRows(host, out_begin, matrix);
  }
  const Rows& BeginStep(const Rows& host) override { return backend_->BeginStep(host); }
  absl::Status Synchronize() override { return backend_->Synchronize(); }
  double WaitSeconds() const override { return backend_->WaitSeconds(); }

  void Embed(const Rows& rows, const Tensor& table, int64_t column, const Tensor& out) override;
  void Sinusoid(const Rows& rows, int64_t column, int64_t size, const Tensor& out) override;
  void MatMulGroup(std::span<const Product> products) override;
  void Normalise(const NormOptions& options, const NormInputs& inputs, const Tensor& sum,
                 const Tensor& out) override;
  void TokenMatMul(const Tensor& x, const Tensor& a, const Tensor& b, const Tensor& out) override;
  void Activate(Activation f, const Tensor& x, const Tensor& out) override;
  void Gate(Activation f, const Tensor& x, const Tensor& y, const Tensor& out) override;
  void GatherLogitsRows(const Rows& rows, const Tensor& x, const Tensor& out) override;
  void TokenShift(const Rows& rows, const Tensor& x, const StateRef& state,
                  const Tensor& out) override;
  void ShortConvolution(const Rows& rows, const Tensor& x, const Tensor& weight, const Tensor& bias,
                        const StateRef& state, const Tensor& out) override;
  void MakeDecay(const DecayOptions& options, const Tensor& decay, const Tensor& rate,
                 const Tensor& bias) override;
  void Hgrn2Prepare(const Tensor& floor, const Tensor& decay, const Tensor& key) override;
  void Rotate(const Tensor& angles, const Tensor& x) override;
  void SignedSoftmax(const Tensor& x, const Tensor& out) override;
  void Mamba2Prepare(const StepRange& range, const Tensor& rate, const Tensor& bias,
                     const Tensor& step, const Tensor& decay) override;
  void Rwkv7Prepare(const Rwkv7Projections& inputs, const Tensor& removal) override;
  void Rwkv7Finish(const Rwkv7Readout& inputs, float eps, const Tensor& out) override;
  void Recurrence(const RecurrenceOptions& options, const Rows& rows,
                  const RecurrenceInputs& inputs, const StateRef& state,
                  const StateRef& normaliser_state, const Tensor& out) override;
  void Sample(const Tensor& logits, std::span<const SampleRow> rows,
              std::span<SampleResult> results) override;
  void Score(const Tensor& logits, std::span<const ScoreRow> rows,
             std::span<ScoreResult> results) override;
  void SampleMixture(const Tensor& outputs, int32_t value_count, std::span<const SampleRow> rows,
                     std::span<SampleResult> results) override;
  void ScoreMixture(const Tensor& outputs, int32_t value_count, std::span<const ScoreRow> rows,
                    std::span<ScoreResult> results) override;

 private:
  // Runs `op`, which moves so many bytes and does so many operations.
  template <typename Op>
  void Meter(OpClass op_class, double bytes, double operations, const Op& op);

  const std::unique_ptr<Backend> backend_;
  bool timed_ = false;
  StepCost cost_;
};

// Operations of one recurrence for each number of the state and token.
double RecurrenceOperations(const RecurrenceOptions& options);

}  // namespace eddy
