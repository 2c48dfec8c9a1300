// SPDX-License-Identifier: Apache-2.0
// exp, tanh, the normal distribution and the like: our own polynomials, the same bits on every
// target. libm's functions pick their code by CPU, so they have no place on the path of a token.
// f32: relative error at most 2.5e-7 (exp) to 1e-6. The polynomials are those of Cephes (S.
// Moshier), single and double precision.
#pragma once

#include "kernels/cpu/simd.h"

namespace eddy::cpu::EDDY_TARGET {

// One coefficient per argument, highest power first.
inline F32x16 Polynomial(F32x16, F32x16 sum) { return sum; }
template <typename... Rest>
inline F32x16 Polynomial(F32x16 x, F32x16 sum, float next, Rest... rest) {
  return Polynomial(x, Fma(sum, x, Set(next)), rest...);
}

inline F32x16 PowerOfTwo(I32x16 n) { return ToF32(ShiftLeft<23>(n + SetI32(127))); }

inline F32x16 Exp(F32x16 x) {
  const F32x16 magic = Set(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer
  x = Max(Set(-104.0f), Min(Set(89.0f), x));
  const F32x16 shifted = Fma(x, Set(1.44269504f), magic);
  const F32x16 n = shifted - magic;
  const F32x16 r = Fma(n, Set(1.90465429e-9f), Fma(n, Set(-0.693147182f), x));
  const F32x16 p = Polynomial(r, Set(1.9875691500e-4f), 1.3981999507e-3f, 8.3334519073e-3f,
                              4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f);
  const F32x16 y = Fma(p, r * r, r) + Set(1.0f);
  // 2^n in two factors, so that subnormal results and the overflow at the top come out right.
  const I32x16 power = ToI32(shifted) - ToI32(magic);
  const I32x16 half = ShiftRight<1>(power);
  return y * PowerOfTwo(half) * PowerOfTwo(power - half);
}

// log(1 + y) for y in [0, 1].
inline F32x16 Log1p(F32x16 y) {
  // 1 + y = (1 + f) 2^e with f in [-0.293, 0.415]; f is exact.
  const Mask16 small = Less(y, Set(0.414213562f));
  const F32x16 f = Select(small, y, (y - Set(1.0f)) * Set(0.5f));
  const F32x16 e = Select(small, Zero(), Set(1.0f));
  const F32x16 p = Polynomial(f, Set(7.0376836292e-2f), -1.1514610310e-1f, 1.1676998740e-1f,
                              -1.2420140846e-1f, 1.4249322787e-1f, -1.6668057665e-1f,
                              2.0000714765e-1f, -2.4999993993e-1f, 3.3333331174e-1f);
  const F32x16 square = f * f;
  const F32x16 tail = Fma(e, Set(-2.12194440e-4f), p * square * f);
  return Fma(e, Set(0.693359375f), f + Fma(square, Set(-0.5f), tail));
}

// log(1 + exp(x)).
inline F32x16 Softplus(F32x16 x) { return Max(Zero(), x) + Log1p(Exp(Negate(Abs(x)))); }

inline F32x16 Sigmoid(F32x16 x) { return Set(1.0f) / (Set(1.0f) + Exp(Negate(x))); }

inline F32x16 Tanh(F32x16 x) {
  const F32x16 magnitude = Abs(x);
  const F32x16 z = x * x;
  const F32x16 p = Polynomial(z, Set(-5.70498872745e-3f), 2.06390887954e-2f, -5.37397155531e-2f,
                              1.33314422036e-1f, -3.33332819422e-1f);
  const F32x16 small = Fma(p * z, x, x);
  const F32x16 large = Set(1.0f) - Set(2.0f) / (Exp(magnitude + magnitude) + Set(1.0f));
  return Select(Less(magnitude, Set(0.625f)), small, CopySign(large, x));
}

// Phi, the normal distribution function, good in its lower tail too (no 1 - erf there).
inline F32x16 NormalDistribution(F32x16 x) {
  x = Max(Set(-30.0f), Min(Set(30.0f), x));  // 0 and 1 beyond; keeps x^2 finite
  const F32x16 z = x * Set(0.707106781f);
  const F32x16 magnitude = Max(Set(1.0e-30f), Abs(z));
  const F32x16 half = x * Set(0.5f);
  const F32x16 square = x * half;  // z^2, without the rounding of z
  const F32x16 erf =
      z * Polynomial(square, Set(7.853861353153693e-5f), -8.010193625184903e-4f,
                     5.188327685732524e-3f, -2.685381193529856e-2f, 1.128358514861418e-1f,
                     -3.761262582423300e-1f, 1.128379165726710e+0f);
  // erfc(m) = exp(-m^2) / m P(1 / m^2); the rounding error of m^2 is put back by its
  // derivative.
  const F32x16 error = Fma(x, half, Negate(square));
  const F32x16 gauss = Exp(Negate(square)) * (Set(1.0f) - error);
  const F32x16 inverse = Set(1.0f) / magnitude;
  const F32x16 y = inverse * inverse;
  const F32x16 below_two =
      Polynomial(y, Set(2.326819970068386e-2f), -1.387039388740657e-1f, 3.687424674597105e-1f,
                 -5.824733027278666e-1f, 6.210004621745983e-1f, -4.944515323274145e-1f,
                 3.404879937665872e-1f, -2.741127028184656e-1f, 5.638259427386472e-1f);
  const F32x16 above_two =
      Polynomial(y, Set(-1.047766399936249e+1f), 1.297719955372516e+1f, -7.495518717768503e+0f,
                 2.921019019210786e+0f, -1.015265279202700e+0f, 4.218463358204948e-1f,
                 -2.820767439740514e-1f, 5.641895067754075e-1f);
  const F32x16 tail =
      Set(0.5f) * gauss * inverse * Select(Less(magnitude, Set(2.0f)), below_two, above_two);
  const F32x16 middle = Fma(Set(0.5f), erf, Set(0.5f));
  const F32x16 outer = Select(Less(z, Zero()), tail, Set(1.0f) - tail);
  return Select(Less(magnitude, Set(1.0f)), middle, outer);
}

inline F32x16 Gelu(F32x16 x) { return x * NormalDistribution(x); }

// ---- double, for the sinusoid ----

// Highest power first.
template <int kCount>
inline double PolynomialF64(double x, const double (&coefficients)[kCount]) {
  double sum = coefficients[0];
  for (int i = 1; i < kCount; ++i) sum = __builtin_fma(sum, x, coefficients[i]);
  return sum;
}

// |x| < 700; Taylor after reduction by ln 2.
inline double ExpF64(double x) {
  constexpr double kCoefficients[] = {1.1470745597729725e-11,
                                      1.6059043836821613e-10,
                                      2.08767569878681e-09,
                                      2.505210838544172e-08,
                                      2.755731922398589e-07,
                                      2.7557319223985893e-06,
                                      2.48015873015873e-05,
                                      0.0001984126984126984,
                                      0.001388888888888889,
                                      0.008333333333333333,
                                      0.041666666666666664,
                                      0.16666666666666666,
                                      0.5,
                                      1.0,
                                      1.0};
  const double magic = 6755399441055744.0;  // 1.5 * 2^52
  const double n = (x * 1.4426950408889634 + magic) - magic;
  const double r =
      __builtin_fma(n, -2.3190468138462996e-17, __builtin_fma(n, -0.6931471805599453, x));
  const auto bits = static_cast<uint64_t>(static_cast<int64_t>(n) + 1023) << 52;
  return PolynomialF64(r, kCoefficients) * __builtin_bit_cast(double, bits);
}

// The sine and cosine of `angle` + `correction`, |angle| < 2^41. n pi/2 is subtracted with pi/2 in
// two parts: the first product is exact inside the FMA, so nothing is lost however large the angle.
inline void SinCosF64(double angle, double correction, double* sine, double* cosine) {
  constexpr double kSine[] = {-8.22063524662433e-18,  2.8114572543455206e-15,
                              -7.647163731819816e-13, 1.6059043836821613e-10,
                              -2.505210838544172e-08, 2.7557319223985893e-06,
                              -0.0001984126984126984, 0.008333333333333333,
                              -0.16666666666666666,   1.0};
  constexpr double kCosine[] = {-1.5619206968586225e-16,
                                4.779477332387385e-14,
                                -1.1470745597729725e-11,
                                2.08767569878681e-09,
                                -2.755731922398589e-07,
                                2.48015873015873e-05,
                                -0.001388888888888889,
                                0.041666666666666664,
                                -0.5,
                                1.0};
  const double magic = 6755399441055744.0;
  const double n = (angle * 0.6366197723675814 + magic) - magic;
  const double r =
      __builtin_fma(n, -6.123233995736766e-17, __builtin_fma(n, -1.5707963267948966, angle)) +
      correction;
  const double z = r * r;
  const double s = r * PolynomialF64(z, kSine);
  const double c = PolynomialF64(z, kCosine);
  switch (static_cast<int64_t>(n) & 3) {
    case 0:
      *sine = s;
      *cosine = c;
      return;
    case 1:
      *sine = c;
      *cosine = -s;
      return;
    case 2:
      *sine = -s;
      *cosine = -c;
      return;
    default:
      *sine = -c;
      *cosine = s;
      return;
  }
}

}  // namespace eddy::cpu::EDDY_TARGET
