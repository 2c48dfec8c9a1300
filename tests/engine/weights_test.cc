// SPDX-License-Identifier: Apache-2.0
#include "engine/weights.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "engine/safetensors.h"
#include "kernels/bf16.h"
#include "tests/support/model_files.h"

namespace eddy {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

constexpr float kInf = std::numeric_limits<float>::infinity();

class WeightsTest : public testing::Test {
 protected:
  WeightsTest() {
    BackendOptions options;
    options.backend = "cpu";
    options.thread_count = 1;
    backend_ = *MakeBackend(options);
  }

  // Keeps the bytes for the file that views them.
  Safetensors File(std::string bytes) {
    bytes_ = std::move(bytes);
    auto file = Safetensors::Parse(Bytes(bytes_), "m.safetensors");
    EXPECT_TRUE(file.ok()) << file.status();
    return *std::move(file);
  }
  std::vector<float> Floats(const Tensor& tensor) {
    std::vector<float> values(static_cast<size_t>(tensor.element_count()));
    backend_->CopyOut(tensor.f32(), values.data(), tensor.bytes());
    return values;
  }
  std::string Message(const absl::StatusOr<LoadedWeights>& loaded) {
    EXPECT_EQ(loaded.status().code(), absl::StatusCode::kInvalidArgument);
    return std::string(loaded.status().message());
  }

  std::unique_ptr<Backend> backend_;
  std::string bytes_;
};

TEST_F(WeightsTest, ReadsAndCounts) {
  const Safetensors file =
      File(SafetensorsBytes({{"bias", {{3}, {1.0f, -2.0f, 0.5f}}},
                             {"table", {{2, 2}, {1.0f, 2.0f, 3.0f, 1.00390625f}}},
                             {"weight", {{2, 3}, {1, 2, 3, 4, 5, 6}}},
                             {"buffer", {{1}, {7.0f}}}}));
  Weights weights(file, *backend_, DType::kBF16);
  const Tensor bias = weights.ReadVector("bias", {3});
  const Tensor table = weights.ReadTable("table", {2, 2});
  const Matrix weight = weights.ReadMatrix("weight", {2, 3});
  weights.Ignore("buffer");
  const auto loaded = weights.Finish();
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_THAT(Floats(bias), testing::ElementsAre(1.0f, -2.0f, 0.5f));
  EXPECT_EQ(table.dtype(), DType::kBF16);
  uint16_t halves[4] = {};
  backend_->CopyOut(table.data(), halves, sizeof(halves));
  // 1.00390625 lies between two bf16 numbers; the even one is 1.
  EXPECT_THAT(halves, testing::ElementsAre(0x3F80, 0x4000, 0x4040, 0x3F80));
  EXPECT_EQ(weight.out_size, 2);
  EXPECT_EQ(weight.in_size, 3);
  EXPECT_EQ(weight.dtype, DType::kBF16);
  EXPECT_EQ(loaded->parameter_count, 3 + 4 + 6);
  EXPECT_EQ(loaded->weight_bytes, 3 * 4 + 4 * 2 + weight.buffer.bytes());
}

TEST_F(WeightsTest, EveryHalfIsConvertedExactly) {
  std::string data(2 * 65536, '\0');
  std::vector<uint16_t> finite;
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    if ((bits >> 10 & 31) != 31) finite.push_back(static_cast<uint16_t>(bits));
  }
  std::memcpy(data.data(), finite.data(), 2 * finite.size());
  data.resize(2 * finite.size());
  const std::string count = std::to_string(finite.size());
  // The odd header length leaves the data unaligned.
  std::string header = R"({"h":{"dtype":"F16","shape":[)" + count + R"(],"data_offsets":[0,)" +
                       std::to_string(data.size()) + "]}}";
  if (header.size() % 2 == 0) header += ' ';
  const Safetensors file = File(SafetensorsBytes(header, data));
  Weights weights(file, *backend_, DType::kF32);
  const Tensor h = weights.ReadVector("h", {static_cast<int64_t>(finite.size())});
  const auto loaded = weights.Finish();
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  const std::vector<float> values = Floats(h);
  for (size_t i = 0; i < finite.size(); ++i) {
    const int exponent = finite[i] >> 10 & 31;
    const float fraction = static_cast<float>(finite[i] & 1023);
    const float magnitude =
        exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024.0f + fraction, exponent - 25);
    const float expected = finite[i] >= 0x8000 ? -magnitude : magnitude;
    ASSERT_EQ(std::bit_cast<uint32_t>(values[i]), std::bit_cast<uint32_t>(expected)) << finite[i];
  }
}

