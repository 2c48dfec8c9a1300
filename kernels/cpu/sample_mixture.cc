// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/sample_mixture.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cpu/philox.h"
#include "kernels/cpu/scalar_math.h"

namespace eddy::cpu {
namespace {

constexpr double kLogScaleMin = -7.0;
constexpr double kBit52 = 1.0 / 4503599627370496.0;  // 2^-52

// log sigmoid(x).
double LogSigmoid(double x) { return std::min(x, 0.0) - Log(1.0 + Exp(-std::abs(x))); }

}  // namespace

bool Mixture::IsFinite() const {
  return std::all_of(outputs_, outputs_ + 3 * size_, [](float x) { return std::isfinite(x); });
}

double Mixture::log_scale(int64_t m) const {
  return std::max(static_cast<double>(outputs_[2 * size_ + m]), kLogScaleMin);
}

int64_t Mixture::Likeliest() const {
  return std::max_element(outputs_, outputs_ + size_) - outputs_;
}

int64_t Mixture::DrawComponent(double temperature, double u) const {
  const double largest = logit(Likeliest());
  const auto weight = [&](int64_t m) { return Exp((logit(m) - largest) / temperature); };
  double total = 0.0;
  for (int64_t m = 0; m < size_; ++m) total += weight(m);
  double sum = 0.0;
  for (int64_t m = 0; m < size_; ++m) {
    sum += weight(m);
    if (sum > u * total) return m;
  }
  return Likeliest();  // u * total was rounded up to the sum
}

int32_t Mixture::Nearest(double y) const {
  const double last = last_value_;
  const double value = std::clamp((y + 1.0) / 2.0 * last, 0.0, last);
  return static_cast<int32_t>(std::floor(value + 0.5));
}

int32_t Mixture::Draw(double temperature, double u1, double u2) const {
  const int64_t m = DrawComponent(temperature, u1);
  return Nearest(mean(m) + temperature * Exp(log_scale(m)) * (Log(u2) - Log(1.0 - u2)));
}

int32_t Mixture::Greedy() const { return Nearest(mean(Likeliest())); }

// F(a) - F(b) = F(a) F(-b) (1 - e^(b - a)): the form that loses no digits, wherever a and b lie.
double Mixture::LogMass(int64_t m, int32_t value) const {
  const double half = 1.0 / last_value_;
  const double inverse = Exp(-log_scale(m));
  const double y = 2.0 * half * value - 1.0 - mean(m);
  const double below_upper = LogSigmoid((y + half) * inverse);
  const double above_lower = LogSigmoid((half - y) * inverse);
  if (value == 0) return below_upper;
  if (value == last_value_) return above_lower;
  const double width = 2.0 * half * inverse;  // a - b
  // log(1 - e^-width); the series for a small one: log width - width / 2 + width^2 / 24 - ...
  const double log_width = width < 1e-3
                               ? Log(2.0 * half) - log_scale(m) - width * (0.5 - width / 24.0)
                               : Log(1.0 - Exp(-width));
  return below_upper + above_lower + log_width;
}

double Mixture::LogProb(int32_t value) const {
  const double largest = logit(Likeliest());
  double total = 0.0;
  double most = -std::numeric_limits<double>::infinity();
  for (int64_t m = 0; m < size_; ++m) {
    total += Exp(logit(m) - largest);
    most = std::max(most, logit(m) - largest + LogMass(m, value));
  }
  double sum = 0.0;
  for (int64_t m = 0; m < size_; ++m) sum += Exp(logit(m) - largest + LogMass(m, value) - most);
  return std::min(most + Log(sum) - Log(total), 0.0);
}

float Mixture::LogProbF32(int32_t value) const {
  constexpr double kLeast = std::numeric_limits<float>::lowest();
  return static_cast<float>(std::max(LogProb(value), kLeast));
}

void SampleMixtureValue(const Mixture& mixture, const SampleRow& row, SampleResult& result) {
  result.token = -1;
  result.log_prob = 0.0f;
  result.alternative_count = 0;
  if (!mixture.IsFinite()) return;
  if (row.temperature == 0.0f) {
    result.token = mixture.Greedy();
  } else {
    const std::array<uint64_t, 2> bits = RandomBits53Pair(row.seed, row.position);
    result.token = mixture.Draw(static_cast<double>(row.temperature),
                                static_cast<double>(bits[0]) * (0.5 * kBit52),
                                (static_cast<double>(bits[1] >> 1) + 0.5) * kBit52);
  }
  if (row.wants_log_prob) result.log_prob = mixture.LogProbF32(result.token);
}

}  // namespace eddy::cpu
