// SPDX-License-Identifier: Apache-2.0
// Once warm, no op takes memory from the heap. Counts every operator new of the process.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "kernels/backend.h"
#include "tests/kernels/kernel_fixture.h"

namespace {
std::atomic<int64_t> allocation_count{0};
}  // namespace

void* operator new(size_t bytes) {
  ++allocation_count;
  void* data = std::malloc(bytes);
  if (data == nullptr) std::abort();
  return data;
}
void operator delete(void* data) noexcept { std::free(data); }
void operator delete(void* data, size_t) noexcept { std::free(data); }

namespace eddy {
namespace {

constexpr int64_t kTokens = 40;
constexpr int64_t kSize = 192;
constexpr int64_t kVocabulary = 1000;

// One step of everything a model does.
class Step {
 public:
  Step() : backend_(BackendOf("auto", 2)), batch_({39, 1}, {0, 1}) {
    Numbers numbers(51);
    x_ = numbers.Normal(kTokens * kSize);
    table_ = numbers.Normal(kVocabulary * kSize);
    weight_ = numbers.Normal(kSize);
    decay_ = numbers.Uniform(6, 0.8f, 1.0f);
    y_.resize(x_.size());
    state_.resize(2 * 6 * (32 * 32 + 32), 0.5f);
    logits_.resize(2 * kVocabulary);
    matrix_ = *backend_->PackMatrix(View(table_, {kVocabulary, kSize}), DType::kBF16);
    batch_.logits_tokens() = {38, 39};
    rows_[0].top_p = 0.9f;
    rows_[0].alternative_count = 5;
    rows_[1].top_k = 40;
    rows_[1].wants_log_prob = true;
  }

  void Run() {
    const Rows& rows = backend_->BeginStep(batch_.rows());
    const Shape shape = {kTokens, kSize};
    backend_->Embed(rows, View(table_, {kVocabulary, kSize}), 0, View(x_, shape));
    backend_->Sinusoid(rows, 0, kSize, View(y_, shape));
    backend_->LayerNorm(View(x_, shape), View(y_, shape), View(weight_, {kSize}),
                        View(weight_, {kSize}), 1e-5f, View(x_, shape));
    backend_->Activate(Activation::kGelu, View(x_, shape), View(x_, shape));
    RecurrenceOptions options;
    options.decay = Decay::kConstant;
    options.normaliser = Normaliser::kAddEps;
    options.normaliser_eps = 1e-6f;
    RecurrenceInputs inputs;
    inputs.q = inputs.k = inputs.v = View(x_, {kTokens, 6, 32});
    inputs.decay = View(decay_, {6});
    auto* base = reinterpret_cast<std::byte*>(state_.data());
    const int64_t slot_bytes = 6 * (32 * 32 + 32) * 4;
    backend_->Recurrence(options, rows, inputs, {base, slot_bytes, 0},
                         {base, slot_bytes, 6 * 32 * 32 * 4}, View(y_, {kTokens, 6, 32}));
    Tensor wanted = View(x_, shape).First(2);
    backend_->GatherLogitsRows(rows, View(y_, shape), wanted);
    backend_->MatMul(wanted, matrix_, Tensor(), View(logits_, {2, kVocabulary}));
    SampleResult results[2];
    ScoreResult scores[2];
    LogitBias alternatives[8];
    const ScoreRow score_rows[2] = {{3, alternatives}, {4, {}}};
    backend_->Score(View(logits_, {2, kVocabulary}), score_rows, scores);
    backend_->Sample(View(logits_, {2, kVocabulary}), rows_, results);
    EXPECT_TRUE(backend_->Synchronize().ok());
    EXPECT_GE(results[0].token, 0);
    EXPECT_GE(results[1].token, 0);
    EXPECT_EQ(scores[0].alternative_count, 8);
  }

 private:
  std::unique_ptr<Backend> backend_;
  RowsFixture batch_;
  std::vector<float> x_, y_, table_, weight_, decay_, state_, logits_;
  Matrix matrix_;
  SampleRow rows_[2];
};

TEST(AllocationTest, AWarmStepTakesNoHeapMemory) {
  Step step;
  step.Run();
  const int64_t before = allocation_count;
  for (int i = 0; i < 10; ++i) step.Run();
  EXPECT_EQ(allocation_count - before, 0);
}

TEST(AllocationTest, TheCounterCounts) {
  const int64_t before = allocation_count;
  void* volatile data = ::operator new(8);  // volatile: the compiler may not leave it out
  ::operator delete(data);
  EXPECT_EQ(allocation_count - before, 1);
}

}  // namespace
}  // namespace eddy
