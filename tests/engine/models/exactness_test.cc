// SPDX-License-Identifier: Apache-2.0
// Exactness (D3), bit for bit, of every family on its goldens: neither chunks nor threads nor
// company change anything.
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "tests/support/model_stepper.h"

namespace eddy {
namespace {

class ExactTest : public testing::TestWithParam<std::tuple<std::string, std::string, DType>> {
 protected:
  void SetUp() override {
    const auto [variant, target, dtype] = GetParam();
    expected_ = ReadExpected(variant);
    one_ = std::make_unique<Stepper>(GoldenFolder(variant), target, dtype, 1);
    two_ = std::make_unique<Stepper>(GoldenFolder(variant), target, dtype, 2);
  }

  Expected expected_;
  std::unique_ptr<Stepper> one_;  // by number of threads
  std::unique_ptr<Stepper> two_;
};

TEST_P(ExactTest, ChunksAndThreadsChangeNothing) {
  const Tokens& tokens = expected_.tokens;
  const Floats whole = one_->Read(0, tokens, tokens.size());
  const std::string state = one_->StateBytes(0);
  for (Stepper* stepper : {one_.get(), two_.get()}) {
    for (const size_t chunk : {size_t{1}, size_t{7}, tokens.size()}) {
      EXPECT_TRUE(SameBits(stepper->Read(1, tokens, chunk), whole)) << chunk;
      EXPECT_TRUE(stepper->StateBytes(1) == state) << chunk;
    }
  }
}

TEST_P(ExactTest, OtherSlotsAreNotTouched) {
  for (int32_t slot = 0; slot < Stepper::kSlotCount; ++slot) one_->Fill(slot, 0xA5);
  const std::string canary = one_->StateBytes(0);
  one_->Read(3, expected_.tokens, 7);
  for (int32_t slot = 0; slot < Stepper::kSlotCount; ++slot) {
    EXPECT_EQ(one_->StateBytes(slot) == canary, slot != 3) << slot;
  }
}

TEST_P(ExactTest, CompanyChangesNothing) {
  const Tokens& tokens = expected_.tokens;
  const Floats alone = one_->Read(0, tokens, tokens.size());
  // Four sessions in one batch: prefill and decode rows mixed, slots out of order, one of them
  // ours.
  for (int32_t slot = 0; slot < Stepper::kSlotCount; ++slot) one_->Fill(slot, 0);
  const Tokens reversed(tokens.rbegin(), tokens.rend());
  Floats ours;
  size_t at = 0;
  for (const size_t chunk : {size_t{5}, size_t{1}, size_t{1}, size_t{17}, tokens.size()}) {
    const size_t end = std::min(at + chunk, tokens.size());
    const TestRow mine = {2, static_cast<int64_t>(at),
                          Tokens(tokens.begin() + static_cast<std::ptrdiff_t>(at),
                                 tokens.begin() + static_cast<std::ptrdiff_t>(end))};
    const std::vector<Floats> logits =
        one_->Step({{5, 3, {reversed[0]}}, {0, 0, reversed}, mine, {1, 9, {reversed[1], 0}}});
    ours.insert(ours.end(), logits[2].begin(), logits[2].end());
    at = end;
  }
  EXPECT_TRUE(SameBits(ours, alone));
}

TEST_P(ExactTest, OnlyTheWantedLogitsAreTheSameLogits) {
  const Tokens& tokens = expected_.tokens;
  const Floats all = one_->Read(0, tokens, tokens.size());
  one_->Fill(0, 0);
  one_->Fill(4, 0);
  const std::vector<Floats> last = one_->Step({{4, 0, {1, 2}}, {0, 0, tokens}}, false);
  EXPECT_TRUE(SameBits(last[1], Floats(all.end() - one_->output_size(), all.end())));
}

// Every golden on every target, the types of weights by turns.
std::vector<std::tuple<std::string, std::string, DType>> Cases() {
  std::vector<std::tuple<std::string, std::string, DType>> cases;
  for (const std::string& name : GoldenNames()) {
    for (const std::string& target : Targets()) {
      cases.emplace_back(name, target, cases.size() % 2 == 0 ? DType::kF32 : DType::kBF16);
    }
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(All, ExactTest, testing::ValuesIn(Cases()), [](const auto& test) {
  return Underscored(std::get<0>(test.param)) + "_" + std::get<1>(test.param) + "_" +
         DTypeName(std::get<2>(test.param));
});

class FamilyTest : public testing::TestWithParam<std::string> {};

TEST_P(FamilyTest, TheTargetsOfOneNumericPathAgree) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const Expected expected = ReadExpected(GetParam());
    Floats first;
    for (const std::string& target : Targets()) {
      Stepper stepper(GoldenFolder(GetParam()), target, dtype, 1);
      const Floats logits = stepper.Read(0, expected.tokens, 7);
      if (first.empty()) first = logits;
      EXPECT_TRUE(SameBits(logits, first)) << target;
    }
  }
}

// A batch without logits (prefill in the middle of a prompt) only moves the state.
TEST_P(FamilyTest, NoLogitsMayBeWanted) {
  Stepper stepper(GoldenFolder(GetParam()), "auto", DType::kF32, 1);
  const Expected expected = ReadExpected(GetParam());
  const Floats whole = stepper.Read(0, expected.tokens, 7);
  const std::string state = stepper.StateBytes(0);
  stepper.Fill(0, 0);
  EXPECT_FALSE(stepper.StateBytes(0) == state);
  stepper.Step({{0, 0, expected.tokens}}, false);
  EXPECT_TRUE(stepper.StateBytes(0) == state);
}

INSTANTIATE_TEST_SUITE_P(All, FamilyTest, testing::ValuesIn(GoldenNames()),
                         [](const auto& test) { return Underscored(test.param); });

}  // namespace
}  // namespace eddy
