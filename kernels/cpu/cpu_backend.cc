// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/cpu_backend.h"

#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "kernels/cpu/cpu_target.h"
#include "kernels/cpu/ops.h"
#include "kernels/cpu/pack.h"
#include "kernels/cpu/sample.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/status_macros.h"

namespace eddy::cpu {
namespace {

constexpr int kThreadsMax = 1024;
constexpr int64_t kAlignBytes = 64;
constexpr int64_t kHugePageBytes = int64_t{2} << 20;
constexpr int64_t kVocabularyMax = int64_t{1} << 23;  // weights of 2^40 are summed in 64 bits
// Work below this many multiply-adds (or their like) is not worth waking anyone.
constexpr int64_t kForkCost = 1 << 15;
// Chunks per thread: enough that a slow thread does not keep the others waiting.
constexpr int64_t kChunksPerThread = 4;
// Rough costs of one element, in multiply-adds.
constexpr int64_t kActivateCost = 8;
constexpr int64_t kNormCost = 6;
constexpr int64_t kSinusoidCost = 128;
constexpr int64_t kSampleCost = 16;

int64_t CeilDivide(int64_t a, int64_t b) { return (a + b - 1) / b; }

int UsableCores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return 1;
  return std::max(1, CPU_COUNT(&set));
}

int64_t PhysicalBytes() {
  return static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE);
}

void CheckF32(const Tensor& tensor, const Shape& shape, const char* name) {
  EDDY_CHECK(tensor.present() && tensor.dtype() == DType::kF32 && tensor.shape() == shape)
      << name << " is " << DTypeName(tensor.dtype()) << " " << tensor.shape().ToString()
      << ", wanted f32 " << shape.ToString();
}

// Optional inputs: exactly when `wanted`.
const float* CheckOptional(bool wanted, const Tensor& tensor, const Shape& shape,
                           const char* name) {
  EDDY_CHECK(tensor.present() == wanted) << name << (wanted ? " is missing" : " is not wanted");
  if (!wanted) return nullptr;
  CheckF32(tensor, shape, name);
  return tensor.f32();
}

void CheckSampleRow(const SampleRow& row, int64_t vocabulary) {
  EDDY_CHECK(row.temperature >= 0.0f && std::isfinite(row.temperature)) << row.temperature;
  EDDY_CHECK(row.top_k >= 0) << row.top_k;
  EDDY_CHECK(row.top_p >= 0.0f) << row.top_p;
  EDDY_CHECK(row.min_p >= 0.0f && row.min_p <= 1.0f) << row.min_p;
  EDDY_CHECK(row.repetition_penalty > 0.0f) << row.repetition_penalty;
  EDDY_CHECK(row.alternative_count >= 0 && row.alternative_count <= SampleResult::kAlternativesMax)
      << row.alternative_count;
  for (const TokenCount& seen : row.seen) {
    EDDY_CHECK(seen.token >= 0 && seen.token < vocabulary) << seen.token;
  }
  for (const LogitBias& bias : row.biases) {
    EDDY_CHECK(bias.token >= 0 && bias.token < vocabulary) << bias.token;
  }
  for (const int32_t token : row.banned) {
    EDDY_CHECK(token >= 0 && token < vocabulary) << token;
  }
}

class CpuBackend final : public Backend {
 public:
  CpuBackend(CpuTarget target, int thread_count)
      : ops_(OpsOf(target)), pool_(thread_count), scratch_(static_cast<size_t>(thread_count)) {
    info_.name = "cpu";
    info_.target = CpuTargetName(target);
    info_.numeric_path = "fma";
    info_.thread_count = thread_count;
  }

  const BackendInfo& info() const override { return info_; }

  absl::StatusOr<Buffer> Allocate(int64_t bytes) override {
    EDDY_CHECK(bytes >= 0) << bytes;
    const int64_t physical_bytes = PhysicalBytes();
    const int64_t align = bytes >= kHugePageBytes ? kHugePageBytes : kAlignBytes;
    void* data = nullptr;
    if (bytes <= physical_bytes) {
      data = std::aligned_alloc(static_cast<size_t>(align),
                                static_cast<size_t>(CeilDivide(bytes + 1, align) * align));
    }
    if (data == nullptr) {
      return absl::ResourceExhaustedError("cannot allocate " + std::to_string(bytes) +
                                          " bytes of memory; this machine has " +
                                          std::to_string(physical_bytes));
    }
    if (align == kHugePageBytes) {
      // Fewer TLB misses when weights are streamed; a refusal changes nothing else.
      (void)madvise(data, static_cast<size_t>(bytes), MADV_HUGEPAGE);
    }
    std::memset(data, 0, static_cast<size_t>(bytes));
    return Buffer(this, data, bytes);
  }
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

