// SPDX-License-Identifier: Apache-2.0
#include "quantize/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace eddy {
namespace {

using testing::AllOf;
using testing::HasSubstr;

TEST(QuantizeReportTest, HasALineForEachMatrixAndOneForAll) {
  QuantiseReport report;
  report.tensors = {{"a.weight", {2, 3}, 0.00712345, 0.25, 1200, 700},
                    {"longer.weight", {40, 50}, 0.0, 0.0, 34, 20}};
  report.file_bytes_before = 2000;
  report.file_bytes_after = 1000;
  EXPECT_EQ(FormatReport(report),
            "matrix                    shape  relative error  largest error  bytes before   "
            "bytes after\n"
            "a.weight                 [2, 3]        0.007123           0.25          1200   "
            "        700\n"
            "longer.weight          [40, 50]        0.000000              0            34   "
            "         20\n"
            "all                                                                     1234   "
            "        720\n"
            "model.safetensors: 2000 bytes before, 1000 after (50.0 %)\n");
  report.left = {"odd.weight", "other.weight"};
  EXPECT_THAT(FormatReport(report), HasSubstr("odd number of columns: odd.weight, other.weight\n"));
  report.tables = {"embedding.weight"};
  EXPECT_THAT(FormatReport(report),
              HasSubstr("as they are embedding tables, too: embedding.weight\n"));
}

TEST(QuantizeReportTest, LossesAreComparedWithTheFirst) {
  const TextPart text = {"t.txt", 7, "12345"};
  const std::vector<LossRow> rows = {{DType::kBF16, "fma", {100, 200, 300.0}},
                                     {DType::kI4, "int8dot", {100, 200, 310.0}}};
  const std::string printed = FormatLosses(text, rows);
  EXPECT_THAT(printed, AllOf(testing::StartsWith("loss on t.txt from byte 7, 5 bytes:\n"),
                             HasSubstr("1.50000   +0.00000               20.0855\n"),
                             HasSubstr("int4      int8dot             1.55000   +0.05000"),
                             HasSubstr("22.1980\n")));
}

}  // namespace
}  // namespace eddy
