// SPDX-License-Identifier: Apache-2.0
// Tests engine/models/linear_transformer.cc against the goldens of
// tests/golden/make_linear_transformer.py.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "engine/model.h"
#include "engine/safetensors.h"

namespace eddy {
namespace {

using Tokens = std::vector<int32_t>;
using Floats = std::vector<float>;

// One row of a step.
struct TestRow {
  int32_t slot = 0;
  int64_t position = 0;
  Tokens tokens;
};

// A model with a pool and a workspace, stepped by hand.
class Stepper {
 public:
  static constexpr int32_t kSlotCount = 6;
  static constexpr int32_t kTokenCountMax = 256;

  Stepper(const std::string& folder, const std::string& target, DType dtype, int thread_count) {
    BackendOptions options;
    options.backend = "cpu";
    options.cpu_target = target;
    options.thread_count = thread_count;
    backend_ = *MakeBackend(options);
    LoadOptions load;
    load.weight_dtype = dtype;
    auto model = LoadModel(folder, *backend_, load);
    EXPECT_TRUE(model.ok()) << model.status();
    model_ = *std::move(model);
    pool_ = *backend_->Allocate(kSlotCount * state_bytes());
    Rows largest;
    largest.row_count = 1;
    largest.token_count = largest.logits_count = kTokenCountMax;
    Workspace measuring;
    model_->Forward(largest, {}, measuring, {});
    workspace_ = Workspace(*backend_->Allocate(measuring.peak_bytes()));
  }

  int64_t state_bytes() const { return model_->state_layout().bytes(); }
  int32_t vocabulary_size() const { return model_->info().vocabulary_size; }
  std::string StateBytes(int32_t slot) const {
    std::string bytes(static_cast<size_t>(state_bytes()), '\0');
    backend_->CopyOut(SlotAt(slot), bytes.data(), state_bytes());
    return bytes;
  }
  void Fill(int32_t slot, uint8_t value) {
    backend_->FillBytes(SlotAt(slot), value, state_bytes());
  }

  // The logits of each row's tokens: of all, or of the last one.
  std::vector<Floats> Step(const std::vector<TestRow>& rows, bool all_logits = true) {
    Tokens tokens, token_begin = {0}, slot, logits_token;
    std::vector<int64_t> position;
    for (const TestRow& row : rows) {
      for (size_t i = 0; i < row.tokens.size(); ++i) {
        if (all_logits || i + 1 == row.tokens.size()) {
          logits_token.push_back(static_cast<int32_t>(tokens.size()));
        }
        tokens.push_back(row.tokens[i]);
      }
      token_begin.push_back(static_cast<int32_t>(tokens.size()));
      slot.push_back(row.slot);
      position.push_back(row.position);
    }
    Rows host;
    host.row_count = static_cast<int32_t>(rows.size());
    host.token_count = static_cast<int32_t>(tokens.size());
    host.logits_count = static_cast<int32_t>(logits_token.size());
    host.tokens = tokens.data();
    host.token_begin = token_begin.data();
    host.slot = slot.data();
    host.position = position.data();
    host.logits_token = logits_token.data();
    const Buffer logits = *backend_->Allocate(int64_t{host.logits_count} * vocabulary_size() * 4);
    workspace_.Reset();
    model_->Forward(backend_->BeginStep(host),
                    {static_cast<std::byte*>(pool_.data()), state_bytes(), 0}, workspace_,
                    logits.View(DType::kF32, {host.logits_count, vocabulary_size()}));
    EXPECT_TRUE(backend_->Synchronize().ok());
    std::vector<Floats> result;
    const auto* at = static_cast<const float*>(logits.data());
    for (const TestRow& row : rows) {
      const size_t count =
          (all_logits ? row.tokens.size() : 1) * static_cast<size_t>(vocabulary_size());
      Floats values(count);
      backend_->CopyOut(at, values.data(), static_cast<int64_t>(count) * 4);
      result.push_back(std::move(values));
      at += count;
    }
    return result;
  }

  // All logits of `tokens`, read from an empty state in chunks.
  Floats Read(int32_t slot, const Tokens& tokens, size_t chunk) {
    Fill(slot, 0);
    Floats all;
    for (size_t at = 0; at < tokens.size(); at += chunk) {
      const size_t end = std::min(at + chunk, tokens.size());
      const auto begin = tokens.begin() + static_cast<std::ptrdiff_t>(at);
      const TestRow row = {slot, static_cast<int64_t>(at),
                           Tokens(begin, begin + static_cast<std::ptrdiff_t>(end - at))};
      const Floats part = Step({row})[0];
      all.insert(all.end(), part.begin(), part.end());
    }
    return all;
  }

 private:
  std::byte* SlotAt(int32_t slot) const {
    return static_cast<std::byte*>(pool_.data()) + slot * state_bytes();
  }

