// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/metered_backend.h"

#include <gtest/gtest.h>

#include <cmath>
#include <memory>

#include "engine/model.h"
#include "tests/bench/step_case.h"

namespace eddy {
namespace {

// Of synthetic:mnist, by hand: 8 layers, D 256, feed forward 1024, 8 heads of 32 x 32.
constexpr double kLayerWeights = 4 * 256 * 256 + 2 * 256 * 1024;
constexpr double kHeadWeights = 30 * 256;
constexpr double kHeadBytes = 2 * 32 * 256;  // in panels of 16 outputs
constexpr double kStateNumbers = 8 * 8 * 32 * 32;
constexpr double kNormaliserNumbers = 8 * 8 * 32;
constexpr double kTableRowBytes = 128 * 2;

class MeteredStepTest : public testing::Test {
 protected:
  MeteredStepTest() : backend_(*MakeBackend({.cpu_target = "auto", .thread_count = 2})) {
    model_ = *LoadModel("synthetic:mnist", backend_, {});
  }

  StepResult Run(StepCase::Kind kind, int size, const StepBenchOptions& options) {
    Probe probe(2);
    absl::StatusOr<StepResult> result = RunCase({kind, size}, options, backend_, *model_, probe);
    EXPECT_TRUE(result.ok()) << result.status();
    return *result;
  }

  MeteredBackend backend_;
  std::unique_ptr<Model> model_;
};

TEST_F(MeteredStepTest, CountsADecodeStepAsByHand) {
  StepBenchOptions options;
  options.seconds = 0.0;
  const StepResult result = Run(StepCase::Kind::kDecode, 3, options);
  EXPECT_EQ(result.token_count, 3);
  const OpCost& matmul = result.cost.of(OpClass::kMatMul);
  EXPECT_EQ(matmul.operations, 2 * 3 * (8 * kLayerWeights + kHeadWeights));
  EXPECT_EQ(matmul.bytes, 2 * 8 * kLayerWeights + kHeadBytes);  // whatever the rows
  const OpCost& recurrence = result.cost.of(OpClass::kRecurrence);
  EXPECT_EQ(recurrence.operations, 4 * 3 * kStateNumbers);
  EXPECT_EQ(recurrence.bytes, 2 * 4 * 3 * (kStateNumbers + kNormaliserNumbers));
  EXPECT_EQ(result.cost.of(OpClass::kElementwise).bytes, 3 * kTableRowBytes);
  EXPECT_EQ(result.cost.bytes(), matmul.bytes + recurrence.bytes + 3 * kTableRowBytes);
}

TEST_F(MeteredStepTest, CountsAPromptInItsSteps) {
  StepBenchOptions options;
  options.seconds = 0.0;
  options.chunk_token_count = 10;
  const StepResult result = Run(StepCase::Kind::kPrefill, 25, options);
  EXPECT_EQ(result.token_count, 25);
  const OpCost& matmul = result.cost.of(OpClass::kMatMul);
  // Logits of the last token only.
  EXPECT_EQ(matmul.operations, 2 * (25 * 8 * kLayerWeights + kHeadWeights));
  EXPECT_EQ(matmul.bytes, 2 * 3 * 8 * kLayerWeights + kHeadBytes);
  EXPECT_EQ(result.cost.of(OpClass::kRecurrence).bytes,
            3 * 2 * 4 * (kStateNumbers + kNormaliserNumbers));
}

TEST_F(MeteredStepTest, TimesByClassAddUpToTheStep) {
  StepBenchOptions options;
  options.seconds = 0.05;
  options.classes = true;
  const StepResult result = Run(StepCase::Kind::kDecode, 8, options);
  double seconds = 0.0;
  for (const OpCost& cost : result.cost.ops) {
    EXPECT_GT(cost.seconds, 0.0);
    EXPECT_GE(cost.wait_seconds, 0.0);
    seconds += cost.seconds + cost.wait_seconds;
  }
  EXPECT_LE(seconds, result.timed_pass_seconds);
  EXPECT_GT(seconds, 0.5 * result.timed_pass_seconds);
}

TEST_F(MeteredStepTest, TheProbeHasWhatTheStepIsComparedWith) {
  StepBenchOptions options;
  options.seconds = 100.0;
  options.step_count_max = 3;
  const StepResult result = Run(StepCase::Kind::kDecode, 1, options);
  EXPECT_EQ(result.pass_count, 3);  // one a round
  EXPECT_GT(result.probe.read_gb_per_s, 0.0);
  EXPECT_GT(result.probe.update_gb_per_s, 0.0);
  EXPECT_GT(PeakOf(result.probe, backend_.info(), DType::kBF16), 0.0);
  EXPECT_GT(PeakOf(result.probe, backend_.info(), DType::kF32), 0.0);
  EXPECT_GT(PeakOf(result.probe, backend_.info(), DType::kI8), 0.0);
  EXPECT_GT(PeakOf(result.probe, backend_.info(), DType::kI4), 0.0);
}

TEST(PeakOf, IsTheInstructionInUse) {
  const ProbeResult probe = {1, 2, 3, 4, 5, 6};
  const auto on = [](const char* path) {
    return BackendInfo{.name = "cpu", .target = "v4dot", .numeric_path = path, .thread_count = 2};
  };
  EXPECT_EQ(PeakOf(probe, on("fma"), DType::kF32), 3);
  EXPECT_EQ(PeakOf(probe, on("fma"), DType::kBF16), 3);
  EXPECT_EQ(PeakOf(probe, on("bf16dot"), DType::kF32), 3);
  EXPECT_EQ(PeakOf(probe, on("bf16dot"), DType::kBF16), 4);
  EXPECT_EQ(PeakOf(probe, on("int8dot"), DType::kBF16), 4);
  EXPECT_EQ(PeakOf(probe, on("bf16dot"), DType::kI8), 5);
  EXPECT_EQ(PeakOf(probe, on("int8dot"), DType::kI8), 6);
  EXPECT_EQ(PeakOf(probe, on("int8dot"), DType::kI4), 5);
}

TEST(RecurrenceOperations, OfTheFamilies) {
  RecurrenceOptions options;
  EXPECT_EQ(RecurrenceOperations(options), 4);  // Linear Transformer: k v^T and S^T q
  options.decay = Decay::kVector;
  EXPECT_EQ(RecurrenceOperations(options), 5);  // GLA
  options.removal = Removal::kDelta;
  EXPECT_EQ(RecurrenceOperations(options), 7);  // Gated DeltaNet: and S^T k
  options.removal = Removal::kGeneral;
  EXPECT_EQ(RecurrenceOperations(options), 9);  // RWKV-7: and S^T a, b p^T
}

}  // namespace
}  // namespace eddy
