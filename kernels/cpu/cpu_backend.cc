// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/cpu_backend.h"

#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <string>

#include "kernels/cpu/sample_mixture.h"
#include "kernels/status_macros.h"

namespace eddy::cpu {
namespace {

constexpr int kThreadsMax = 1024;
constexpr int64_t kAlignBytes = 64;
constexpr int64_t kHugePageBytes = int64_t{2} << 20;
constexpr int64_t kVocabularyMax = int64_t{1} << 23;  // weights of 2^40 are summed in 64 bits
constexpr int64_t kSampleCost = 16;                   // of one logit, in multiply-adds
constexpr int64_t kMixtureCost = 64;                  // of one output, likewise

int UsableCores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return 1;
  return std::max(1, CPU_COUNT(&set));
}

int64_t PhysicalBytes() {
  return static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE);
}

const char* NumericPathName(NumericPath path) {
  switch (path) {
    case NumericPath::kFma:
      return "fma";
    case NumericPath::kBF16Dot:
      return "bf16dot";
    case NumericPath::kInt8Dot:
      return "int8dot";
  }
  return "?";
}

// "auto" is the fastest that costs no accuracy beyond that of bf16 weights.
absl::StatusOr<NumericPath> PickNumericPath(const std::string& name, CpuTarget target) {
  const bool has_dot = target == CpuTarget::kV4Dot;
  if (name == "auto") return has_dot ? NumericPath::kBF16Dot : NumericPath::kFma;
  for (const NumericPath path : {NumericPath::kFma, NumericPath::kBF16Dot, NumericPath::kInt8Dot}) {
    if (name != NumericPathName(path)) continue;
    if (path == NumericPath::kFma || has_dot) return path;
    return absl::FailedPreconditionError("numeric_path is \"" + name +
                                         "\", which needs cpu_target v4dot, but this is " +
                                         CpuTargetName(target) + "; use \"auto\" or \"fma\"");
  }
  return absl::InvalidArgumentError("numeric_path is \"" + name +
                                    "\"; it must be one of auto, fma, bf16dot, int8dot");
}

// What a mixture cannot do is off.
void CheckMixtureRow(const SampleRow& row) {
  EDDY_CHECK(row.temperature >= 0.0f && std::isfinite(row.temperature)) << row.temperature;
  EDDY_CHECK(row.top_k == 0 && row.top_p == 1.0f && row.min_p == 0.0f);
  EDDY_CHECK(row.seen.empty() && row.biases.empty() && row.banned.empty());
  EDDY_CHECK_EQ(row.alternative_count, 0);
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

}  // namespace

void CheckF32(const Tensor& tensor, const Shape& shape, const char* name) {
  EDDY_CHECK(tensor.present() && tensor.dtype() == DType::kF32 && tensor.shape() == shape)
      << name << " is " << DTypeName(tensor.dtype()) << " " << tensor.shape().ToString()
      << ", wanted f32 " << shape.ToString();
}

const float* CheckOptional(bool wanted, const Tensor& tensor, const Shape& shape,
                           const char* name) {
  EDDY_CHECK(tensor.present() == wanted) << name << (wanted ? " is missing" : " is not wanted");
  if (!wanted) return nullptr;
  CheckF32(tensor, shape, name);
  return tensor.f32();
}

CpuBackend::CpuBackend(CpuTarget target, NumericPath path, int thread_count)
    : ops_(OpsOf(target)),
      path_(path),
      pool_(thread_count),
      matmul_plan_(ops_, path, thread_count),
      scratch_(static_cast<size_t>(thread_count)) {
  info_.name = "cpu";
  info_.target = CpuTargetName(target);
  info_.numeric_path = NumericPathName(path);
  info_.thread_count = thread_count;
}

