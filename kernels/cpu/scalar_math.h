// SPDX-License-Identifier: Apache-2.0
// Exponential and logarithm of single doubles, for sampling: libm's differ from machine to machine.
// Within two units of the last place.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

namespace eddy::cpu {

// ln x of a positive normal number.
inline double Log(double x) {
  const auto bits = std::bit_cast<uint64_t>(x);
  auto exponent = static_cast<int>(bits >> 52) - 1023;
  double mantissa = std::bit_cast<double>((bits & 0xfffffffffffffULL) | (uint64_t{1023} << 52));
  if (mantissa > 1.4142135623730951) {
    mantissa *= 0.5;
    ++exponent;
  }
  const double s = (mantissa - 1.0) / (mantissa + 1.0);
  double sum = 0.0;
  for (int i = 25; i > 0; i -= 2) sum = sum * s * s + 1.0 / i;
  return 2.0 * s * sum + exponent * 0.6931471805599453;
}

// e^x; 0 below -700, and e^700 above 700.
inline double Exp(double x) {
  constexpr double kMost = 700.0;
  if (x < -kMost) return 0.0;
  if (x > kMost) x = kMost;
  const double n = std::floor(x * 1.4426950408889634 + 0.5);
  // ln 2 in two parts, n times the first of which is exact.
  const double r = (x - n * 6.93147180369123816490e-01) - n * 1.90821492927058770002e-10;
  double sum = 1.0;  // Taylor, |r| <= ln 2 / 2
  for (int i = 14; i > 0; --i) sum = 1.0 + sum * r / i;
  const auto exponent = static_cast<uint64_t>(static_cast<int64_t>(n) + 1023) << 52;
  return sum * std::bit_cast<double>(exponent);
}

}  // namespace eddy::cpu
