// SPDX-License-Identifier: Apache-2.0
// The trained model that ships, against PyTorch.
#include <gtest/gtest.h>

#include <string>

#include "tests/support/model_stepper.h"

namespace eddy {
namespace {

class ShippedModelTest : public testing::TestWithParam<std::string> {};

TEST_P(ShippedModelTest, LogitsEqualPyTorchs) {
  const std::string folder = std::string(EDDY_SOURCE_DIR) + "/models/shakespeare";
  const Expected expected = ReadExpected("linear_transformer/shakespeare");
  Stepper stepper(folder, GetParam(), DType::kF32, 1);
  const Floats logits = stepper.Read(0, expected.tokens, 7);
  EXPECT_LE(MaxDifference(logits, expected.logits), 1e-4f);
  // Its matrices are stored as bf16: so they are the same numbers, and so are the logits.
  Stepper bf16(folder, GetParam(), DType::kBF16, 1);
  EXPECT_TRUE(SameBits(bf16.Read(0, expected.tokens, 7), logits));
}

INSTANTIATE_TEST_SUITE_P(All, ShippedModelTest, testing::ValuesIn(Targets()),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace eddy