TEST_F(WeightsTest, AnUnalignedMatrixIsTheSameMatrix) {
  const std::string data("\x00\x00\x80\x3F\x00\x00\x00\x40", 8);  // 1, 2
  std::string results[2];
  for (size_t shift = 0; shift < 2; ++shift) {
    std::string header = R"({"w":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}})";
    while (header.size() % 4 != shift) header += ' ';
    const Safetensors file = File(SafetensorsBytes(header, data));
    Weights weights(file, *backend_, DType::kF32);
    const Matrix matrix = weights.ReadMatrix("w", {1, 2});
    ASSERT_TRUE(weights.Finish().ok());
    results[shift].resize(static_cast<size_t>(matrix.buffer.bytes()));
    backend_->CopyOut(matrix.buffer.data(), results[shift].data(), matrix.buffer.bytes());
  }
  EXPECT_EQ(results[0], results[1]);
}

TEST_F(WeightsTest, ATransposedMatrixIsTheSameMatrix) {
  const Safetensors file = File(SafetensorsBytes(
      {{"there", {{2, 3}, {1, 2, 3, 4, 5, 6}}}, {"turned", {{3, 2}, {1, 4, 2, 5, 3, 6}}}}));
  Weights weights(file, *backend_, DType::kF32);
  const Matrix there = weights.ReadMatrix("there", {2, 3});
  const Matrix turned = weights.ReadTransposedMatrix("turned", {3, 2});
  ASSERT_TRUE(weights.Finish().ok());
  EXPECT_EQ(turned.out_size, 2);
  EXPECT_EQ(turned.in_size, 3);
  std::vector<float> x = {1.0f, 10.0f, 100.0f};
  for (const Matrix* matrix : {&there, &turned}) {
    std::vector<float> y(2);
    backend_->MatMul(Tensor(x.data(), DType::kF32, {1, 3}), *matrix, Tensor(),
                     Tensor(y.data(), DType::kF32, {1, 2}));
    EXPECT_THAT(y, testing::ElementsAre(321.0f, 654.0f));
  }
}

TEST_F(WeightsTest, VectorsMayHaveOtherAxesOfOneAndBeStacked) {
  const Safetensors file = File(SafetensorsBytes({{"a", {{1, 1, 2}, {1, 2}}},
                                                  {"b", {{2}, {3, 4}}},
                                                  {"c", {{1, 1, 2}, {5, 6}}},
                                                  {"taps", {{2, 1, 3}, {1, 2, 3, 4, 5, 6}}}}));
  Weights weights(file, *backend_, DType::kBF16);
  const std::vector<std::string> names = {"a", "b"};
  const Tensor stack = weights.ReadVectors(names, 2);
  const Tensor c = weights.ReadVector("c", {2});
  const Tensor taps = weights.ReadTransposedVectors("taps", {2, 3});
  const auto loaded = weights.Finish();
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(stack.shape(), Shape({2, 2}));
  EXPECT_THAT(Floats(stack), testing::ElementsAre(1, 2, 3, 4));
  EXPECT_EQ(c.shape(), Shape({2}));
  EXPECT_THAT(Floats(c), testing::ElementsAre(5, 6));
  EXPECT_EQ(taps.shape(), Shape({3, 2}));
  EXPECT_THAT(Floats(taps), testing::ElementsAre(1, 4, 2, 5, 3, 6));
  EXPECT_EQ(loaded->parameter_count, 12);
}

TEST_F(WeightsTest, OtherAxesThanOnesCount) {
  const Safetensors file = File(SafetensorsBytes({{"a", {{2, 1}, {1, 2}}}, {"b", {{2}, {3, 4}}}}));
  Weights weights(file, *backend_, DType::kBF16);
  const std::vector<std::string> names = {"a", "missing"};
  EXPECT_FALSE(weights.ReadVectors(names, 3).present());
  EXPECT_FALSE(weights.ReadTransposedVectors("b", {2, 2}).present());
  EXPECT_THAT(Message(weights.Finish()), AllOf(HasSubstr("a is F32 [2, 1], expected [3]"),
                                               HasSubstr("missing is missing, expected [3]"),
                                               HasSubstr("b is F32 [2], expected [2, 2]")));
}

