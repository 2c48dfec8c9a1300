// SPDX-License-Identifier: Apache-2.0
// Weights of files whose matrices are int8 or int4 already.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "engine/safetensors.h"
#include "engine/weights.h"
#include "kernels/bf16.h"
#include "tests/support/model_files.h"

namespace eddy {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

struct RawTensor {
  std::string dtype;
  std::vector<int64_t> shape;
  std::string data;
};

std::string FileBytes(const std::vector<std::pair<std::string, RawTensor>>& tensors) {
  nlohmann::json header;
  std::string data;
  for (const auto& [name, tensor] : tensors) {
    header[name] = {{"dtype", tensor.dtype},
                    {"shape", tensor.shape},
                    {"data_offsets", {data.size(), data.size() + tensor.data.size()}}};
    data += tensor.data;
  }
  return SafetensorsBytes(header.dump(), data);
}

std::string F32Data(const std::vector<float>& values) {
  return {reinterpret_cast<const char*>(values.data()), 4 * values.size()};
}
std::string BF16Data(const std::vector<float>& values) {
  std::string data;
  for (const float value : values) {
    const uint16_t half = F32ToBf16(value);
    data.append(reinterpret_cast<const char*>(&half), 2);
  }
  return data;
}

// A matrix [in, out] of random numbers and the same turned.
struct Pair {
  std::vector<float> there, turned;
};
Pair RandomPair(int64_t out_size, int64_t in_size) {
  std::mt19937 random(5);
  std::normal_distribution<float> normal;
  Pair pair;
  pair.there.resize(static_cast<size_t>(out_size * in_size));
  pair.turned.resize(pair.there.size());
  for (int64_t out = 0; out < out_size; ++out) {
    for (int64_t in = 0; in < in_size; ++in) {
      const float value = normal(random);
      pair.there[static_cast<size_t>(out * in_size + in)] = value;
      pair.turned[static_cast<size_t>(in * out_size + out)] = value;
    }
  }
  return pair;
}

class QuantisedWeightsTest : public testing::Test {
 protected:
  QuantisedWeightsTest() {
    BackendOptions options;
    options.backend = "cpu";
    options.thread_count = 1;
    backend_ = *MakeBackend(options);
  }

  // Keeps the bytes for the file that views them.
  Safetensors File(const std::vector<std::pair<std::string, RawTensor>>& tensors) {
    bytes_ = FileBytes(tensors);
    auto file = Safetensors::Parse(Bytes(bytes_), "m.safetensors");
    EXPECT_TRUE(file.ok()) << file.status();
    return *std::move(file);
  }
  static std::string Packed(const Matrix& matrix) {
    return {static_cast<const char*>(matrix.buffer.data()),
            static_cast<size_t>(matrix.buffer.bytes())};
  }
  // The error of reading "w" [2, 4] from a file of `tensors` as `dtype`.
  std::string Problem(DType dtype, const std::vector<std::pair<std::string, RawTensor>>& tensors) {
    const Safetensors file = File(tensors);
    Weights weights(file, *backend_, dtype);
    weights.ReadMatrix("w", {2, 4});
    const auto loaded = weights.Finish();
    EXPECT_EQ(loaded.status().code(), absl::StatusCode::kInvalidArgument) << loaded.status();
    return std::string(loaded.status().message());
  }

