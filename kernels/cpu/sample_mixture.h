// SPDX-License-Identifier: Apache-2.0
// Choosing a value from a mixture of logistics: the contract of Backend::SampleMixture for one row.
// All in double, in one order.
#pragma once

#include <cstdint>

#include "kernels/backend.h"

namespace eddy::cpu {

// A view of one row of outputs; they must outlive it.
class Mixture {
 public:
  // outputs [3 size]: logits, means, logarithms of scales
  Mixture(const float* outputs, int64_t size, int32_t value_count)
      : outputs_(outputs), size_(size), last_value_(value_count - 1) {}

  bool IsFinite() const;
  // The value that u1 in [0, 1) and u2 in (0, 1) draw.
  int32_t Draw(double temperature, double u1, double u2) const;
  // At temperature 0.
  int32_t Greedy() const;
  // Of a value in [0, value_count), in nats; outputs are finite.
  double LogProb(int32_t value) const;
  // A share too small for a float is its smallest logarithm, not infinity.
  float LogProbF32(int32_t value) const;

 private:
  double logit(int64_t m) const { return static_cast<double>(outputs_[m]); }
  double mean(int64_t m) const { return static_cast<double>(outputs_[size_ + m]); }
  double log_scale(int64_t m) const;
  int64_t Likeliest() const;
  int64_t DrawComponent(double temperature, double u) const;
  int32_t Nearest(double y) const;
  // The logarithm of one logistic's share of a value.
  double LogMass(int64_t m, int32_t value) const;

  const float* const outputs_;
  const int64_t size_;
  const int32_t last_value_;
};

void SampleMixtureValue(const Mixture& mixture, const SampleRow& row, SampleResult& result);

}  // namespace eddy::cpu