TEST_F(WeightsTest, TellsTheShapesItHas) {
  const Safetensors file = File(SafetensorsBytes({{"bias", {{3}, {1.0f, -2.0f, 0.5f}}}}));
  Weights weights(file, *backend_, DType::kF32);
  EXPECT_EQ(weights.StoredShape("bias"), Shape({3}));
  EXPECT_EQ(weights.StoredShape("weight"), std::nullopt);
}

TEST_F(WeightsTest, TellsEverythingThatDoesNotFitAtOnce) {
  const Safetensors file = File(SafetensorsBytes({{"bias", {{3}, {1, 2, 3}}},
                                                  {"extra", {{1}, {1}}},
                                                  {"another\n", {{1, 1}, {1}}},
                                                  {"table", {{2, 2}, {1, 2, 3, 4}}},
                                                  {"weight", {{3, 2}, {1, 2, 3, 4, 5, 6}}}}));
  Weights weights(file, *backend_, DType::kF32);
  EXPECT_FALSE(weights.ReadVector("bias", {4}).present());
  EXPECT_FALSE(weights.ReadVector("missing.bias", {7}).present());
  EXPECT_FALSE(weights.ReadTable("table", {4}).present());
  EXPECT_EQ(weights.ReadMatrix("weight", {2, 3}).buffer.data(), nullptr);
  const std::string message = Message(weights.Finish());
  EXPECT_THAT(message, AllOf(testing::StartsWith("m.safetensors"), HasSubstr("6 problems"),
                             HasSubstr("bias is F32 [3], expected [4]"),
                             HasSubstr("missing.bias is missing, expected [7]"),
                             HasSubstr("table is F32 [2, 2], expected [4]"),
                             HasSubstr("weight is F32 [3, 2], expected [2, 3]"),
                             HasSubstr("\"extra\" (F32 [1]) has no place"),
                             HasSubstr("\"another\\n\" (F32 [1, 1]) has no place")));
}

TEST_F(WeightsTest, TellsHowMuchIsRead) {
  const Safetensors file = File(SafetensorsBytes({{"bias", {{3}, {1.0f, -2.0f, 0.5f}}},
                                                  {"buffer", {{5}, {1, 2, 3, 4, 5}}},
                                                  {"table", {{2, 2}, {1, 2, 3, 4}}},
                                                  {"weight", {{2, 3}, {1, 2, 3, 4, 5, 6}}}}));
  std::vector<int64_t> done;
  Weights weights(file, *backend_, DType::kBF16, [&](int64_t done_bytes, int64_t all_bytes) {
    EXPECT_EQ(all_bytes, 4 * (3 + 5 + 4 + 6));
    done.push_back(done_bytes);
  });
  weights.ReadVector("bias", {3});
  weights.ReadTable("table", {2, 2});
  weights.ReadMatrix("table", {2, 2});  // counts once
  weights.ReadMatrixRows("weight", {2, 3}, 0, 1);
  weights.ReadMatrixRows("weight", {2, 3}, 1, 2);
  weights.Ignore("buffer");
  ASSERT_TRUE(weights.Finish().ok());
  EXPECT_THAT(done, testing::ElementsAre(12, 28, 28, 40, 52, 72));
}

// Matrices and tables of several pieces, whose last one is not full.
TEST_F(WeightsTest, PiecesMakeTheSameMatrix) {
  const int64_t rows = 83, columns = Weights::kPieceBytes / 64 / 4;  // 64 rows are a piece
  std::vector<float> values(static_cast<size_t>(rows * columns));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 8191) * 0.125f;
  const Safetensors file = File(SafetensorsBytes({{"w", {{rows, columns}, values}}}));
  const Tensor whole(values.data(), DType::kF32, {rows, columns});
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kI8, DType::kI4}) {
    Weights weights(file, *backend_, dtype);
    const Tensor table = weights.ReadTable("w", {rows, columns});
    const Matrix matrix = weights.ReadMatrix("w", {rows, columns});
    const auto loaded = weights.Finish();
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    const Matrix expected = *backend_->PackMatrix(whole, dtype);
    ASSERT_EQ(matrix.buffer.bytes(), expected.buffer.bytes());
    EXPECT_EQ(std::memcmp(matrix.buffer.data(), expected.buffer.data(),
                          static_cast<size_t>(expected.buffer.bytes())),
              0)
        << DTypeName(dtype);
    for (const size_t i : {size_t{0}, values.size() / 2, values.size() - 1}) {
      const float value = dtype == DType::kF32
                              ? static_cast<const float*>(table.data())[i]
                              : Bf16ToF32(static_cast<const uint16_t*>(table.data())[i]);
      EXPECT_EQ(value, dtype == DType::kF32 ? values[i] : Bf16ToF32(F32ToBf16(values[i])));
    }
  }
}

