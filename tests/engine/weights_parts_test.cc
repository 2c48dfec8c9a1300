// SPDX-License-Identifier: Apache-2.0
// Weights of tensors that are read in parts, twice (tied embeddings), or to compute with.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/safetensors.h"
#include "engine/weights.h"
#include "kernels/bf16.h"
#include "kernels/quantise.h"
#include "tests/support/model_files.h"

namespace eddy {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr DType kWeightDTypesToTry[] = {DType::kF32, DType::kBF16, DType::kI8, DType::kI4};

class WeightsPartsTest : public testing::Test {
 protected:
  WeightsPartsTest() {
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
  std::string Packed(const Matrix& matrix) {
    std::string bytes(static_cast<size_t>(matrix.buffer.bytes()), '\0');
    backend_->CopyOut(matrix.buffer.data(), bytes.data(), matrix.buffer.bytes());
    return bytes;
  }
  static std::string Message(const absl::StatusOr<LoadedWeights>& loaded) {
    EXPECT_EQ(loaded.status().code(), absl::StatusCode::kInvalidArgument) << loaded.status();
    return std::string(loaded.status().message());
  }

  std::unique_ptr<Backend> backend_;
  std::string bytes_;
};

std::vector<float> Ramp(size_t count) {
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i) values[i] = static_cast<float>(i) * 0.25f - 3.0f;
  return values;
}

// A file whose tensor "all" [5, 3] has the numbers of "first" [2, 3] and "rest" [3, 3], in one of
// the float types.
std::string FusedFile(const std::string& type) {
  const std::vector<float> all = Ramp(15);
  nlohmann::json header;
  std::string data;
  const auto add = [&](const char* name, int64_t rows, size_t begin) {
    const size_t at = data.size();
    for (size_t i = begin; i < begin + static_cast<size_t>(rows) * 3; ++i) {
      const uint16_t half = F32ToBf16(all[i]);
      // Ramp's numbers are multiples of 1/4: the bits of an f16 follow from those of the f32.
      uint32_t bits = 0;
      std::memcpy(&bits, &all[i], sizeof(bits));
      const uint16_t f16 = bits == 0 ? uint16_t{0}
                                     : static_cast<uint16_t>((bits >> 16 & 0x8000) |
                                                             (((bits >> 23 & 0xff) - 112) << 10) |
                                                             (bits >> 13 & 0x3ff));
      if (type == "F32") data.append(reinterpret_cast<const char*>(&all[i]), 4);
      if (type == "BF16") data.append(reinterpret_cast<const char*>(&half), 2);
      if (type == "F16") data.append(reinterpret_cast<const char*>(&f16), 2);
    }
    header[name] = {{"dtype", type}, {"shape", {rows, 3}}, {"data_offsets", {at, data.size()}}};
  };
  add("all", 5, 0);
  add("first", 2, 0);
  add("rest", 3, 6);
  return SafetensorsBytes(header.dump(), data);
}

TEST_F(WeightsPartsTest, RowsAreTheMatrixOfThoseRows) {
  for (const char* type : {"F32", "F16", "BF16"}) {
    const Safetensors file = File(FusedFile(type));
    for (const DType dtype : kWeightDTypesToTry) {
      Weights weights(file, *backend_, dtype);
      const Matrix rest = weights.ReadMatrixRows("all", {5, 3}, 2, 5);  // in any order
      const Matrix first = weights.ReadMatrixRows("all", {5, 3}, 0, 2);
      EXPECT_EQ(rest.out_size, 3);
      EXPECT_EQ(rest.in_size, 3);
      EXPECT_EQ(Packed(first), Packed(weights.ReadMatrix("first", {2, 3}))) << type;
      EXPECT_EQ(Packed(rest), Packed(weights.ReadMatrix("rest", {3, 3}))) << type;
      const auto loaded = weights.Finish();
      ASSERT_TRUE(loaded.ok()) << loaded.status();
      EXPECT_EQ(loaded->parameter_count, 30);
      ASSERT_EQ(weights.matrices().size(), 3u);
      EXPECT_EQ(weights.matrices()[0].name, "all");
      EXPECT_FALSE(weights.matrices()[0].transposed);
      EXPECT_FALSE(weights.matrices()[0].table);
    }
  }
}

TEST_F(WeightsPartsTest, RowsOfAQuantisedMatrix) {
  const int64_t out_size = 6, in_size = 70;
  const std::vector<float> floats = Ramp(6 * 70);
  for (const DType dtype : {DType::kI8, DType::kI4}) {
    const auto scale_count = static_cast<size_t>(ScaleCount(dtype, in_size));
    const auto row_bytes = static_cast<size_t>(IntegerBytes(dtype, in_size));
    std::string integers, scales;
    for (size_t out = 0; out < 6; ++out) {
      std::vector<int8_t> row(70);
      std::vector<float> own(scale_count);
      QuantiseOutput(dtype, std::span(floats).subspan(out * 70, 70), row, own);
      std::vector<std::byte> bytes(row_bytes);
      StoreIntegers(dtype, row, bytes.data());
      integers.append(reinterpret_cast<const char*>(bytes.data()), row_bytes);
      for (const float scale : own) {
        const uint16_t half = F32ToBf16(scale);
        if (dtype == DType::kI8) scales.append(reinterpret_cast<const char*>(&scale), 4);
        if (dtype == DType::kI4) scales.append(reinterpret_cast<const char*>(&half), 2);
      }
    }
    const std::string original(reinterpret_cast<const char*>(floats.data()), 4 * floats.size());
    nlohmann::json header;
    const size_t a = original.size(), b = a + scales.size(), c = b + integers.size();
    header["original"] = {
        {"dtype", "F32"}, {"shape", {out_size, in_size}}, {"data_offsets", {0, a}}};
    header["w.scale"] = {{"dtype", dtype == DType::kI8 ? "F32" : "BF16"},
                         {"shape", {out_size}},
                         {"data_offsets", {a, b}}};
    if (dtype == DType::kI4) header["w.scale"]["shape"] = {out_size, scale_count};
    header["w"] = {{"dtype", dtype == DType::kI8 ? "I8" : "U8"},
                   {"shape", {out_size, row_bytes}},
                   {"data_offsets", {b, c}}};
    const std::string sound = SafetensorsBytes(header.dump(), original + scales + integers);
    {
      const Safetensors file = File(sound);
      Weights weights(file, *backend_, dtype);
      for (const int64_t begin : {0, 2}) {
        const int64_t end = begin == 0 ? 2 : out_size;
        EXPECT_EQ(Packed(weights.ReadMatrixRows("w", {out_size, in_size}, begin, end)),
                  Packed(weights.ReadMatrixRows("original", {out_size, in_size}, begin, end)));
      }
      const auto loaded = weights.Finish();
      ASSERT_TRUE(loaded.ok()) << loaded.status();
      EXPECT_EQ(loaded->parameter_count, 2 * out_size * in_size);
      EXPECT_EQ(weights.matrices().size(), 2u);
    }
    if (dtype == DType::kI4) continue;
    std::string broken = sound;
    broken[broken.size() - integers.size() + 3 * 70 + 1] = '\x80';
    const Safetensors file = File(broken);
    Weights weights(file, *backend_, dtype);
    weights.Ignore("original");
    weights.ReadMatrixRows("w", {out_size, in_size}, 0, 3);
    weights.ReadMatrixRows("w", {out_size, in_size}, 3, 6);
    EXPECT_THAT(Message(weights.Finish()),
                AllOf(HasSubstr("(1 problem)"), HasSubstr("-128 at index 211,")));
  }
}

TEST_F(WeightsPartsTest, PartsOfAVector) {
  const Safetensors file = File(SafetensorsBytes(
      {{"bias", {{1, 1, 5}, {1, 2, 3, 4, 5}}}, {"taps", {{3, 1, 2}, {1, 2, 3, 4, 5, 6}}}}));
  Weights weights(file, *backend_, DType::kBF16);
  const Tensor end = weights.ReadVectorPart("bias", {5}, 3, 5);
  const Tensor begin = weights.ReadVectorPart("bias", {5}, 0, 3, {0.0f, 3.0f});
  const Tensor one = weights.ReadVectorPart("taps", {3, 2}, 0, 1);
  const Tensor two = weights.ReadVectorPart("taps", {3, 2}, 1, 3);
  const auto loaded = weights.Finish();
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_THAT(Floats(begin), ElementsAre(1, 2, 3));
  EXPECT_THAT(Floats(end), ElementsAre(4, 5));
  EXPECT_EQ(two.shape(), Shape({2, 2}));
  EXPECT_THAT(Floats(one), ElementsAre(1, 2));
  EXPECT_THAT(Floats(two), ElementsAre(3, 4, 5, 6));
  EXPECT_EQ(loaded->parameter_count, 11);
}

TEST_F(WeightsPartsTest, EachTensorInPartsIsToldOfOnce) {
  const Safetensors file =
      File(SafetensorsBytes({{"vector", {{3}, {1, 2, 3}}}, {"matrix", {{2, 2}, {1, 2, 3, kInf}}}}));
  {
    Weights weights(file, *backend_, DType::kF32);
    for (const int64_t i : {0, 1}) {
      weights.ReadMatrixRows("missing", {2, 8}, i, i + 1);
      weights.ReadVectorPart("vector", {2}, i, i + 1);
      weights.ReadMatrixRows("matrix", {2, 2}, i, i + 1);
    }
    EXPECT_THAT(Message(weights.Finish()),
                AllOf(HasSubstr("(3 problems)"), HasSubstr("missing is missing, expected [2, 8]"),
                      HasSubstr("vector is F32 [3], expected [2]"),
                      HasSubstr("matrix has the value inf at index 3, expected a finite f32")));
  }
  Weights weights(file, *backend_, DType::kF32);
  const Tensor part = weights.ReadVectorPart("vector", {3}, 1, 3, {2.0f, 3.0f});
  EXPECT_FALSE(part.present());
  EXPECT_EQ(part.shape(), Shape({2}));
  weights.Ignore("matrix");
  EXPECT_THAT(Message(weights.Finish()),
              HasSubstr("vector has the value 2 at index 1, expected one above 2"));
}

using WeightsPartsDeathTest = WeightsPartsTest;

TEST_F(WeightsPartsDeathTest, PartsAreAllOfTheTensorOnce) {
  const Safetensors file = File(SafetensorsBytes({{"v", {{4}, {1, 2, 3, 4}}}}));
  const std::vector<std::vector<int64_t>> bad = {{0, 2}, {1, 4}, {0, 2, 3, 4}, {0, 3, 2, 4}};
  for (const std::vector<int64_t>& ends : bad) {
    const auto read = [&] {
      Weights weights(file, *backend_, DType::kF32);
      for (size_t i = 0; i < ends.size(); i += 2) {
        weights.ReadVectorPart("v", {4}, ends[i], ends[i + 1]);
      }
      (void)weights.Finish();
    };
    EXPECT_DEATH(read(), "in the parts of v");
  }
  Weights weights(file, *backend_, DType::kF32);
  EXPECT_DEATH(weights.ReadVectorPart("v", {4}, 2, 5), "of 4 of v");
  EXPECT_DEATH(weights.ReadVectorPart("v", {4}, 2, 2), "of 4 of v");
  weights.ReadVectorPart("v", {4}, 0, 4);
  EXPECT_DEATH(weights.ReadVector("v", {4}), "v is read twice");
}

// ---- tied embeddings ----

TEST_F(WeightsPartsTest, ATableMayBeAMatrixToo) {
  const std::string bytes = SafetensorsBytes(
      {{"embedding", {{3, 2}, {1, 2, 3, 4, 5, 6}}}, {"same", {{3, 2}, {1, 2, 3, 4, 5, 6}}}});
  const Safetensors file = File(bytes);
  for (const DType dtype : kWeightDTypesToTry) {
    for (const bool table_first : {true, false}) {
      Weights weights(file, *backend_, dtype);
      Tensor table;
      if (table_first) table = weights.ReadTable("embedding", {3, 2});
      const Matrix head = weights.ReadMatrix("embedding", {3, 2});
      if (!table_first) table = weights.ReadTable("embedding", {3, 2});
      EXPECT_EQ(Packed(head), Packed(weights.ReadMatrix("same", {3, 2})));
      const auto loaded = weights.Finish();
      ASSERT_TRUE(loaded.ok()) << loaded.status();
      EXPECT_EQ(table.dtype(), dtype == DType::kF32 ? DType::kF32 : DType::kBF16);
      EXPECT_EQ(loaded->parameter_count, 12);
      EXPECT_EQ(loaded->weight_bytes, table.bytes() + 2 * head.buffer.bytes());
      EXPECT_TRUE(weights.matrices()[0].table);
      EXPECT_FALSE(weights.matrices()[1].table);
    }
  }
}

TEST_F(WeightsPartsTest, ATiedTableIsToldOfOnce) {
  const Safetensors file = File(SafetensorsBytes({{"embedding", {{1, 2}, {1, kInf}}}}));
  for (const Shape& shape : {Shape{1, 2}, Shape{2, 1}}) {
    Weights weights(file, *backend_, DType::kI8);
    EXPECT_FALSE(weights.ReadTable("embedding", shape).present());
    EXPECT_EQ(weights.ReadMatrix("embedding", shape).out_size, 0);
    EXPECT_THAT(Message(weights.Finish()), HasSubstr("(1 problem): embedding "));
  }
  // It cannot be integers.
  const Safetensors integers =
      File(SafetensorsBytes(R"({"e":{"dtype":"I8","shape":[1,4],"data_offsets":[4,8]},)"
                            R"("e.scale":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
                            std::string("\x00\x00\x80\x3F\x01\x02\x03\x04", 8)));
  Weights weights(integers, *backend_, DType::kI8);
  weights.ReadTable("e", {1, 4});
  weights.ReadMatrix("e", {1, 4});
  EXPECT_THAT(Message(weights.Finish()),
              HasSubstr("(1 problem): e is I8 [1, 4], expected F32, F16 or BF16 [1, 4]"));
}

TEST_F(WeightsPartsDeathTest, AMatrixIsReadOnce) {
  const Safetensors file = File(SafetensorsBytes({{"w", {{1, 2}, {1, 2}}}}));
  Weights weights(file, *backend_, DType::kF32);
  weights.ReadMatrix("w", {1, 2});
  weights.ReadTable("w", {1, 2});
  EXPECT_DEATH(weights.ReadMatrix("w", {1, 2}), "w is read twice");
  EXPECT_DEATH(weights.ReadTable("w", {1, 2}), "w is read twice");
  EXPECT_DEATH(weights.ReadMatrixRows("w", {1, 2}, 0, 1), "w is read twice");
}

// ---- numbers to compute with ----

TEST_F(WeightsPartsTest, NumbersComeBackAsAVectorAndAsAMatrix) {
  const Safetensors file = File(SafetensorsBytes({{"rate", {{1, 2}, {0.0f, 1.0f}}},
                                                  {"w", {{2, 2}, {1, 2, 3, 4}}},
                                                  {"twice", {{4, 2}, {1, 2, 1, 2, 3, 4, 3, 4}}}}));
  for (const DType dtype : kWeightDTypesToTry) {
    Weights weights(file, *backend_, dtype);
    std::vector<float> rate = weights.ReadNumbers("rate", {2});
    ASSERT_THAT(rate, ElementsAre(0.0f, 1.0f));
    for (float& number : rate) number = -std::exp(number);
    const Tensor vector = weights.UploadNumbers("rate", rate, {2});
    const std::vector<float> w = weights.ReadNumbers("w", {2, 2});
    ASSERT_THAT(w, ElementsAre(1, 2, 3, 4));
    const std::vector<float> repeated = {w[0], w[1], w[0], w[1], w[2], w[3], w[2], w[3]};
    const Matrix matrix = weights.PackNumbers("w", repeated, {4, 2});
    EXPECT_EQ(Packed(matrix), Packed(weights.ReadMatrix("twice", {4, 2})));
    const auto loaded = weights.Finish();
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    EXPECT_THAT(Floats(vector), ElementsAre(-1.0f, -std::exp(1.0f)));
    EXPECT_EQ(loaded->parameter_count, 2 + 4 + 8);  // as the file has them
    EXPECT_EQ(loaded->weight_bytes, 8 + 2 * matrix.buffer.bytes());
    EXPECT_EQ(weights.matrices().size(), 1u);
  }
}

TEST_F(WeightsPartsTest, NumbersThatFailAreEmptyAndCanBePassedOn) {
  const Safetensors file =
      File(SafetensorsBytes({{"short", {{1}, {1}}}, {"bad", {{1}, {kInf}}}, {"low", {{1}, {-1}}}}));
  Weights weights(file, *backend_, DType::kF32);
  EXPECT_TRUE(weights.ReadNumbers("missing", {1 << 20, 1 << 20}).empty());
  EXPECT_TRUE(weights.ReadNumbers("short", {2}).empty());
  EXPECT_TRUE(weights.ReadNumbers("bad", {1}).empty());
  EXPECT_TRUE(weights.ReadNumbers("low", {1}, {0.0f, 1.0f}).empty());
  const Tensor vector = weights.UploadNumbers("short", {}, {2});
  EXPECT_FALSE(vector.present());
  EXPECT_EQ(vector.shape(), Shape({2}));
  EXPECT_EQ(weights.PackNumbers("short", {}, {2, 1}).out_size, 0);
  EXPECT_THAT(Message(weights.Finish()), HasSubstr("(4 problems)"));
}

TEST_F(WeightsPartsTest, NumbersMadeMustBeFiniteToo) {
  const Safetensors file = File(SafetensorsBytes({{"rate", {{1}, {100.0f}}}, {"w", {{1}, {1}}}}));
  {
    Weights weights(file, *backend_, DType::kBF16);
    std::vector<float> rate = weights.ReadNumbers("rate", {1});
    rate[0] = std::exp(rate[0]);
    weights.UploadNumbers("rate", rate, {1});
    weights.Ignore("w");
    EXPECT_THAT(Message(weights.Finish()),
                HasSubstr("(1 problem): rate leads to a number that is not finite as f32"));
  }
  Weights weights(file, *backend_, DType::kBF16);
  weights.ReadNumbers("w", {1});
  weights.Ignore("rate");
  const std::vector<float> largest = {std::numeric_limits<float>::max()};
  weights.PackNumbers("w", largest, {1, 1});
  EXPECT_THAT(Message(weights.Finish()),
              HasSubstr("w leads to a number that is not finite as bf16"));
}

}  // namespace
}  // namespace eddy
