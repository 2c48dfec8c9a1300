// SPDX-License-Identifier: Apache-2.0
#include "kernels/quantise.h"

#include <algorithm>
#include <cmath>

#include "kernels/bf16.h"
#include "kernels/check.h"

namespace eddy {
namespace {

int8_t Quantised(float value, float scale, int low, int high) {
  if (scale == 0.0f) return 0;
  // Clamped as a float: a scale that is not normal can make the quotient larger than any int.
  const float rounded = std::nearbyint(value / scale);
  return static_cast<int8_t>(
      std::clamp(rounded, static_cast<float>(low), static_cast<float>(high)));
}

float QuantiseGroup(std::span<const float> weights, std::span<int8_t> integers) {
  float extreme = 0.0f;
  for (const float weight : weights) {
    if (std::abs(weight) > std::abs(extreme)) extreme = weight;
  }
  // The extreme becomes -8: the range is -8 .. 7, and nothing is larger.
  const float scale = Bf16ToF32(F32ToBf16(extreme / -8.0f));
  for (size_t k = 0; k < weights.size(); ++k) integers[k] = Quantised(weights[k], scale, -8, 7);
  return scale;
}

}  // namespace

void QuantiseOutput(DType dtype, std::span<const float> weights, std::span<int8_t> integers,
                    std::span<float> scales) {
  EDDY_CHECK_EQ(weights.size(), integers.size());
  EDDY_CHECK_EQ(static_cast<int64_t>(scales.size()),
                ScaleCount(dtype, static_cast<int64_t>(weights.size())));
  if (dtype == DType::kI4) {
    constexpr size_t kGroup = kInt4GroupInputs;
    for (size_t group = 0; group < scales.size(); ++group) {
      const size_t begin = group * kGroup;
      const size_t size = std::min(kGroup, weights.size() - begin);
      scales[group] = QuantiseGroup(weights.subspan(begin, size), integers.subspan(begin, size));
    }
    return;
  }
  float max = 0.0f;
  for (const float weight : weights) max = std::max(max, std::abs(weight));
  const float scale = max / static_cast<float>(kInt8Max);
  for (size_t k = 0; k < weights.size(); ++k) {
    integers[k] = Quantised(weights[k], scale, -kInt8Max, kInt8Max);
  }
  scales[0] = scale;
}

void StoreIntegers(DType dtype, std::span<const int8_t> integers, std::byte* bytes) {
  for (size_t k = 0; k < integers.size(); ++k) {
    const auto byte = static_cast<std::byte>(integers[k]);
    if (dtype == DType::kI8) {
      bytes[k] = byte;
    } else if (k % 2 == 0) {
      bytes[k / 2] = byte & std::byte{0xf};  // the high half of the last byte stays 0
    } else {
      bytes[k / 2] |= byte << 4;
    }
  }
}

void LoadIntegers(DType dtype, const std::byte* bytes, std::span<int8_t> integers) {
  for (size_t k = 0; k < integers.size(); ++k) {
    if (dtype == DType::kI8) {
      integers[k] = static_cast<int8_t>(bytes[k]);
      continue;
    }
    const int nibble = std::to_integer<int>(bytes[k / 2] >> (k % 2 * 4)) & 0xf;
    integers[k] = static_cast<int8_t>((nibble ^ 8) - 8);
  }
}

}  // namespace eddy