TEST_F(WeightsTest, ALongListIsCut) {
  const Safetensors file = File(SafetensorsBytes({{"x", {{1}, {1}}}}));
  Weights weights(file, *backend_, DType::kF32);
  for (int i = 0; i < 5000; ++i) weights.ReadVector("bias." + std::to_string(i), {1});
  const std::string message = Message(weights.Finish());
  EXPECT_THAT(message, AllOf(HasSubstr("5001 problems"), HasSubstr("bias.19 is missing"),
                             Not(HasSubstr("bias.20")), HasSubstr("and 4981 more")));
}

TEST_F(WeightsTest, RefusesNumbersThatAreNotFinite) {
  const struct {
    float value;
    DType dtype;
    bool sound;
  } cases[] = {
      {kInf, DType::kF32, false},
      {-kInf, DType::kBF16, false},
      {std::numeric_limits<float>::quiet_NaN(), DType::kF32, false},
      {-std::numeric_limits<float>::quiet_NaN(), DType::kBF16, false},
      {std::numeric_limits<float>::max(), DType::kF32, true},
      {std::numeric_limits<float>::max(), DType::kBF16, false},  // rounds to infinity
      {-0x1.FEFFFEp127f, DType::kBF16, true},                    // rounds to the largest
      {std::numeric_limits<float>::denorm_min(), DType::kBF16, true},
  };
  for (const auto& c : cases) {
    const Safetensors file = File(SafetensorsBytes({{"w", {{1, 2}, {0.0f, c.value}}}}));
    for (const bool as_table : {false, true}) {
      Weights weights(file, *backend_, c.dtype);
      if (as_table) {
        weights.ReadTable("w", {1, 2});
      } else {
        weights.ReadMatrix("w", {1, 2});
      }
      const auto loaded = weights.Finish();
      EXPECT_EQ(loaded.ok(), c.sound) << c.value << " " << DTypeName(c.dtype);
      if (!c.sound) {
        EXPECT_THAT(Message(loaded), AllOf(HasSubstr("w has the value "), HasSubstr("at index 1"),
                                           HasSubstr(DTypeName(c.dtype))));
      }
    }
  }
}

TEST_F(WeightsTest, RefusesHalvesThatAreNotFinite) {
  for (const char* dtype : {"F16", "BF16"}) {
    const std::string header =
        std::string("{\"b\":{\"dtype\":\"") + dtype + "\",\"shape\":[1],\"data_offsets\":[0,2]}}";
    const std::string infinity = dtype[0] == 'F' ? std::string("\x00\x7C", 2) : "\x80\x7F";
    const Safetensors file = File(SafetensorsBytes(header, infinity));
    Weights weights(file, *backend_, DType::kF32);
    weights.ReadVector("b", {1});
    EXPECT_THAT(Message(weights.Finish()), HasSubstr("b has the value inf at index 0"));
  }
}

TEST_F(WeightsTest, RefusesNumbersOutOfRange) {
  const Safetensors file = File(
      SafetensorsBytes({{"decay", {{3}, {1.0f, 0.5f, 1.5f}}}, {"other", {{2}, {0.1f, 0.0f}}}}));
  Weights weights(file, *backend_, DType::kF32);
  weights.ReadVector("decay", {3}, {0.0f, 1.0f});
  weights.ReadVector("other", {2}, {0.0f, 1.0f});
  EXPECT_THAT(
      Message(weights.Finish()),
      AllOf(HasSubstr("decay has the value 1.5 at index 2, expected one above 0 and at most 1"),
            HasSubstr("other has the value 0 at index 1")));
}

}  // namespace
}  // namespace eddy
