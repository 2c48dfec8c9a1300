// SPDX-License-Identifier: Apache-2.0
// The mixtures that image models predict, and the trained model that ships, against PyTorch.
#include <gtest/gtest.h>

#include <string>

#include "kernels/cpu/sample_mixture.h"
#include "tests/support/model_stepper.h"

namespace eddy {
namespace {

// ---- mixtures of logistics ----

TEST(MixtureTest, LogProbabilitiesEqualPyTorchs) {
  for (const char* name : {"linear_transformer/image", "linear_transformer/image_rgb"}) {
    const Expected expected = ReadExpected(name);
    const auto file = Safetensors::Open(GoldenFolder(name) + "/expected.safetensors");
    ASSERT_TRUE(file.ok()) << file.status();
    const Floats log_probs = Values(*file, "log_probs");
    ASSERT_EQ(log_probs.size() + 1, expected.tokens.size());
    Stepper stepper(GoldenFolder(name), "auto", DType::kF32, 1);
    const Floats outputs = stepper.Read(0, expected.tokens, 7);
    for (size_t t = 0; t < log_probs.size(); ++t) {
      const int64_t size = stepper.output_size();
      const cpu::Mixture mixture(outputs.data() + static_cast<int64_t>(t) * size, size / 3, 256);
      EXPECT_NEAR(mixture.LogProb(expected.tokens[t + 1]), log_probs[t],
                  1e-3 * (1.0 - log_probs[t]))
          << name << ", token " << t + 1;
    }
  }
}

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
