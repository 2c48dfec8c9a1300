// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <string>
#include <tuple>
#include <vector>

#include "kernels/backend.h"
#include "tests/kernels/kernel_fixture.h"
#include "tests/kernels/recurrence_reference.h"

namespace eddy {
namespace {

constexpr RecurrenceShape kShapes[] = {{1, 1, 1, 1},   {2, 2, 3, 5},  {2, 2, 17, 33},
                                       {4, 2, 16, 15}, {6, 1, 8, 16}, {3, 3, 64, 64},
                                       {2, 2, 32, 96}};

// Every choice of options; a normaliser only where each head has its own keys.
std::vector<RecurrenceOptions> AllOptions(const RecurrenceShape& shape) {
  std::vector<RecurrenceOptions> all;
  for (const Decay decay : {Decay::kNone, Decay::kConstant, Decay::kScalar, Decay::kVector}) {
    for (const Removal removal : {Removal::kNone, Removal::kDelta, Removal::kGeneral}) {
      for (const Read read : {Read::kAfterWrite, Read::kBeforeWriteWithBonus}) {
        for (const Normaliser normaliser :
             {Normaliser::kNone, Normaliser::kAddEps, Normaliser::kFloor}) {
          if (normaliser != Normaliser::kNone && shape.heads != shape.key_heads) continue;
          RecurrenceOptions options;
          options.decay = decay;
          options.removal = removal;
          options.read = read;
          options.normaliser = normaliser;
          options.scale = 0.35f;
          // A floor among the values of s q.z, so that both sides of it are met.
          options.normaliser_eps = normaliser == Normaliser::kFloor ? 0.6f : 1e-6f;
          all.push_back(options);
        }
      }
    }
  }
  return all;
}

std::string Describe(const RecurrenceOptions& options) {
  return "decay " + std::to_string(static_cast<int>(options.decay)) + ", removal " +
         std::to_string(static_cast<int>(options.removal)) + ", read " +
         std::to_string(static_cast<int>(options.read)) + ", normaliser " +
         std::to_string(static_cast<int>(options.normaliser));
}

::testing::AssertionResult SameOutcome(const RecurrenceOutcome& a, const RecurrenceOutcome& b) {
  for (size_t row = 0; row < a.out.size(); ++row) {
    const auto same = SameBits(a.out[row], b.out[row]);
    if (!same) return ::testing::AssertionFailure() << "row " << row << " " << same.message();
  }
  return SameBits(a.slots, b.slots);
}

class RecurrenceTest : public ::testing::TestWithParam<std::tuple<std::string, RecurrenceShape>> {
 protected:
  std::string target() const { return std::get<0>(GetParam()); }
  RecurrenceShape shape() const { return std::get<1>(GetParam()); }
};

TEST_P(RecurrenceTest, EqualsTheReference) {
  const auto backend = BackendOf(target());
  for (const RecurrenceOptions& options : AllOptions(shape())) {
    SCOPED_TRACE(Describe(options));
    const RecurrenceCase c = MakeCase(options, shape(), {6, 1, 9}, 11);
    const RecurrenceOutcome got = RunTogether(*backend, c, 9);
    const reference::RecurrenceResult want = reference::Recurrence(c);
    for (size_t row = 0; row < c.streams.size(); ++row) {
      EXPECT_TRUE(Near(got.out[row], want.out[row], 5e-6)) << "row " << row;
    }
    EXPECT_TRUE(Near(got.slots, want.slots, 5e-6));
  }
}

TEST_P(RecurrenceTest, ChunksOfAnySizeGiveTheSameBits) {
  const auto backend = BackendOf(target());
  for (const RecurrenceOptions& options : AllOptions(shape())) {
    SCOPED_TRACE(Describe(options));
    const RecurrenceCase c = MakeCase(options, shape(), {9, 4}, 12);
    const RecurrenceOutcome whole = RunTogether(*backend, c, 9);
    for (const int64_t chunk : {1, 2, 5}) {
      EXPECT_TRUE(SameOutcome(RunTogether(*backend, c, chunk), whole)) << "chunks of " << chunk;
    }
  }
}

TEST_P(RecurrenceTest, ARowAloneHasTheBitsItHasAmongOthers) {
  const auto backend = BackendOf(target());
  for (const RecurrenceOptions& options : AllOptions(shape())) {
    SCOPED_TRACE(Describe(options));
    const RecurrenceCase c = MakeCase(options, shape(), {3, 1, 6, 2}, 13);
    EXPECT_TRUE(SameOutcome(RunTogether(*backend, c, 6), RunAlone(*backend, c)));
  }
}

TEST_P(RecurrenceTest, OtherSlotsStayAsTheyAre) {
  const auto backend = BackendOf(target(), 2);
  for (const RecurrenceOptions& options : AllOptions(shape())) {
    SCOPED_TRACE(Describe(options));
    const RecurrenceCase c = MakeCase(options, shape(), {3, 1}, 14);
    const RecurrenceOutcome outcome = RunTogether(*backend, c, 2);
    for (int64_t slot = 0; slot < kSlotCount; ++slot) {
      const bool used = slot == c.slots[0] || slot == c.slots[1];
      const bool has_z = options.normaliser != Normaliser::kNone;
      // Of a used slot everything behind the state (and z): the canary.
      const int64_t z_floats = has_z ? shape().heads * shape().key_size : 0;
      const int64_t skip = used ? c.state_floats + z_floats : 0;
      const auto bounds = [&](const std::vector<float>& slots) {
        return std::vector<float>(slots.begin() + slot * c.slot_floats + skip,
                                  slots.begin() + (slot + 1) * c.slot_floats);
      };
      EXPECT_TRUE(SameBits(bounds(outcome.slots), bounds(c.initial))) << "slot " << slot;
    }
  }
}

TEST_P(RecurrenceTest, EveryTargetAndThreadCountGivesTheSameBits) {
  const auto scalar = BackendOf("v2");
  const auto one = BackendOf(target(), 1);
  const auto two = BackendOf(target(), 2);
  const auto three = BackendOf(target(), 3);
  for (const RecurrenceOptions& options : AllOptions(shape())) {
    SCOPED_TRACE(Describe(options));
    const RecurrenceCase c = MakeCase(options, shape(), {5, 1, 8}, 15);
    const RecurrenceOutcome want = RunTogether(*scalar, c, 8);
    for (Backend* backend : {one.get(), two.get(), three.get()}) {
      EXPECT_TRUE(SameOutcome(RunTogether(*backend, c, 8), want))
          << backend->info().thread_count << " threads";
    }
  }
}

// Mamba-2: writes of beta v, and D v added to what is read.
TEST_P(RecurrenceTest, ScaledWritesAndASkip) {
  const auto scalar = BackendOf("v2");
  const auto one = BackendOf(target(), 1);
  const auto three = BackendOf(target(), 3);
  for (const RecurrenceOptions& options : AllOptions(shape())) {
    if (options.removal != Removal::kNone) continue;
    SCOPED_TRACE(Describe(options));
    RecurrenceCase c = MakeCase(options, shape(), {6, 1, 9}, 17);
    c.scales_writes = true;
    c.skip = Numbers(18).Normal(shape().heads);
    const RecurrenceOutcome got = RunTogether(*one, c, 9);
    const reference::RecurrenceResult want = reference::Recurrence(c);
    for (size_t row = 0; row < c.streams.size(); ++row) {
      EXPECT_TRUE(Near(got.out[row], want.out[row], 5e-6)) << "row " << row;
    }
    EXPECT_TRUE(Near(got.slots, want.slots, 5e-6));
    EXPECT_TRUE(SameOutcome(RunTogether(*scalar, c, 9), got));
    EXPECT_TRUE(SameOutcome(RunTogether(*three, c, 9), got));
    EXPECT_TRUE(SameOutcome(RunTogether(*one, c, 2), got));
    EXPECT_TRUE(SameOutcome(RunAlone(*one, c), got));
  }
}

std::string Name(const ::testing::TestParamInfo<RecurrenceTest::ParamType>& test) {
  const auto& [target, s] = test.param;
  return target + "_H" + std::to_string(s.heads) + "_G" + std::to_string(s.key_heads) + "_K" +
         std::to_string(s.key_size) + "_V" + std::to_string(s.value_size);
}

INSTANTIATE_TEST_SUITE_P(Cpu, RecurrenceTest,
                         ::testing::Combine(::testing::ValuesIn(MachineTargets()),
                                            ::testing::ValuesIn(kShapes)),
                         Name);

// Longer than the block of tokens whose scalars a kernel keeps at hand.
TEST(LongRecurrenceTest, AThousandTokensEqualTheReferenceAndAnyChunks) {
  RecurrenceOptions options;
  options.decay = Decay::kVector;
  options.removal = Removal::kDelta;
  options.read = Read::kBeforeWriteWithBonus;
  options.normaliser = Normaliser::kAddEps;
  options.normaliser_eps = 1e-6f;
  const RecurrenceCase c = MakeCase(options, {2, 2, 16, 20}, {1000, 130}, 16);
  const auto backend = BackendOf("auto", 2);
  const RecurrenceOutcome whole = RunTogether(*backend, c, 1000);
  const reference::RecurrenceResult want = reference::Recurrence(c);
  EXPECT_TRUE(Near(whole.out[0], want.out[0], 2e-5));
  EXPECT_TRUE(Near(whole.out[1], want.out[1], 2e-5));
  for (const int64_t chunk : {1, 63, 64, 65, 256}) {
    EXPECT_TRUE(SameOutcome(RunTogether(*backend, c, chunk), whole)) << "chunks of " << chunk;
  }
}

}  // namespace
}  // namespace eddy
