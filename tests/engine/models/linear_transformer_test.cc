// SPDX-License-Identifier: Apache-2.0
// Tests engine/models/linear_transformer.cc against the goldens of
// tests/golden/make_linear_transformer.py.
#include <gtest/gtest.h>

#include <string>
#include <tuple>

#include "tests/support/model_stepper.h"

namespace eddy {
namespace {

// ---- against PyTorch, per variant and target ----

class LinearTransformerTest : public testing::TestWithParam<std::tuple<std::string, std::string>> {
};

TEST_P(LinearTransformerTest, LogitsEqualPyTorchs) {
  const auto [variant, target] = GetParam();
  const std::string name = "linear_transformer/" + variant;
  const Expected expected = ReadExpected(name);
  Stepper f32(GoldenFolder(name), target, DType::kF32, 1);
  EXPECT_LE(MaxDifference(f32.Read(0, expected.tokens, expected.tokens.size()), expected.logits),
            1e-4f);
  // Eight bits of fraction, two layers, logits up to about 6: 0.043 measured.
  Stepper bf16(GoldenFolder(name), target, DType::kBF16, 1);
  EXPECT_LE(MaxDifference(bf16.Read(0, expected.tokens, expected.tokens.size()), expected.logits),
            0.1f);
}

INSTANTIATE_TEST_SUITE_P(
    All, LinearTransformerTest,
    testing::Combine(testing::Values("plain", "decay", "gelu_no_final_norm", "sinusoid", "wide"),
                     testing::ValuesIn(Targets())),
    [](const auto& test) { return std::get<0>(test.param) + "_" + std::get<1>(test.param); });

// ---- the trained model that ships ----

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
