// SPDX-License-Identifier: Apache-2.0
#include "quantize/quality.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "engine/quantise_model.h"
#include "tests/support/model_files.h"

namespace eddy {
namespace {

using testing::HasSubstr;

const std::string kShakespeare = std::string(EDDY_SOURCE_DIR) + "/models/shakespeare";

TEST(FindTextTest, TakesTheFlagsPartOrTheModelsOwn) {
  const TestFolder folder;
  WriteBytes(folder / "t", "0123456789");
  WriteBytes(folder / "config.json", "{}");
  QuantizeFlags flags;
  flags.model_folder = folder.path();
  EXPECT_FALSE((*FindText(flags)).has_value());
  flags.text = folder / "t";
  EXPECT_EQ((*FindText(flags))->bytes, "0123456789");
  flags.text_begin = 3;
  flags.text_bytes_max = 4;
  EXPECT_EQ((*FindText(flags))->bytes, "3456");
  EXPECT_EQ((*FindText(flags))->begin_byte, 3);
  for (const int64_t begin : {9, 10, 11}) {
    flags.text_begin = begin;
    const auto text = FindText(flags);
    EXPECT_EQ(text.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(text.status().message()), HasSubstr("expected at least 2"));
  }
  flags.text = folder / "none";
  EXPECT_EQ(FindText(flags).status().code(), absl::StatusCode::kNotFound);

  QuantizeFlags own;
  own.model_folder = kShakespeare;
  own.text_bytes_max = 10;
  EXPECT_EQ((*FindText(own))->begin_byte, 1003854);
  EXPECT_EQ((*FindText(own))->bytes.size(), 10u);
  own.no_text = true;
  EXPECT_FALSE((*FindText(own)).has_value());
}

// The model that ships, on a part of its held-out text: what int8 costs is small, int4 costs more.
TEST(MeasureLossesTest, ComparesTheFolders) {
  const TestFolder folder;
  QuantizeFlags flags;
  flags.model_folder = kShakespeare;
  flags.text_bytes_max = 2048;
  flags.thread_count = 1;
  const std::string text = (*FindText(flags))->bytes;
  BackendOptions options;
  options.thread_count = 1;
  const auto backend = *MakeBackend(options);
  options.numeric_path = "int8dot";
  const bool has_int8dot = MakeBackend(options).ok();
  double cost[2] = {};
  for (const DType dtype : {DType::kI8, DType::kI4}) {
    flags.dtype = dtype;
    flags.out_folder = folder / DTypeName(dtype);
    ASSERT_TRUE(QuantiseModel(kShakespeare, flags.out_folder, *backend, {dtype, nullptr}).ok());
    const auto rows =
        MeasureLosses(flags, text, [](const std::string&, int64_t, int64_t) { return true; });
    ASSERT_TRUE(rows.ok()) << rows.status();
    ASSERT_EQ(rows->size(), dtype == DType::kI8 && has_int8dot ? 3u : 2u);
    EXPECT_EQ((*rows)[0].dtype, DType::kBF16);
    EXPECT_GT((*rows)[0].loss.nats_per_byte(), 1.0);
    EXPECT_LT((*rows)[0].loss.nats_per_byte(), 1.8);
    for (size_t i = 1; i < rows->size(); ++i) {
      EXPECT_EQ((*rows)[i].dtype, dtype);
      const double more = (*rows)[i].loss.nats_per_byte() - (*rows)[0].loss.nats_per_byte();
      EXPECT_LT(std::abs(more), dtype == DType::kI8 ? 0.005 : 0.05);
      cost[dtype == DType::kI8 ? 0 : 1] = std::abs(more);
    }
    if (rows->size() == 3) {
      EXPECT_EQ((*rows)[2].numeric_path, "int8dot");
      EXPECT_NE((*rows)[2].loss.nats, (*rows)[1].loss.nats);
    }
  }
  EXPECT_LT(cost[0], cost[1]);
}

TEST(MeasureLossesTest, StopsWhenTold) {
  QuantizeFlags flags;
  flags.model_folder = kShakespeare;
  const auto rows = MeasureLosses(flags, "To be, or not to be",
                                  [](const std::string&, int64_t, int64_t) { return false; });
  EXPECT_EQ(rows.status().code(), absl::StatusCode::kCancelled);
}

}  // namespace
}  // namespace eddy