  std::unique_ptr<Backend> backend_;
  std::string bytes_;
};

const RawTensor kInt8 = {"I8", {2, 4}, std::string("\x7f\x81\x00\x01\x02\x03\x04\x05", 8)};
const RawTensor kInt4 = {"U8", {2, 2}, std::string("\x78\xf3\x00\x0e", 4)};

TEST_F(QuantisedWeightsTest, MultipliesWithTheIntegersAndScalesOfTheFile) {
  std::vector<float> x = {1.0f, 10.0f, 100.0f, 1000.0f};
  const struct {
    DType dtype;
    RawTensor integers, scale;
    std::vector<float> want;
  } cases[] = {{DType::kI8,
                kInt8,
                {"F32", {2}, F32Data({0.5f, 2.0f})},
                {0.5f * (127 - 1270 + 1000), 2.0f * (2 + 30 + 400 + 5000)}},
               {DType::kI4,
                kInt4,
                {"BF16", {2, 1}, BF16Data({-0.5f, 4.0f})},
                {-0.5f * (-8 + 70 + 300 - 1000), 4.0f * (-200)}}};
  for (const auto& c : cases) {
    const Safetensors file = File({{"w", c.integers}, {"w.scale", c.scale}});
    Weights weights(file, *backend_, c.dtype);
    EXPECT_EQ(weights.StoredShape("w"), Shape({2, 4}));
    const Matrix matrix = weights.ReadMatrix("w", {2, 4});
    const auto loaded = weights.Finish();
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    EXPECT_EQ(loaded->parameter_count, 8);
    EXPECT_EQ(loaded->weight_bytes, matrix.buffer.bytes());
    EXPECT_EQ(matrix.dtype, c.dtype);
    std::vector<float> y(2);
    backend_->MatMul(Tensor(x.data(), DType::kF32, {1, 4}), matrix, Tensor(),
                     Tensor(y.data(), DType::kF32, {1, 2}));
    // x is rounded to 16 bits by the largest of a row.
    EXPECT_NEAR(y[0], c.want[0], 0.2f);
    EXPECT_NEAR(y[1], c.want[1], 1.0f);
  }
}

// The same bits from the original and from its quantised form, straight and transposed, with
// integers at odd addresses too.
TEST_F(QuantisedWeightsTest, PacksTheBitsOfTheOriginal) {
  const int64_t out_size = 18, in_size = 70;
  const Pair pair = RandomPair(out_size, in_size);
  for (const DType dtype : {DType::kI8, DType::kI4}) {
    const int64_t groups = ScaleCount(dtype, in_size);
    std::vector<int8_t> there, turned(pair.there.size());
    std::vector<float> scales;
    for (int64_t out = 0; out < out_size; ++out) {
      std::vector<int8_t> integers(static_cast<size_t>(in_size));
      std::vector<float> own(static_cast<size_t>(groups));
      QuantiseOutput(dtype, std::span(pair.there).subspan(static_cast<size_t>(out * in_size), 70),
                     integers, own);
      there.insert(there.end(), integers.begin(), integers.end());
      scales.insert(scales.end(), own.begin(), own.end());
      for (size_t in = 0; in < 70; ++in) {
        turned[in * 18 + static_cast<size_t>(out)] = integers[in];
      }
    }
    const int64_t per_byte = dtype == DType::kI8 ? 1 : 2;
    const auto stored = [&](const std::vector<int8_t>& integers, int64_t rows, int64_t columns) {
      std::string data(integers.size() / static_cast<size_t>(per_byte), '\0');
      StoreIntegers(dtype, integers, reinterpret_cast<std::byte*>(data.data()));
      return RawTensor{dtype == DType::kI8 ? "I8" : "U8", {rows, columns / per_byte}, data};
    };
    const RawTensor scale = dtype == DType::kI8
                                ? RawTensor{"F32", {out_size}, F32Data(scales)}
                                : RawTensor{"BF16", {out_size, groups}, BF16Data(scales)};
    const Safetensors file =
        File({{"odd", {"U8", {1}, "x"}},
              {"straight", stored(there, out_size, in_size)},
              {"straight.scale", scale},
              {"turned", stored(turned, in_size, out_size)},
              {"turned.scale", scale},
              {"original", {"F32", {out_size, in_size}, F32Data(pair.there)}},
              {"transposed", {"F32", {in_size, out_size}, F32Data(pair.turned)}}});
    Weights weights(file, *backend_, dtype);
    EXPECT_EQ(weights.StoredShape("turned"), Shape({in_size, out_size}));
    const std::string want = Packed(weights.ReadMatrix("original", {out_size, in_size}));
    EXPECT_EQ(Packed(weights.ReadMatrix("straight", {out_size, in_size})), want);
    EXPECT_EQ(Packed(weights.ReadTransposedMatrix("turned", {in_size, out_size})), want);
    EXPECT_EQ(Packed(weights.ReadTransposedMatrix("transposed", {in_size, out_size})), want);
    weights.Ignore("odd");
    EXPECT_EQ(weights.matrices().size(), 4u);
    EXPECT_EQ(weights.matrices()[2].name, "turned");
    EXPECT_TRUE(weights.matrices()[2].transposed);
    const auto loaded = weights.Finish();
    EXPECT_TRUE(loaded.ok()) << loaded.status();
  }
}

TEST_F(QuantisedWeightsTest, RefusesWhatDoesNotFit) {
  const RawTensor scale8 = {"F32", {2}, F32Data({1, 1})};
  const RawTensor scale4 = {"BF16", {2, 1}, BF16Data({1, 1})};
  EXPECT_THAT(Problem(DType::kI8, {{"w", kInt8}}),
              HasSubstr("w.scale is missing, expected F32 [2]"));
  EXPECT_THAT(Problem(DType::kI4, {{"w", kInt4}}),
              HasSubstr("w.scale is missing, expected BF16 [2, 1]"));
  EXPECT_THAT(Problem(DType::kI8, {{"w", {"I8", {4, 2}, kInt8.data}}, {"w.scale", scale8}}),
              HasSubstr("w is I8 [4, 2], expected int8 numbers of [2, 4]"));
  EXPECT_THAT(Problem(DType::kI4, {{"w", {"U8", {2, 4}, kInt8.data}}, {"w.scale", scale4}}),
              HasSubstr("w is U8 [2, 4], expected int4 numbers of [2, 4], two to a byte"));
  EXPECT_THAT(Problem(DType::kI8, {{"w", {"I8", {0, 4}, ""}}, {"w.scale", scale8}}),
              HasSubstr("w is I8 [0, 4], expected int8 numbers of [2, 4]"));
  EXPECT_THAT(Problem(DType::kI4, {{"w", {"U8", {4}, kInt4.data}}, {"w.scale", scale4}}),
              AllOf(HasSubstr("w is U8 [4], expected"), HasSubstr("\"w.scale\"")));
  EXPECT_THAT(Problem(DType::kI8, {{"w", kInt8}, {"w.scale", {"F32", {1}, F32Data({1})}}}),
              HasSubstr("w.scale is F32 [1], expected F32 [2]"));
  EXPECT_THAT(Problem(DType::kI8, {{"w", kInt8}, {"w.scale", {"BF16", {2}, BF16Data({1, 1})}}}),
              HasSubstr("w.scale is BF16 [2], expected F32 [2]"));
  EXPECT_THAT(Problem(DType::kI4, {{"w", kInt4}, {"w.scale", {"I8", {2, 1}, "ab"}}}),
              HasSubstr("w.scale is I8 [2, 1], expected BF16 [2, 1]"));
  // Both complaints at once.
  EXPECT_THAT(Problem(DType::kI8, {{"w", {"I8", {4, 2}, kInt8.data}}}),
              AllOf(HasSubstr("w is I8 [4, 2]"), HasSubstr("w.scale is missing")));
  // int4 where int8 is asked for and the other way round.
  EXPECT_THAT(Problem(DType::kI8, {{"w", kInt4}, {"w.scale", scale4}}),
              HasSubstr("w is U8 [2, 2], expected"));
  EXPECT_THAT(Problem(DType::kI4, {{"w", kInt8}, {"w.scale", scale8}}),
              HasSubstr("w is I8 [2, 4], expected F32, F16 or BF16 [2, 4]"));
  EXPECT_THAT(Problem(DType::kBF16, {{"w", kInt8}, {"w.scale", scale8}}),
              HasSubstr("w is I8 [2, 4], expected F32, F16 or BF16 [2, 4]"));
}

TEST_F(QuantisedWeightsTest, RefusesHostileNumbers) {
  for (const float scale : {-1.0f, kNan, -kNan, kInf, -kInf, std::numeric_limits<float>::max()}) {
    EXPECT_THAT(Problem(DType::kI8, {{"w", kInt8}, {"w.scale", {"F32", {2}, F32Data({1, scale})}}}),
                HasSubstr("w.scale has the value "));
  }
  for (const float scale : {kNan, kInf, -kInf, 0x1p126f, -0x1p126f}) {
    EXPECT_THAT(
        Problem(DType::kI4, {{"w", kInt4}, {"w.scale", {"BF16", {2, 1}, BF16Data({1, scale})}}}),
        HasSubstr("at index 1, expected one from "));
  }
  RawTensor low = kInt8;
  low.data[5] = '\x80';
  EXPECT_THAT(Problem(DType::kI8, {{"w", low}, {"w.scale", {"F32", {2}, F32Data({1, 1})}}}),
              HasSubstr("w has the integer -128 at index 5, expected one from -127 to 127"));
}

TEST_F(QuantisedWeightsTest, IntegersAreNoVectorAndNoTable) {
  const Safetensors file = File({{"table", kInt8}, {"vector", {"I8", {2}, "ab"}}});
  Weights weights(file, *backend_, DType::kI8);
  weights.ReadTable("table", {2, 4});
  weights.ReadVector("vector", {2});
  EXPECT_THAT(std::string(weights.Finish().status().message()),
              AllOf(HasSubstr("table is I8 [2, 4], expected F32, F16 or BF16 [2, 4]"),
                    HasSubstr("vector is I8 [2], expected F32, F16 or BF16 [2]")));
}

}  // namespace
}  // namespace eddy
