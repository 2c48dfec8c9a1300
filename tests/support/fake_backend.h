// SPDX-License-Identifier: Apache-2.0
// FakeBackend: host memory, a stream that may be as lazy as a device's, greedy sampling, and
// failures on demand. It has none of the ops that networks are made of: FakeModel needs none.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "kernels/backend.h"

namespace eddy {

class FakeBackend : public Backend {
 public:
  enum class Stream {
    kAtOnce,
    kLazy,  // everything runs in Synchronize, in order: finds memory that did not live until then
  };
  explicit FakeBackend(Stream stream = Stream::kAtOnce) : stream_(stream) {}
  ~FakeBackend() override;

  // Synchronize number `countdown` from now (1: the next) fails, and all after it. Any thread.
  void FailSynchronize(int countdown) { fail_countdown_ = countdown; }
  // Bytes allocated and not freed.
  int64_t allocated_bytes() const { return allocated_bytes_; }
  // Appends work to the stream.
  template <typename Work>
  void Run(Work work) {
    if (stream_ == Stream::kAtOnce) {
      work();
    } else {
      work_.emplace_back(std::move(work));
    }
  }

  const BackendInfo& info() const override { return info_; }
  absl::StatusOr<Buffer> Allocate(int64_t bytes) override;
  void Free(void* data, int64_t bytes) override;
  void CopyIn(const void* host, void* device, int64_t bytes) override;
  void CopyOut(const void* device, void* host, int64_t bytes) override;
  void CopyOnDevice(const void* from, void* to, int64_t bytes) override;
  void FillBytes(void* device, uint8_t value, int64_t bytes) override;
  const Rows& BeginStep(const Rows& host) override;
  absl::Status Synchronize() override;
  // Greedy whatever the temperature; penalties, biases, banned tokens and log-probabilities as the
  // contract says.
  void Sample(const Tensor& logits, std::span<const SampleRow> rows,
              std::span<SampleResult> results) override;
  void Score(const Tensor& logits, std::span<const ScoreRow> rows,
             std::span<ScoreResult> results) override;
  // Greedy whatever the temperature; no log-probabilities.
  void SampleMixture(const Tensor& outputs, int32_t value_count, std::span<const SampleRow> rows,
                     std::span<SampleResult> results) override;

  // ---- ops it does not have: abort ----
  void ScoreMixture(const Tensor&, int32_t, std::span<const ScoreRow>,
                    std::span<ScoreResult>) override;
  absl::StatusOr<Matrix> AllocateMatrix(int64_t, int64_t, DType) override;
  void PackRows(const Tensor&, int64_t, const Matrix&) override;
  void PackQuantisedRows(const QuantisedMatrix&, int64_t, const Matrix&) override;
  void Embed(const Rows&, const Tensor&, int64_t, const Tensor&) override;
  void Sinusoid(const Rows&, int64_t, int64_t, const Tensor&) override;
  void MatMulGroup(std::span<const Product>) override;
  void Normalise(const NormOptions&, const NormInputs&, const Tensor&, const Tensor&) override;
  void TokenMatMul(const Tensor&, const Tensor&, const Tensor&, const Tensor&) override;
  void Activate(Activation, const Tensor&, const Tensor&) override;
  void GatherLogitsRows(const Rows&, const Tensor&, const Tensor&) override;
  void TokenShift(const Rows&, const Tensor&, const StateRef&, const Tensor&) override;
  void Gate(Activation, const Tensor&, const Tensor&, const Tensor&) override;
  void ShortConvolution(const Rows&, const Tensor&, const Tensor&, const Tensor&, const StateRef&,
                        const Tensor&) override;
  void MakeDecay(const DecayOptions&, const Tensor&, const Tensor&, const Tensor&) override;
  void Hgrn2Prepare(const Tensor&, const Tensor&, const Tensor&) override;
  void Rotate(const Tensor&, const Tensor&) override;
  void SignedSoftmax(const Tensor&, const Tensor&) override;
  void Mamba2Prepare(const StepRange&, const Tensor&, const Tensor&, const Tensor&,
                     const Tensor&) override;
  void Rwkv7Prepare(const Rwkv7Projections&, const Tensor&) override;
  void Rwkv7Finish(const Rwkv7Readout&, float, const Tensor&) override;
  void Recurrence(const RecurrenceOptions&, const Rows&, const RecurrenceInputs&, const StateRef&,
                  const StateRef&, const Tensor&) override;

 private:
  void RunAll();

  const Stream stream_;
  const BackendInfo info_ = {
      .name = "fake", .target = "host", .numeric_path = "hash", .thread_count = 1};
  std::atomic<int> fail_countdown_{0};
  bool lost_ = false;
  int64_t allocated_bytes_ = 0;
  std::vector<std::function<void()>> work_;

  // A step's arrays, as a device would have its own.
  std::vector<int32_t> tokens_, token_begin_, slot_, logits_token_;
  std::vector<int64_t> position_;
  Rows rows_;
};

}  // namespace eddy
