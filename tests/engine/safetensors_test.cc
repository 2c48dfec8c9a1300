// SPDX-License-Identifier: Apache-2.0
#include "engine/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/support/model_files.h"

namespace eddy {
namespace {

using testing::HasSubstr;

// ---- sound files ----

TEST(SafetensorsTest, ReadsTypesShapesAndNumbers) {
  const std::string bytes =
      SafetensorsBytes(R"({"__metadata__":{"format":"pt"},)"
                       R"("b":{"dtype":"BF16","shape":[2,1],"data_offsets":[8,12]},)"
                       R"("a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                       R"("scalar":{"dtype":"F16","shape":[],"data_offsets":[12,14]},)"
                       R"("none":{"dtype":"F32","shape":[3,0,2],"data_offsets":[12,12]}}   )",
                       "AAAABBBBccddee");
  const auto file = Safetensors::Parse(Bytes(bytes), "m.safetensors");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->file(), "m.safetensors");
  EXPECT_EQ(file->tensors().size(), 4u);
  const StoredTensor* a = file->Find("a");
  ASSERT_NE(a, nullptr);
  EXPECT_EQ(a->type, StoredType::kF32);
  EXPECT_EQ(a->shape, Shape({2}));
  EXPECT_EQ(std::memcmp(a->data.data(), "AAAABBBB", 8), 0);
  const StoredTensor* b = file->Find("b");
  ASSERT_NE(b, nullptr);
  EXPECT_EQ(b->type, StoredType::kBF16);
  EXPECT_EQ(b->shape, Shape({2, 1}));
  EXPECT_EQ(std::memcmp(b->data.data(), "ccdd", 4), 0);
  ASSERT_NE(file->Find("scalar"), nullptr);
  EXPECT_EQ(file->Find("scalar")->shape.rank(), 0);
  ASSERT_NE(file->Find("none"), nullptr);
  EXPECT_TRUE(file->Find("none")->data.empty());
  EXPECT_EQ(file->Find("__metadata__"), nullptr);
  EXPECT_EQ(file->Find("c"), nullptr);
}

TEST(SafetensorsTest, OpensAFileAndSurvivesMoves) {
  const TestFolder folder;
  WriteBytes(folder / "m.safetensors", SafetensorsBytes({{"x", {{2}, {1.0f, 2.0f}}}}));
  auto opened = Safetensors::Open(folder / "m.safetensors");
  ASSERT_TRUE(opened.ok()) << opened.status();
  const Safetensors file = *std::move(opened);
  float values[2] = {};
  std::memcpy(values, file.Find("x")->data.data(), sizeof(values));
  EXPECT_EQ(values[0], 1.0f);
  EXPECT_EQ(values[1], 2.0f);
}

TEST(SafetensorsTest, OpenSaysWhatIsNotAFile) {
  const TestFolder folder;
  const auto missing = Safetensors::Open(folder / "none.safetensors");
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(missing.status().message()), HasSubstr("none.safetensors"));
  const auto is_folder = Safetensors::Open(folder.path());
  EXPECT_EQ(is_folder.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(is_folder.status().message()), HasSubstr("is a folder"));
  const auto device = Safetensors::Open("/dev/zero");
  EXPECT_EQ(device.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(device.status().message()), HasSubstr("not a regular file"));
  WriteBytes(folder / "empty.safetensors", "");
  const auto empty = Safetensors::Open(folder / "empty.safetensors");
  EXPECT_EQ(empty.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(empty.status().message()), HasSubstr("has 0 bytes"));
}

// ---- broken files ----

struct BrokenFile {
  const char* name;
  std::string bytes;
  const char* message;
};

std::string Length(uint64_t length, std::string_view rest) {
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, sizeof(length));
  return bytes.append(rest);
}

// One tensor "t" whose entry is `entry`, before eight bytes of data.
std::string Entry(const std::string& entry) {
  return SafetensorsBytes("{\"t\":" + entry + "}", "12345678");
}

std::string Nested(int depth) {
  const auto count = static_cast<size_t>(depth);
  return std::string(count, '[') + std::string(count, ']');
}

