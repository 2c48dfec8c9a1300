// SPDX-License-Identifier: Apache-2.0
// What every kernel test needs: backends of each target this machine has, seeded numbers, batches
// of rows, and comparisons bit for bit.
#pragma once

#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cpu/cpu_target.h"

namespace eddy {

// Targets to instantiate tests with: every one this machine can run, "v2" first.
inline std::vector<std::string> MachineTargets() {
  std::vector<std::string> names;
  for (const auto target :
       {cpu::CpuTarget::kV2, cpu::CpuTarget::kV3, cpu::CpuTarget::kV4, cpu::CpuTarget::kV4Dot}) {
    if (cpu::MachineHas(target)) names.push_back(cpu::CpuTargetName(target));
  }
  return names;
}

// Of the path that has the same bits on all targets, unless another one is asked for.
inline std::unique_ptr<Backend> BackendOf(const std::string& target, int thread_count = 1,
                                          const std::string& numeric_path = "fma") {
  BackendOptions options;
  options.cpu_target = target;
  options.numeric_path = numeric_path;
  options.thread_count = thread_count;
  auto backend = MakeBackend(options);
  EDDY_CHECK(backend.ok()) << backend.status().ToString();
  return *std::move(backend);
}

// Seeded numbers.
class Numbers {
 public:
  explicit Numbers(uint32_t seed) : generator_(seed) {}

  std::vector<float> Normal(int64_t count, float deviation = 1.0f) {
    std::normal_distribution<float> distribution(0.0f, deviation);
    std::vector<float> out(static_cast<size_t>(count));
    for (float& value : out) value = distribution(generator_);
    return out;
  }
  std::vector<float> Uniform(int64_t count, float low, float high) {
    std::uniform_real_distribution<float> distribution(low, high);
    std::vector<float> out(static_cast<size_t>(count));
    for (float& value : out) value = distribution(generator_);
    return out;
  }
  int64_t Integer(int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(generator_);
  }

 private:
  std::mt19937 generator_;
};

inline Tensor View(std::vector<float>& values, Shape shape) {
  EDDY_CHECK_EQ(static_cast<int64_t>(values.size()), shape.element_count());
  return Tensor(values.data(), DType::kF32, shape);
}
inline Tensor View(std::vector<uint16_t>& values, Shape shape) {
  EDDY_CHECK_EQ(static_cast<int64_t>(values.size()), shape.element_count());
  return Tensor(values.data(), DType::kBF16, shape);
}

// Success when both have the same bits (NaNs and signs of zero included).
inline ::testing::AssertionResult SameBits(const std::vector<float>& a,
                                           const std::vector<float>& b) {
  if (a.size() != b.size()) {
    return ::testing::AssertionFailure() << a.size() << " values and " << b.size();
  }
  for (size_t i = 0; i < a.size(); ++i) {
    if (std::bit_cast<uint32_t>(a[i]) != std::bit_cast<uint32_t>(b[i])) {
      return ::testing::AssertionFailure() << "at " << i << ": " << a[i] << " and " << b[i];
    }
  }
  return ::testing::AssertionSuccess();
}

// Success when |a - b| <= tolerance * (1 + |b|) everywhere.
inline ::testing::AssertionResult Near(const std::vector<float>& a, const std::vector<double>& b,
                                       double tolerance) {
  if (a.size() != b.size()) {
    return ::testing::AssertionFailure() << a.size() << " values and " << b.size();
  }
  for (size_t i = 0; i < a.size(); ++i) {
    const double bound = tolerance * (1.0 + std::abs(b[i]));
    if (!(std::abs(static_cast<double>(a[i]) - b[i]) <= bound)) {
      return ::testing::AssertionFailure()
             << "at " << i << ": " << a[i] << ", reference " << b[i] << ", bound " << bound;
    }
  }
  return ::testing::AssertionSuccess();
}

// Rows of the given lengths in the given slots, and the arrays behind them.
class RowsFixture {
 public:
  RowsFixture(const std::vector<int32_t>& lengths, std::vector<int32_t> slots)
      : slots_(std::move(slots)), positions_(lengths.size(), 0) {
    begins_.push_back(0);
    for (const int32_t length : lengths) begins_.push_back(begins_.back() + length);
    tokens_.resize(static_cast<size_t>(begins_.back()));
  }

  std::vector<int32_t>& tokens() { return tokens_; }
  std::vector<int64_t>& positions() { return positions_; }
  std::vector<int32_t>& logits_tokens() { return logits_tokens_; }
  Rows rows() const {
    Rows rows;
    rows.row_count = static_cast<int32_t>(slots_.size());
    rows.token_count = begins_.back();
    rows.logits_count = static_cast<int32_t>(logits_tokens_.size());
    rows.tokens = tokens_.data();
    rows.token_begin = begins_.data();
    rows.slot = slots_.data();
    rows.position = positions_.data();
    rows.logits_token = logits_tokens_.data();
    return rows;
  }

 private:
  std::vector<int32_t> begins_;
  std::vector<int32_t> slots_;
  std::vector<int32_t> tokens_;
  std::vector<int64_t> positions_;
  std::vector<int32_t> logits_tokens_;
};

}  // namespace eddy
