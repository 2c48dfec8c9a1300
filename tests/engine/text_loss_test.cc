// SPDX-License-Identifier: Apache-2.0
#include "engine/text_loss.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "tests/support/fake_model.h"
#include "tests/support/model_files.h"
#include "tests/support/model_stepper.h"

namespace eddy {
namespace {

using testing::HasSubstr;

// Token ids are bytes, wrapped into a vocabulary.
class WrappingTokenizer : public Tokenizer {
 public:
  explicit WrappingTokenizer(int32_t vocabulary_size) : vocabulary_size_(vocabulary_size) {}
  int32_t vocabulary_size() const override { return vocabulary_size_; }
  absl::StatusOr<std::vector<int32_t>> Encode(std::string_view text) const override {
    std::vector<int32_t> tokens;
    for (const char c : text) tokens.push_back(static_cast<uint8_t>(c) % vocabulary_size_);
    return tokens;
  }
  std::string_view TokenBytes(int32_t) const override { return "xy"; }

 private:
  const int32_t vocabulary_size_;
};

double ExpectedNats(const Floats& logits, size_t vocabulary, const Tokens& next) {
  double nats = 0.0;
  for (size_t i = 0; i < next.size(); ++i) {
    double sum = 0.0;
    for (size_t v = 0; v < vocabulary; ++v) sum += std::exp(double{logits[i * vocabulary + v]});
    nats += std::log(sum) - logits[i * vocabulary + static_cast<size_t>(next[i])];
  }
  return nats;
}

TEST(TextLossTest, IsWhatTheLogitsSay) {
  const std::string folder = GoldenFolder("linear_transformer/decay");
  const std::string text = "Of the logits of every token, in windows of some; more than one.";
  BackendOptions backend_options;
  backend_options.numeric_path = "fma";
  backend_options.thread_count = 1;
  const auto backend = *MakeBackend(backend_options);
  const auto model = *LoadModel(folder, *backend, {});
  const auto vocabulary = static_cast<size_t>(model->info().vocabulary_size);
  const WrappingTokenizer tokenizer(model->info().vocabulary_size);
  const Tokens tokens = *tokenizer.Encode(text);
  for (const int64_t window : {1, 10, 63, 1000}) {
    // Read by hand, window by window.
    Stepper stepper(folder, "auto", DType::kBF16, 1);
    double nats = 0.0;
    for (size_t at = 0; at + 1 < tokens.size(); at += static_cast<size_t>(window)) {
      const size_t end = std::min(at + static_cast<size_t>(window), tokens.size() - 1);
      const auto begin = tokens.begin() + static_cast<std::ptrdiff_t>(at);
      const auto last = tokens.begin() + static_cast<std::ptrdiff_t>(end);
      nats += ExpectedNats(stepper.Read(0, Tokens(begin, last), 7), vocabulary,
                           Tokens(begin + 1, last + 1));
    }
    TextLossOptions options;
    options.window_token_count = window;
    const auto loss = MeasureTextLoss(*model, *backend, tokenizer, text, options);
    ASSERT_TRUE(loss.ok()) << loss.status();
    EXPECT_EQ(loss->token_count, static_cast<int64_t>(text.size()) - 1);
    EXPECT_EQ(loss->byte_count, 2 * loss->token_count);
    EXPECT_NEAR(loss->nats, nats, 1e-4) << window;
    EXPECT_DOUBLE_EQ(loss->nats_per_byte(), loss->nats / 126);
    EXPECT_DOUBLE_EQ(loss->perplexity(), std::exp(loss->nats / 63));
  }
}

TEST(TextLossTest, AHistoryIsReadButNotCounted) {
  const std::string folder = GoldenFolder("linear_transformer/decay");
  const std::string text = "What was before decides what comes; how much of it was read, too.";
  const auto backend = *MakeBackend({.numeric_path = "fma", .thread_count = 1});
  const auto model = *LoadModel(folder, *backend, {});
  const auto vocabulary = static_cast<size_t>(model->info().vocabulary_size);
  const WrappingTokenizer tokenizer(model->info().vocabulary_size);
  const Tokens tokens = *tokenizer.Encode(text);
  constexpr size_t kHistory = 20, kWindow = 6;
  Stepper stepper(folder, "auto", DType::kBF16, 1);
  double nats = 0.0;
  for (size_t at = kHistory; at + 1 < tokens.size(); at += kWindow) {
    const size_t end = std::min(at + kWindow, tokens.size() - 1);
    const auto begin = tokens.begin() + static_cast<std::ptrdiff_t>(at - kHistory);
    const auto last = tokens.begin() + static_cast<std::ptrdiff_t>(end);
    const Floats logits = stepper.Read(0, Tokens(begin, last), 7);
    nats += ExpectedNats(
        Floats(logits.begin() + static_cast<std::ptrdiff_t>(kHistory * vocabulary), logits.end()),
        vocabulary, Tokens(begin + kHistory + 1, last + 1));
  }
  TextLossOptions options;
  options.window_token_count = kWindow;
  options.history_token_count = kHistory;
  std::vector<int64_t> done;
  options.progress = [&](int64_t now, int64_t all) {
    EXPECT_LE(now, all);
    done.push_back(all - now);
    return true;
  };
  const auto loss = MeasureTextLoss(*model, *backend, tokenizer, text, options);
  ASSERT_TRUE(loss.ok()) << loss.status();
  EXPECT_EQ(loss->token_count, static_cast<int64_t>(text.size() - 1 - kHistory));
  EXPECT_EQ(loss->byte_count, 2 * loss->token_count);
  EXPECT_NEAR(loss->nats, nats, 1e-4);
  EXPECT_EQ(done.back(), 0);
  options.history_token_count = static_cast<int64_t>(text.size()) - 1;
  EXPECT_EQ(MeasureTextLoss(*model, *backend, tokenizer, text, options).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(TextLossTest, LongTextsAreReadInSteps) {
  FakeBackend backend;
  FakeModel model(FakeModelOptions(), &backend);
  const WrappingTokenizer tokenizer(64);
  TextLossOptions options;
  std::vector<int64_t> done;
  options.progress = [&](int64_t now, int64_t all) {
    EXPECT_EQ(all, 2499);
    done.push_back(now);
    return true;
  };
  const auto loss = MeasureTextLoss(model, backend, tokenizer, std::string(2500, 'a'), options);
  ASSERT_TRUE(loss.ok()) << loss.status();
  EXPECT_THAT(done, testing::ElementsAre(256, 512, 768, 1024, 1280, 1536, 1792, 2048, 2304, 2499));
  // Logits lie within [0, 2] for 64 tokens: between log(64) - 2 and log(64) + 2 a token.
  EXPECT_GT(loss->nats / 2499, std::log(64.0) - 2);
  EXPECT_LT(loss->nats / 2499, std::log(64.0) + 2);
  options.progress = [](int64_t, int64_t) { return false; };
  EXPECT_EQ(
      MeasureTextLoss(model, backend, tokenizer, std::string(2500, 'a'), options).status().code(),
      absl::StatusCode::kCancelled);
}

TEST(TextLossTest, SaysWhatCannotBeMeasured) {
  FakeBackend backend;
  FakeModelOptions options;
  options.nan_token = 'b' % 64;
  FakeModel model(options, &backend);
  const WrappingTokenizer tokenizer(64);
  for (const char* text : {"", "a"}) {
    const auto loss = MeasureTextLoss(model, backend, tokenizer, text, {});
    EXPECT_EQ(loss.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(loss.status().message()), HasSubstr("expected at least 2"));
  }
  BackendOptions cpu;
  cpu.thread_count = 1;
  const auto real = *MakeBackend(cpu);
  const auto image = *LoadModel(GoldenFolder("linear_transformer/image"), *real, {});
  const auto refused = MeasureTextLoss(*image, *real, WrappingTokenizer(256), "aabaa", {});
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("predicts values, not text"));
  const auto loss = MeasureTextLoss(model, backend, tokenizer, "aabaa", {});
  EXPECT_EQ(loss.status().code(), absl::StatusCode::kInternal) << loss.status();
  EXPECT_THAT(std::string(loss.status().message()), HasSubstr("position 2"));
}

TEST(FindHeldOutTextTest, ReadsTheKeys) {
  const TestFolder folder;
  const auto find = [&](const std::string& config) {
    WriteBytes(folder / "config.json", config);
    return FindHeldOutText(folder.path());
  };
  EXPECT_EQ((*find(R"({"a": 1})")).has_value(), false);
  const auto text = *find(R"({"eddy_text": "t.txt", "eddy_text_begin": 7})");
  ASSERT_TRUE(text.has_value());
  EXPECT_EQ(text->path, folder / "t.txt");
  EXPECT_EQ(text->begin_byte, 7);
  EXPECT_EQ((*find(R"({"eddy_text": "t.txt"})"))->begin_byte, 0);
  for (const char* bad : {R"({"eddy_text": "../t.txt"})", R"({"eddy_text": ""})",
                          R"({"eddy_text": 5})", R"({"eddy_text": "t", "eddy_text_begin": -1})"}) {
    EXPECT_EQ(find(bad).status().code(), absl::StatusCode::kInvalidArgument) << bad;
  }
  const auto shipped = *FindHeldOutText(std::string(EDDY_SOURCE_DIR) + "/models/shakespeare");
  ASSERT_TRUE(shipped.has_value());
  const auto bytes = static_cast<int64_t>(ReadBytes(shipped->path).size());
  EXPECT_EQ(shipped->begin_byte, bytes * 9 / 10);
}

}  // namespace
}  // namespace eddy