  absl::StatusOr<Matrix> PackMatrix(const Tensor& host, DType dtype) override {
    EDDY_CHECK(host.present() && host.shape().rank() == 2) << host.shape().ToString();
    EDDY_CHECK(host.dim(0) >= 1 && host.dim(1) >= 1) << host.shape().ToString();
    for (const DType type : {host.dtype(), dtype}) {
      if (type == DType::kF32 || type == DType::kBF16) continue;
      return absl::InvalidArgumentError(std::string("a weight matrix cannot be ") +
                                        DTypeName(type) + "; it must be f32 or bf16");
    }
    Matrix matrix;
    matrix.out_size = host.dim(0);
    matrix.in_size = host.dim(1);
    matrix.dtype = dtype;
    EDDY_ASSIGN_OR_RETURN(matrix.buffer,
                          Allocate(PackedBytes(dtype, matrix.out_size, matrix.in_size)));
    pool_.ParallelFor(PanelCount(matrix.out_size), [&](int64_t panel, int) {
      PackPanel(host, dtype, panel, matrix.buffer.data());
    });
    return matrix;
  }

  const Rows& BeginStep(const Rows& host) override {
    EDDY_CHECK(host.row_count >= 0 && host.token_count >= 0 && host.logits_count >= 0);
    EDDY_CHECK(host.row_count == 0 || host.token_begin[0] == 0) << host.token_begin[0];
    for (int32_t row = 0; row < host.row_count; ++row) {
      EDDY_CHECK_LE(host.token_begin[row], host.token_begin[row + 1]);
      EDDY_CHECK(host.slot[row] >= 0) << "row " << row << " has slot " << host.slot[row];
    }
    EDDY_CHECK_EQ(host.row_count == 0 ? 0 : host.token_begin[host.row_count], host.token_count);
    for (int32_t i = 0; i < host.logits_count; ++i) {
      EDDY_CHECK(host.logits_token[i] >= 0 && host.logits_token[i] < host.token_count)
          << host.logits_token[i];
    }
    rows_ = host;
    return rows_;
  }
  absl::Status Synchronize() override { return absl::OkStatus(); }

  void Embed(const Rows& rows, const Tensor& table, int64_t column, const Tensor& out) override;
  void Sinusoid(const Rows& rows, int64_t column, int64_t size, const Tensor& out) override;
  void MatMul(const Tensor& x, const Matrix& weight, const Tensor& bias,
              const Tensor& out) override;
  void LayerNorm(const Tensor& x, const Tensor& residual, const Tensor& weight, const Tensor& bias,
                 float eps, const Tensor& out) override;
  void Activate(Activation f, const Tensor& x, const Tensor& out) override;
  void GatherLogitsRows(const Rows& rows, const Tensor& x, const Tensor& out) override;
  void Recurrence(const RecurrenceOptions& options, const Rows& rows,
                  const RecurrenceInputs& inputs, const StateRef& state,
                  const StateRef& normaliser_state, const Tensor& out) override;
  void Sample(const Tensor& logits, std::span<const SampleRow> rows,
              std::span<SampleResult> results) override;

 private:
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
  ThreadPool pool_;
  std::vector<SampleScratch> scratch_;  // [thread]
  Rows rows_;
};

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

void CpuBackend::MatMul(const Tensor& x, const Matrix& weight, const Tensor& bias,
                        const Tensor& out) {
  const int64_t row_count = x.dim(0);
  CheckF32(x, {row_count, weight.in_size}, "x");
  CheckF32(out, {row_count, weight.out_size}, "out");
  EDDY_CHECK(out.data() != x.data()) << "out must not be x";
  MatMulArgs args;
  args.x = x.f32();
  args.weight = weight.buffer.data();
  args.bias = CheckOptional(bias.present(), bias, {weight.out_size}, "bias");
  args.out = out.f32();
  args.in_size = weight.in_size;
  args.out_size = weight.out_size;
  args.dtype = weight.dtype;
  if (row_count == 0) return;
  const int64_t panel_count = PanelCount(weight.out_size);
  const int64_t cost = row_count * panel_count * weight.in_size;  // vectors of multiply-adds
  const int64_t panel_chunk =
      ChunkSize(panel_count, ops_.matmul_panel_block(row_count), cost * kLanes / 4);
  const int64_t panel_chunks = CeilDivide(panel_count, panel_chunk);
  int64_t row_chunk = row_count;
  if (panel_chunks < info_.thread_count && cost * kLanes / 4 >= 2 * kForkCost) {
    constexpr int64_t kRowsMin = 8;
    row_chunk = CeilDivide(row_count, CeilDivide(info_.thread_count, panel_chunks) * 2);
    row_chunk = std::max(kRowsMin, row_chunk);
  }
  const int64_t row_chunks = CeilDivide(row_count, row_chunk);
  pool_.ParallelFor(panel_chunks * row_chunks, [&](int64_t chunk, int) {
    const int64_t panel = chunk / row_chunks * panel_chunk;
    const int64_t row = chunk % row_chunks * row_chunk;
    ops_.matmul(args, row, std::min(row_count, row + row_chunk), panel,
                std::min(panel_count, panel + panel_chunk));
  });
}