absl::StatusOr<Buffer> CpuBackend::Allocate(int64_t bytes) {
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
const Rows& CpuBackend::BeginStep(const Rows& host) {
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
template <typename Fn>
void CpuBackend::ForEachLogitsRow(const Tensor& logits, size_t row_count, const Fn& fn) {
  const auto count = static_cast<int64_t>(row_count);
  const int64_t vocabulary = logits.dim(1);
  CheckF32(logits, {count, vocabulary}, "logits");
  EDDY_CHECK(vocabulary >= 1 && vocabulary <= kVocabularyMax) << vocabulary;
  for (SampleScratch& scratch : scratch_) scratch.Reserve(vocabulary);
  const int64_t chunk = ChunkSize(count, 1, count * vocabulary * kSampleCost);
  pool_.ParallelFor(CeilDivide(count, chunk), [&](int64_t i, int thread) {
    for (int64_t r = i * chunk; r < std::min(count, (i + 1) * chunk); ++r) {
      fn(static_cast<size_t>(r), scratch_[static_cast<size_t>(thread)]);
    }
  });
}

void CpuBackend::Sample(const Tensor& logits, std::span<const SampleRow> rows,
                        std::span<SampleResult> results) {
  EDDY_CHECK_EQ(rows.size(), results.size());
  const int64_t vocabulary = logits.dim(1);
  for (const SampleRow& row : rows) CheckSampleRow(row, vocabulary);
  ForEachLogitsRow(logits, rows.size(), [&](size_t r, SampleScratch& scratch) {
    SampleToken(ops_, logits.f32() + static_cast<int64_t>(r) * vocabulary, vocabulary, rows[r],
                scratch, results[r]);
  });
}

void CpuBackend::Score(const Tensor& logits, std::span<const ScoreRow> rows,
                       std::span<ScoreResult> results) {
  EDDY_CHECK_EQ(rows.size(), results.size());
  const int64_t vocabulary = logits.dim(1);
  for (const ScoreRow& row : rows) {
    EDDY_CHECK(row.token >= 0 && row.token < vocabulary) << row.token;
    EDDY_CHECK_LE(row.alternatives.size(), static_cast<size_t>(ScoreRow::kAlternativesMax));
  }
  ForEachLogitsRow(logits, rows.size(), [&](size_t r, SampleScratch& scratch) {
    ScoreToken(ops_, logits.f32() + static_cast<int64_t>(r) * vocabulary, vocabulary, rows[r],
               scratch, results[r]);
  });
}

template <typename Fn>
void CpuBackend::ForEachMixture(const Tensor& outputs, int32_t value_count, size_t row_count,
                                const Fn& fn) {
  const auto count = static_cast<int64_t>(row_count);
  const int64_t size = outputs.dim(1);
  CheckF32(outputs, {count, size}, "outputs");
  EDDY_CHECK(size >= 3 && size % 3 == 0) << size;
  EDDY_CHECK(value_count >= 2) << value_count;
  Split(count, 1, size * kMixtureCost, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      fn(static_cast<size_t>(r), Mixture(outputs.f32() + r * size, size / 3, value_count));
    }
  });
}

void CpuBackend::SampleMixture(const Tensor& outputs, int32_t value_count,
                               std::span<const SampleRow> rows, std::span<SampleResult> results) {
  EDDY_CHECK_EQ(rows.size(), results.size());
  for (const SampleRow& row : rows) CheckMixtureRow(row);
  ForEachMixture(outputs, value_count, rows.size(), [&](size_t r, const Mixture& mixture) {
    SampleMixtureValue(mixture, rows[r], results[r]);
  });
}

void CpuBackend::ScoreMixture(const Tensor& outputs, int32_t value_count,
                              std::span<const ScoreRow> rows, std::span<ScoreResult> results) {
  EDDY_CHECK_EQ(rows.size(), results.size());
  for (const ScoreRow& row : rows) {
    EDDY_CHECK(row.token >= 0 && row.token < value_count) << row.token;
    EDDY_CHECK(row.alternatives.empty()) << row.alternatives.size();
  }
  ForEachMixture(outputs, value_count, rows.size(), [&](size_t r, const Mixture& mixture) {
    results[r] = ScoreResult();
    results[r].is_finite = mixture.IsFinite();
    if (results[r].is_finite) results[r].log_prob = mixture.LogProbF32(rows[r].token);
  });
}

absl::StatusOr<std::unique_ptr<Backend>> MakeCpuBackend(const BackendOptions& options) {
  if (options.thread_count < 0 || options.thread_count > kThreadsMax) {
    return absl::InvalidArgumentError("thread_count is " + std::to_string(options.thread_count) +
                                      "; it must be from 0 to " + std::to_string(kThreadsMax) +
                                      " (0: one per core)");
  }
  EDDY_ASSIGN_OR_RETURN(const CpuTarget target, PickCpuTarget(options.cpu_target));
  EDDY_ASSIGN_OR_RETURN(const NumericPath path, PickNumericPath(options.numeric_path, target));
  const int thread_count =
      options.thread_count == 0 ? std::min(UsableCores(), kThreadsMax) : options.thread_count;
  return std::make_unique<CpuBackend>(target, path, thread_count);
}

}  // namespace eddy::cpu
