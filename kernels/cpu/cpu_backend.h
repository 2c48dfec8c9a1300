// SPDX-License-Identifier: Apache-2.0
// CpuBackend: the Backend on this machine's processor. Its ops are done when they return.
//
// This layer checks shapes and cuts the work for the threads; the kernels are behind Ops. Sources:
// cpu_backend.cc (memory, steps, sampling), cpu_matmul.cc, cpu_model_ops.cc (everything else).
#pragma once

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/cpu/cpu_target.h"
#include "kernels/cpu/matmul_plan.h"
#include "kernels/cpu/ops.h"
#include "kernels/cpu/sample.h"
#include "kernels/cpu/thread_pool.h"

namespace eddy::cpu {

// Work below this many multiply-adds (or their like) is not worth waking anyone.
inline constexpr int64_t kForkCost = 1 << 15;
// Chunks per thread: enough that a slow thread does not keep the others waiting.
inline constexpr int64_t kChunksPerThread = 4;

constexpr int64_t CeilDivide(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Aborts unless `tensor` is f32 of that shape.
void CheckF32(const Tensor& tensor, const Shape& shape, const char* name);
// The numbers of an optional input, which must be there exactly when `wanted`; null when not.
const float* CheckOptional(bool wanted, const Tensor& tensor, const Shape& shape, const char* name);

class CpuBackend final : public Backend {
 public:
  CpuBackend(CpuTarget target, NumericPath path, int thread_count);

  const BackendInfo& info() const override { return info_; }

  absl::StatusOr<Buffer> Allocate(int64_t bytes) override;
  void Free(void* data, int64_t /*bytes*/) override { std::free(data); }
  void CopyIn(const void* host, void* device, int64_t bytes) override {
    std::memcpy(device, host, static_cast<size_t>(bytes));
  }
  void CopyOut(const void* device, void* host, int64_t bytes) override {
    std::memcpy(host, device, static_cast<size_t>(bytes));
  }
  void CopyOnDevice(const void* from, void* to, int64_t bytes) override {
    std::memcpy(to, from, static_cast<size_t>(bytes));
  }
  void FillBytes(void* device, uint8_t value, int64_t bytes) override {
    std::memset(device, value, static_cast<size_t>(bytes));
  }
  absl::StatusOr<Matrix> AllocateMatrix(int64_t out_size, int64_t in_size, DType dtype) override;
  void PackRows(const Tensor& host, int64_t out_begin, const Matrix& matrix) override;
  void PackQuantisedRows(const QuantisedMatrix& host, int64_t out_begin,
                         const Matrix& matrix) override;

  const Rows& BeginStep(const Rows& host) override;
  absl::Status Synchronize() override { return absl::OkStatus(); }
  double WaitSeconds() const override { return pool_.wait_seconds(); }

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
  // Checks, makes room, and calls fn(row, scratch) for each row of logits [row_count, vocabulary].
  template <typename Fn>
  void ForEachLogitsRow(const Tensor& logits, size_t row_count, const Fn& fn);
  // Checks, and calls fn(row, mixture) for each row of outputs [row_count, 3 M].
  template <typename Fn>
  void ForEachMixture(const Tensor& outputs, int32_t value_count, size_t row_count, const Fn& fn);
  // PackRows of either kind of host weights [rows, in].
  template <typename Host>
  void Pack(const Host& host, int64_t rows, int64_t in_size, int64_t out_begin,
            const Matrix& matrix);
  // Calls fn(begin, end) over [0, count) in pieces that are multiples of `grain`; `cost` is that of
  // one item.
  template <typename Fn>
  void Split(int64_t count, int64_t grain, int64_t cost, const Fn& fn) {
    const int64_t chunk = ChunkSize(count, grain, count * cost);
    pool_.ParallelFor(CeilDivide(count, chunk),
                      [&](int64_t i, int) { fn(i * chunk, std::min(count, (i + 1) * chunk)); });
  }
  int64_t ChunkSize(int64_t count, int64_t grain, int64_t cost) const {
    const int64_t threads = info_.thread_count;
    if (threads == 1 || cost < 2 * kForkCost) return std::max<int64_t>(count, 1);
    const int64_t chunks = std::min(threads * kChunksPerThread, cost / kForkCost);
    return CeilDivide(CeilDivide(count, chunks), grain) * grain;
  }

  BackendInfo info_;
  const Ops& ops_;
  const NumericPath path_;
  ThreadPool pool_;
  MatMulPlan matmul_plan_;
  std::vector<SampleScratch> scratch_;  // [thread]
  std::vector<float> state_tiles_;      // [thread, K, V], of states kept as bf16
  Rows rows_;
};

// INVALID_ARGUMENT for a name that does not exist, FAILED_PRECONDITION for what this machine lacks.
absl::StatusOr<std::unique_ptr<Backend>> MakeCpuBackend(const BackendOptions& options);

}  // namespace eddy::cpu