const BrokenFile kBrokenFiles[] = {
    {"seven_bytes", "1234567", "has 7 bytes, expected a header length"},
    {"length_beyond_end", Length(100, "{}"), "header has 100 bytes, but only 2 follow"},
    {"length_huge", Length(UINT64_MAX, "{}"), "header has 18446744073709551615 bytes, at most"},
    {"length_that_wraps", Length(UINT64_MAX - 7, "{}"), "at most 16777216"},
    {"length_negative_as_signed", Length(uint64_t{1} << 63, "{}"), "at most 16777216"},
    {"length_over_limit", Length((uint64_t{16} << 20) + 1, "{}"), "at most 16777216"},
    {"length_zero", Length(0, "{}"), "does not begin with '{'"},
    {"pickle", Length(3, "\x80\x02}"), "does not begin with '{'"},
    {"leading_space", SafetensorsBytes(" {}", ""), "does not begin with '{'"},
    {"header_is_array", SafetensorsBytes("[]", ""), "does not begin with '{'"},
    {"header_cut", SafetensorsBytes("{\"t\":", ""), "is not valid JSON"},
    {"header_trailing", SafetensorsBytes("{} {}", ""), "is not valid JSON"},
    {"header_nul_padded", SafetensorsBytes(std::string_view("{}\0", 3), ""), "is not valid JSON"},
    {"header_bad_utf8", SafetensorsBytes("{\"\xff\":1}", ""), "is not valid JSON"},
    {"header_deep", SafetensorsBytes("{\"t\":" + Nested(5000) + "}", ""), "more than 64 deep"},
    {"no_tensor", SafetensorsBytes("{}", ""), "holds no tensor"},
    {"only_metadata", SafetensorsBytes("{\"__metadata__\":{}}", ""), "holds no tensor"},
    {"name_twice",
     SafetensorsBytes(R"({"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                      R"("t":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
                      "12345678"),
     "key \"t\" occurs twice"},
    {"field_twice", Entry(R"({"dtype":"F32","dtype":"F16","shape":[2],"data_offsets":[0,8]})"),
     "key \"dtype\" occurs twice"},
    {"entry_is_number", Entry("7"), "tensor \"t\" is 7, expected an object"},
    {"entry_is_null", Entry("null"), "tensor \"t\" is null, expected an object"},
    {"no_dtype", Entry(R"({"shape":[2],"data_offsets":[0,8]})"), "\"t\" has no dtype"},
    {"no_shape", Entry(R"({"dtype":"F32","data_offsets":[0,8]})"), "\"t\" has no shape"},
    {"no_offsets", Entry(R"({"dtype":"F32","shape":[2]})"), "\"t\" has no data_offsets"},
    {"dtype_integer", Entry(R"({"dtype":"I64","shape":[1],"data_offsets":[0,8]})"),
     "dtype \"I64\", expected F32, F16, BF16, I8 or U8"},
    {"dtype_eight_bit", Entry(R"({"dtype":"F8_E4M3","shape":[8],"data_offsets":[0,8]})"),
     "F8_E4M3"},
    {"dtype_lower_case", Entry(R"({"dtype":"f32","shape":[2],"data_offsets":[0,8]})"), "dtype"},
    {"dtype_number", Entry(R"({"dtype":32,"shape":[2],"data_offsets":[0,8]})"), "has dtype 32"},
    {"shape_number", Entry(R"({"dtype":"F32","shape":2,"data_offsets":[0,8]})"),
     "has shape 2, expected an array"},
    {"shape_negative", Entry(R"({"dtype":"F32","shape":[-2],"data_offsets":[0,8]})"),
     "dimension -2, expected a whole number"},
    {"shape_fraction", Entry(R"({"dtype":"F32","shape":[2.0],"data_offsets":[0,8]})"),
     "dimension 2.0, expected a whole number"},
    {"shape_string", Entry(R"({"dtype":"F32","shape":["2"],"data_offsets":[0,8]})"), "dimension"},
    {"shape_rank_5", Entry(R"({"dtype":"F32","shape":[1,1,1,1,2],"data_offsets":[0,8]})"),
     "has 5 dimensions, at most 4"},
    {"shape_overflows_to_2",
     Entry(R"({"dtype":"F32","shape":[4294967296,4294967296,2],"data_offsets":[0,8]})"),
     "more than 281474976710656 elements"},
    {"shape_beyond_int64",
     Entry(R"({"dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,8]})"),
     "dimension 18446744073709551615"},
    {"shape_beyond_uint64",
     Entry(R"({"dtype":"F32","shape":[36893488147419103232],"data_offsets":[0,8]})"), "dimension"},
    {"shape_hidden_by_zero",
     Entry(R"({"dtype":"F32","shape":[0,4611686018427387904,4294967296],"data_offsets":[0,0]})"),
     "more than 281474976710656 elements"},
    {"offsets_one", Entry(R"({"dtype":"F32","shape":[2],"data_offsets":[8]})"),
     "data_offsets [8], expected two"},
    {"offsets_three", Entry(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8,8]})"),
     "expected two"},
    {"offsets_negative", Entry(R"({"dtype":"F32","shape":[2],"data_offsets":[-8,0]})"),
     "expected two whole numbers"},
    {"offsets_object", Entry(R"({"dtype":"F32","shape":[2],"data_offsets":{"0":0,"1":8}})"),
     "expected two"},
    {"offsets_backwards", Entry(R"({"dtype":"F32","shape":[2],"data_offsets":[8,0]})"),
     "end before they begin"},
    {"offsets_beyond_end", Entry(R"({"dtype":"F32","shape":[4],"data_offsets":[0,16]})"),
     "but the file holds 8 bytes of data"},
    {"offsets_huge",
     Entry(
         R"({"dtype":"F32","shape":[2],"data_offsets":[9223372036854775800,9223372036854775807]})"),
     "but the file holds 8 bytes"},
    {"too_few_bytes", Entry(R"({"dtype":"F32","shape":[3],"data_offsets":[0,8]})"),
     "has 8 bytes of data, expected 12 for F32 [3]"},
    {"too_many_bytes", Entry(R"({"dtype":"BF16","shape":[2],"data_offsets":[0,8]})"),
     "has 8 bytes of data, expected 4 for BF16 [2]"},
    {"zero_shape_with_bytes", Entry(R"({"dtype":"F32","shape":[0],"data_offsets":[0,8]})"),
     "has 8 bytes of data, expected 0"},
    {"overlap",
     SafetensorsBytes(R"({"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                      R"("u":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
                      "12345678"),
     "\"u\" begins at byte 4 of the data, expected 8"},
    {"same_place",
     SafetensorsBytes(R"({"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                      R"("u":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
                      "12345678"),
     "begins at byte 0 of the data, expected 8"},
    {"gap",
     SafetensorsBytes(R"({"t":{"dtype":"F16","shape":[1],"data_offsets":[0,2]},)"
                      R"("u":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
                      "12345678"),
     "\"u\" begins at byte 4 of the data, expected 2"},
    {"gap_at_start", Entry(R"({"dtype":"F32","shape":[1],"data_offsets":[4,8]})"),
     "begins at byte 4 of the data, expected 0"},
    {"bytes_left_over", Entry(R"({"dtype":"F32","shape":[1],"data_offsets":[0,4]})"),
     "has 4 bytes after its last tensor"},
    {"name_unprintable", SafetensorsBytes("{\"a\\nb\\u001b[31m\":7}", ""),
     "tensor \"a\\nb\\u001b[31m\" is 7"},
};

