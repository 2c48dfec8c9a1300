// SPDX-License-Identifier: Apache-2.0
#include "kernels/quantise.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "kernels/bf16.h"
#include "tests/kernels/kernel_fixture.h"

namespace eddy {
namespace {

using testing::Each;
using testing::ElementsAre;

constexpr float kLargest = std::numeric_limits<float>::max();
constexpr float kTiniest = std::numeric_limits<float>::denorm_min();

struct Quantised {
  std::vector<int8_t> integers;
  std::vector<float> scales;
};

Quantised Quantise(DType dtype, const std::vector<float>& weights) {
  Quantised q;
  q.integers.resize(weights.size());
  q.scales.resize(static_cast<size_t>(ScaleCount(dtype, static_cast<int64_t>(weights.size()))));
  QuantiseOutput(dtype, weights, q.integers, q.scales);
  return q;
}

TEST(QuantiseTest, Int8HasOneScaleAndRoundsTiesToEven) {
  const Quantised q = Quantise(DType::kI8, {-127.0f, 0.5f, 1.5f, -2.5f, 3.4f, 126.6f, -0.0f});
  EXPECT_THAT(q.scales, ElementsAre(1.0f));
  EXPECT_THAT(q.integers, ElementsAre(-127, 0, 2, -2, 3, 127, 0));
}

TEST(QuantiseTest, Int4MakesTheExtremeOfEachGroupMinusEight) {
  std::vector<float> weights(130, 0.0f);
  weights[0] = -4.0f;   // scale 0.5
  weights[1] = 4.0f;    // 8 does not exist
  weights[2] = 1.25f;   // 2.5, a tie
  weights[64] = 16.0f;  // scale -2
  weights[65] = -14.0f;
  const Quantised q = Quantise(DType::kI4, weights);
  EXPECT_THAT(q.scales, ElementsAre(0.5f, -2.0f, 0.0f));
  EXPECT_THAT(std::vector(q.integers.begin(), q.integers.begin() + 3), ElementsAre(-8, 7, 2));
  EXPECT_THAT(std::vector(q.integers.begin() + 64, q.integers.begin() + 66), ElementsAre(-8, 7));
  EXPECT_THAT(std::vector(q.integers.begin() + 66, q.integers.end()), Each(0));
}

TEST(QuantiseTest, EveryWeightIsWithinHalfAScale) {
  Numbers numbers(7);
  const std::vector<float> weights = numbers.Normal(1000, 0.02f);
  for (const DType dtype : {DType::kI8, DType::kI4}) {
    const Quantised q = Quantise(dtype, weights);
    for (size_t k = 0; k < weights.size(); ++k) {
      const float scale = q.scales[dtype == DType::kI8 ? 0 : k / 64];
      // Of int4, what lies opposite the extreme can be up to a whole scale off; the scale itself is
      // rounded by up to 1/256.
      const float bound = dtype == DType::kI8 ? 0.5001f : 1.04f;
      EXPECT_LE(std::abs(static_cast<float>(q.integers[k]) * scale - weights[k]),
                bound * std::abs(scale))
          << k;
      EXPECT_TRUE(dtype == DType::kI8 || Bf16ToF32(F32ToBf16(scale)) == scale);
    }
  }
}

TEST(QuantiseTest, ExtremesStayFinite) {
  for (const float weight : {kLargest, -kLargest, kTiniest, -kTiniest, 0.0f, -0.0f}) {
    for (const DType dtype : {DType::kI8, DType::kI4}) {
      const Quantised q = Quantise(dtype, {weight, weight / 3.0f});
      EXPECT_LE(std::abs(q.scales[0]), dtype == DType::kI8 ? kInt8ScaleMax : kInt4ScaleMax);
      for (const int8_t integer : q.integers) {
        EXPECT_GE(integer, dtype == DType::kI8 ? -kInt8Max : -8);
        EXPECT_LE(integer, dtype == DType::kI8 ? kInt8Max : 7);
      }
    }
  }
}

TEST(QuantiseTest, IntegersAreStoredEvenInputsLow) {
  const std::vector<int8_t> integers = {-8, 7, 3, -1, -2};
  std::byte bytes[5];
  StoreIntegers(DType::kI4, integers, bytes);
  EXPECT_EQ(bytes[0], std::byte{0x78});
  EXPECT_EQ(bytes[1], std::byte{0xf3});
  EXPECT_EQ(bytes[2], std::byte{0x0e});
  for (const DType dtype : {DType::kI8, DType::kI4}) {
    StoreIntegers(dtype, integers, bytes);
    std::vector<int8_t> loaded(5);
    LoadIntegers(dtype, bytes, loaded);
    EXPECT_EQ(loaded, integers);
  }
  EXPECT_EQ(IntegerBytes(DType::kI4, 5), 3);
  EXPECT_EQ(IntegerBytes(DType::kI8, 5), 5);
}

// What was quantised before is packed to the bytes of what is quantised in packing.
TEST(QuantiseTest, AQuantisedMatrixIsTheSameMatrix) {
  for (const char* path : {"fma", "bf16dot", "int8dot"}) {
    BackendOptions options;
    options.backend = "cpu";
    options.numeric_path = path;
    options.thread_count = 2;
    auto backend = MakeBackend(options);
    if (absl::IsFailedPrecondition(backend.status())) continue;  // not on this machine
    ASSERT_TRUE(backend.ok()) << backend.status();
    for (const DType dtype : {DType::kI8, DType::kI4}) {
      for (const auto& [out_size, in_size] :
           {std::pair(1, 1), std::pair(17, 65), std::pair(33, 131), std::pair(48, 128)}) {
        std::vector<float> weights = Numbers(3).Normal(int64_t{out_size} * in_size, 1.0f);
        const Matrix want = *(*backend)->PackMatrix(View(weights, {out_size, in_size}), dtype);
        std::vector<std::byte> integers;
        std::vector<float> scales;
        for (int out = 0; out < out_size; ++out) {
          const auto row = weights.begin() + int64_t{out} * in_size;
          const Quantised q = Quantise(dtype, std::vector<float>(row, row + in_size));
          const size_t at = integers.size();
          integers.resize(at + static_cast<size_t>(IntegerBytes(dtype, in_size)));
          StoreIntegers(dtype, q.integers, integers.data() + at);
          scales.insert(scales.end(), q.scales.begin(), q.scales.end());
        }
        const Matrix matrix =
            *(*backend)->PackQuantised({dtype, out_size, in_size, integers.data(), scales.data()});
        EXPECT_EQ(matrix.dtype, dtype);
        EXPECT_EQ(matrix.out_size, out_size);
        EXPECT_EQ(matrix.in_size, in_size);
        ASSERT_EQ(matrix.buffer.bytes(), want.buffer.bytes());
        EXPECT_EQ(std::memcmp(matrix.buffer.data(), want.buffer.data(),
                              static_cast<size_t>(want.buffer.bytes())),
                  0)
            << path << " " << DTypeName(dtype) << " " << out_size << " " << in_size;
      }
    }
  }
}

}  // namespace
}  // namespace eddy
