// SPDX-License-Identifier: Apache-2.0
// The rule by which weights become int8 or int4: one for packing at load and for files that are
// quantised ahead of time, so that both give the same bits. A weight is its integer times a scale.
//
//   int8: one scale per output, the largest magnitude over 127; integers from -127 to 127
//   int4: one scale per output and group of 64 inputs, the weight of largest magnitude over -8,
//         rounded to bf16 (it may be negative); integers from -8 to 7
// Integers are rounded to the nearest, ties to even, and are 0 where the scale is. Pure functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include "kernels/dtype.h"

namespace eddy {

inline constexpr int64_t kInt4GroupInputs = 64;
inline constexpr int kInt8Max = 127;
// The magnitudes of the scales of finite weights are at most these.
inline constexpr float kInt8ScaleMax = std::numeric_limits<float>::max() / kInt8Max;
inline constexpr float kInt4ScaleMax = 0x1p125f;

// Scales of one output; `dtype` is kI8 or kI4, here and below.
constexpr int64_t ScaleCount(DType dtype, int64_t in_size) {
  return dtype == DType::kI8 ? 1 : (in_size + kInt4GroupInputs - 1) / kInt4GroupInputs;
}
// Bytes of one output's integers in a QuantisedMatrix.
constexpr int64_t IntegerBytes(DType dtype, int64_t in_size) {
  return dtype == DType::kI8 ? in_size : (in_size + 1) / 2;
}

// A matrix of such weights; a view.
struct QuantisedMatrix {
  DType dtype = DType::kI8;
  int64_t out_size = 0;
  int64_t in_size = 0;
  // [out, IntegerBytes]. int4: two to a byte, of even inputs in the low half; two's complement.
  const std::byte* integers = nullptr;
  // [out, ScaleCount]; those of int4 are bf16 numbers.
  const float* scales = nullptr;
};

// Quantises the weights of one output, which are finite.  weights, integers [in]; scales
// [ScaleCount]
void QuantiseOutput(DType dtype, std::span<const float> weights, std::span<int8_t> integers,
                    std::span<float> scales);
// Puts them into the form of QuantisedMatrix and back.  integers [in], bytes [IntegerBytes]
void StoreIntegers(DType dtype, std::span<const int8_t> integers, std::byte* bytes);
void LoadIntegers(DType dtype, const std::byte* bytes, std::span<int8_t> integers);

}  // namespace eddy