  std::unique_ptr<Backend> backend_;  // first: the rest lies on it
  std::unique_ptr<Model> model_;
  Buffer pool_;
  Workspace workspace_;
};

std::string GoldenFolder(const std::string& name) {
  return std::string(EDDY_SOURCE_DIR) + "/tests/golden/linear_transformer/" + name;
}

struct Expected {
  Tokens tokens;
  Floats logits;  // [token, vocabulary]
};

Floats Values(const Safetensors& file, const std::string& name) {
  const StoredTensor* tensor = file.Find(name);
  EXPECT_TRUE(tensor != nullptr && tensor->type == StoredType::kF32) << name;
  Floats values(tensor->data.size() / 4);
  std::memcpy(values.data(), tensor->data.data(), tensor->data.size());
  return values;
}

Expected ReadExpected(const std::string& name) {
  const auto file = Safetensors::Open(GoldenFolder(name) + "/expected.safetensors");
  EXPECT_TRUE(file.ok()) << file.status();
  Expected expected;
  for (const float token : Values(*file, "tokens")) {
    expected.tokens.push_back(static_cast<int32_t>(token));
  }
  expected.logits = Values(*file, "logits");
  return expected;
}

float MaxDifference(const Floats& a, const Floats& b) {
  EXPECT_EQ(a.size(), b.size());
  float most = 0.0f;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    if (!std::isfinite(a[i]) || !std::isfinite(b[i])) return INFINITY;
    most = std::max(most, std::abs(a[i] - b[i]));
  }
  return most;
}

bool SameBits(const Floats& a, const Floats& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// The instruction sets that this machine has.
std::vector<const char*> Targets() {
  std::vector<const char*> targets;
  for (const char* target : {"v2", "v3", "v4"}) {
    BackendOptions options;
    options.backend = "cpu";
    options.cpu_target = target;
    const absl::Status status = MakeBackend(options).status();
    if (status.ok()) targets.push_back(target);
    EDDY_CHECK(status.ok() || status.code() == absl::StatusCode::kFailedPrecondition) << status;
  }
  return targets;
}

// ---- against PyTorch, per variant and target ----

class GoldenTest : public testing::TestWithParam<std::tuple<const char*, const char*>> {};

TEST_P(GoldenTest, LogitsEqualPyTorchs) {
  const auto [variant, target] = GetParam();
  const Expected expected = ReadExpected(variant);
  Stepper f32(GoldenFolder(variant), target, DType::kF32, 1);
  EXPECT_LE(MaxDifference(f32.Read(0, expected.tokens, expected.tokens.size()), expected.logits),
            1e-4f);
  // Eight bits of fraction, two layers, logits up to about 6: 0.043 measured.
  Stepper bf16(GoldenFolder(variant), target, DType::kBF16, 1);
  EXPECT_LE(MaxDifference(bf16.Read(0, expected.tokens, expected.tokens.size()), expected.logits),
            0.1f);
}

INSTANTIATE_TEST_SUITE_P(All, GoldenTest,
                         testing::Combine(testing::Values("plain", "decay", "gelu_no_final_norm",
                                                          "sinusoid", "wide"),
                                          testing::ValuesIn(Targets())),
                         [](const auto& test) {
                           return std::string(std::get<0>(test.param)) + "_" +
                                  std::get<1>(test.param);
                         });

// ---- the trained model that ships ----

class ShippedModelTest : public testing::TestWithParam<const char*> {};

TEST_P(ShippedModelTest, LogitsEqualPyTorchs) {
  const std::string folder = std::string(EDDY_SOURCE_DIR) + "/models/shakespeare";
  const Expected expected = ReadExpected("shakespeare");
  Stepper stepper(folder, GetParam(), DType::kF32, 1);
  const Floats logits = stepper.Read(0, expected.tokens, 7);
  EXPECT_LE(MaxDifference(logits, expected.logits), 1e-4f);
  // Its matrices are stored as bf16: so they are the same numbers, and so are the logits.
  Stepper bf16(folder, GetParam(), DType::kBF16, 1);
  EXPECT_TRUE(SameBits(bf16.Read(0, expected.tokens, 7), logits));
}

INSTANTIATE_TEST_SUITE_P(All, ShippedModelTest, testing::ValuesIn(Targets()),
                         [](const auto& test) { return std::string(test.param); });

// ---- exactness: bit for bit ----

class ExactTest : public testing::TestWithParam<std::tuple<const char*, const char*, DType>> {
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
  for (const size_t chunk : {size_t{5}, size_t{1}, size_t{1}, size_t{17}, size_t{64}}) {
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
  EXPECT_TRUE(SameBits(last[1], Floats(all.end() - one_->vocabulary_size(), all.end())));
}

INSTANTIATE_TEST_SUITE_P(All, ExactTest,
                         testing::Combine(testing::Values("decay", "sinusoid", "wide"),
                                          testing::ValuesIn(Targets()),
                                          testing::Values(DType::kF32, DType::kBF16)),
                         [](const auto& test) {
                           return std::string(std::get<0>(test.param)) + "_" +
                                  std::get<1>(test.param) + "_" +
                                  DTypeName(std::get<2>(test.param));
                         });

TEST(LinearTransformerTest, TheTargetsOfOneNumericPathAgree) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const Expected expected = ReadExpected("wide");
    Floats first;
    for (const char* target : Targets()) {
      Stepper stepper(GoldenFolder("wide"), target, dtype, 1);
      const Floats logits = stepper.Read(0, expected.tokens, 7);
      if (first.empty()) first = logits;
      EXPECT_TRUE(SameBits(logits, first)) << target;
    }
  }
}

// A batch without logits (prefill in the middle of a prompt) only moves the state.
TEST(LinearTransformerTest, NoLogitsMayBeWanted) {
  Stepper stepper(GoldenFolder("decay"), "auto", DType::kF32, 1);
  const Expected expected = ReadExpected("decay");
  const Floats whole = stepper.Read(0, expected.tokens, 7);
  const std::string state = stepper.StateBytes(0);
  stepper.Fill(0, 0);
  EXPECT_FALSE(stepper.StateBytes(0) == state);
  stepper.Step({{0, 0, expected.tokens}}, false);
  EXPECT_TRUE(stepper.StateBytes(0) == state);
}

}  // namespace
}  // namespace eddy