void CpuBackend::LayerNorm(const Tensor& x, const Tensor& residual, const Tensor& weight,
                           const Tensor& bias, float eps, const Tensor& out) {
  const int64_t row_count = x.dim(0);
  const int64_t size = x.dim(1);
  CheckF32(x, {row_count, size}, "x");
  CheckF32(weight, {size}, "weight");
  CheckF32(bias, {size}, "bias");
  CheckF32(out, {row_count, size}, "out");
  LayerNormArgs args;
  args.x = x.f32();
  args.residual = CheckOptional(residual.present(), residual, {row_count, size}, "residual");
  args.weight = weight.f32();
  args.bias = bias.f32();
  args.out = out.f32();
  args.size = size;
  args.eps = eps;
  Split(row_count, 1, size * kNormCost,
        [&](int64_t begin, int64_t end) { ops_.layer_norm(args, begin, end); });
}

void CpuBackend::Activate(Activation f, const Tensor& x, const Tensor& out) {
  CheckF32(x, x.shape(), "x");
  CheckF32(out, x.shape(), "out");
  Split(x.element_count(), kLanes, kActivateCost, [&](int64_t begin, int64_t end) {
    ops_.activate(f, x.f32() + begin, out.f32() + begin, end - begin);
  });
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
  args.beta =
      CheckOptional(options.removal == Removal::kDelta, inputs.beta, {tokens, heads}, "beta");
  args.a = CheckOptional(general, inputs.a, {tokens, heads, key_size}, "a");
  args.b = CheckOptional(general, inputs.b, {tokens, heads, key_size}, "b");
  args.bonus = CheckOptional(options.read == Read::kBeforeWriteWithBonus, inputs.bonus,
                             {heads, key_size}, "bonus");
  args.out = out.f32();
  args.token_begin = rows.token_begin;
  args.slot = rows.slot;
  EDDY_CHECK(state.base != nullptr);
  args.state = state.base + state.offset_bytes;
  args.state_slot_bytes = state.slot_bytes;
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
  const int64_t cost = CeilDivide(tokens * key_size * value_size, rows.row_count);
  Split(item_count, 1, cost,
        [&](int64_t begin, int64_t end) { ops_.recurrence(args, begin, end); });
}

void CpuBackend::Sample(const Tensor& logits, std::span<const SampleRow> rows,
                        std::span<SampleResult> results) {
  const auto row_count = static_cast<int64_t>(rows.size());
  const int64_t vocabulary = logits.dim(1);
  CheckF32(logits, {row_count, vocabulary}, "logits");
  EDDY_CHECK_EQ(rows.size(), results.size());
  EDDY_CHECK(vocabulary >= 1 && vocabulary <= kVocabularyMax) << vocabulary;
  for (const SampleRow& row : rows) CheckSampleRow(row, vocabulary);
  for (SampleScratch& scratch : scratch_) scratch.Reserve(vocabulary);
  const int64_t chunk = ChunkSize(row_count, 1, row_count * vocabulary * kSampleCost);
  pool_.ParallelFor(CeilDivide(row_count, chunk), [&](int64_t i, int thread) {
    for (int64_t r = i * chunk; r < std::min(row_count, (i + 1) * chunk); ++r) {
      SampleToken(ops_, logits.f32() + r * vocabulary, vocabulary, rows[static_cast<size_t>(r)],
                  scratch_[static_cast<size_t>(thread)], results[static_cast<size_t>(r)]);
    }
  });
}

}  // namespace

absl::StatusOr<std::unique_ptr<Backend>> MakeCpuBackend(const BackendOptions& options) {
  if (options.numeric_path != "auto" && options.numeric_path != "fma") {
    return absl::InvalidArgumentError("numeric_path is \"" + options.numeric_path +
                                      "\"; it must be one of auto, fma");
  }
  if (options.thread_count < 0 || options.thread_count > kThreadsMax) {
    return absl::InvalidArgumentError("thread_count is " + std::to_string(options.thread_count) +
                                      "; it must be from 0 to " + std::to_string(kThreadsMax) +
                                      " (0: one per core)");
  }
  EDDY_ASSIGN_OR_RETURN(const CpuTarget target, PickCpuTarget(options.cpu_target));
  const int thread_count =
      options.thread_count == 0 ? std::min(UsableCores(), kThreadsMax) : options.thread_count;
  return std::make_unique<CpuBackend>(target, thread_count);
}

}  // namespace eddy::cpu