class BrokenFileTest : public testing::TestWithParam<BrokenFile> {};

TEST_P(BrokenFileTest, IsRefusedWithAReason) {
  const auto file = Safetensors::Parse(Bytes(GetParam().bytes), "dir/m.safetensors");
  ASSERT_FALSE(file.ok());
  EXPECT_EQ(file.status().code(), absl::StatusCode::kInvalidArgument);
  const std::string message(file.status().message());
  EXPECT_THAT(message, HasSubstr(GetParam().message));
  EXPECT_THAT(message, testing::StartsWith("dir/m.safetensors"));
  EXPECT_LT(message.size(), 600u);
}

INSTANTIATE_TEST_SUITE_P(All, BrokenFileTest, testing::ValuesIn(kBrokenFiles),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(SafetensorsTest, EveryTruncationIsRefused) {
  const std::string bytes = ReadBytes(std::string(EDDY_SOURCE_DIR) +
                                      "/tests/golden/linear_transformer/plain/model.safetensors");
  ASSERT_TRUE(Safetensors::Parse(Bytes(bytes), "m").ok());
  for (size_t size = 0; size < bytes.size(); ++size) {
    // A copy of its own, so that AddressSanitizer sees a read past the end.
    const std::vector<char> cut(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size));
    const auto file = Safetensors::Parse(Bytes({cut.data(), cut.size()}), "m");
    ASSERT_EQ(file.status().code(), absl::StatusCode::kInvalidArgument) << size;
    if (size > 64) size += 36;
  }
}

}  // namespace
}  // namespace eddy
