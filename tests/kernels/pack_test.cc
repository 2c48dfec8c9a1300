// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/pack.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

#include "tests/kernels/kernel_fixture.h"
#include "tests/kernels/reference.h"

namespace eddy::cpu {
namespace {

float FromBf16(uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }

TEST(Bf16Test, RoundsToTheNearestAndTiesToEven) {
  Numbers numbers(41);
  for (const float value : numbers.Normal(20000, 100.0f)) {
    EXPECT_EQ(FromBf16(F32ToBf16(value)), reference::RoundToBf16(value)) << value;
  }
  EXPECT_EQ(F32ToBf16(std::bit_cast<float>(0x3f808000u)), 0x3f80);  // tie, down to even
  EXPECT_EQ(F32ToBf16(std::bit_cast<float>(0x3f818000u)), 0x3f82);  // tie, up to even
}

TEST(Bf16Test, KeepsInfinitiesNanAndZeros) {
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(FromBf16(F32ToBf16(infinity)), infinity);
  EXPECT_EQ(FromBf16(F32ToBf16(-infinity)), -infinity);
  EXPECT_EQ(FromBf16(F32ToBf16(std::numeric_limits<float>::max())), infinity);
  EXPECT_TRUE(std::isnan(FromBf16(F32ToBf16(NAN))));
  EXPECT_TRUE(std::isnan(FromBf16(F32ToBf16(std::bit_cast<float>(0x7f800001u)))));
  EXPECT_EQ(F32ToBf16(-0.0f), 0x8000);
}

TEST(PackTest, BytesCoverWholePanelsAndPairs) {
  EXPECT_EQ(PackedBytes(MatMulFormat::kF32, 1, 1), 64);
  EXPECT_EQ(PackedBytes(MatMulFormat::kF32, 17, 3), 2 * 3 * 64);
  EXPECT_EQ(PackedBytes(MatMulFormat::kBF16, 17, 3), 2 * 2 * 64);
  EXPECT_EQ(PackedBytes(MatMulFormat::kBF16, 768, 768), 768 * 768 * 2);
  EXPECT_EQ(PackedBytes(MatMulFormat::kInt8, 17, 5), 2 * (64 + 2 * 64));
  EXPECT_EQ(PackedBytes(MatMulFormat::kInt8Dot, 768, 768), 768 * (768 + 4));
  // 12 groups have six lines of scales.
  EXPECT_EQ(PackedBytes(MatMulFormat::kInt4, 768, 768), 768 * (768 / 2 + 12 * 2));
  EXPECT_EQ(PackedBytes(MatMulFormat::kInt4, 1, 65), 64 + 9 * 64);
}

TEST(PackTest, PutsEachWeightInItsPlace) {
  std::vector<float> weight(17 * 3);
  for (size_t i = 0; i < weight.size(); ++i) weight[i] = static_cast<float>(i);
  std::vector<uint32_t> f32(2 * 3 * 16);
  std::vector<uint32_t> bf16(2 * 2 * 16);
  for (const int64_t panel : {0, 1}) {
    PackPanel(View(weight, {17, 3}), MatMulFormat::kF32, panel, f32.data());
    PackPanel(View(weight, {17, 3}), MatMulFormat::kBF16, panel, bf16.data());
  }
  for (size_t out = 0; out < 32; ++out) {
    for (size_t k = 0; k < 4; ++k) {
      const float want = out < 17 && k < 3 ? static_cast<float>(out * 3 + k) : 0.0f;
      const size_t lane = out % 16;
      if (k < 3) {
        EXPECT_EQ(std::bit_cast<float>(f32[(out / 16 * 3 + k) * 16 + lane]), want);
      }
      const uint32_t word = bf16[(out / 16 * 2 + k / 2) * 16 + lane];
      EXPECT_EQ(FromBf16(static_cast<uint16_t>(word >> (k % 2 * 16))), want);
    }
  }
}

}  // namespace
}  // namespace eddy::cpu
