// SPDX-License-Identifier: Apache-2.0
// The engine with a model of images: a mixture of logistics from the turn to the token.
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/support/engine_fixture.h"

namespace eddy {
namespace {

constexpr int64_t kValueCount = 5 * 8;

std::unique_ptr<Engine> MakeImageEngine(int32_t batch_row_count_max = 8) {
  BackendOptions options;
  options.backend = "cpu";
  options.thread_count = 1;
  auto backend = *MakeBackend(options);
  auto model = *LoadModel(std::string(EDDY_SOURCE_DIR) + "/tests/golden/linear_transformer/image",
                          *backend, {});
  EngineOptions engine_options;
  engine_options.slot_count = 8;
  engine_options.batch_row_count_max = batch_row_count_max;
  return *Engine::Make(std::move(backend), std::move(model), nullptr, engine_options);
}

TurnRequest ImageRequest(uint64_t seed, std::vector<int32_t> prompt = {0}) {
  TurnRequest request;
  request.prompt = std::move(prompt);
  request.sampling.seed = seed;
  request.stop.max_tokens = 1000;
  request.wants_log_probs = true;
  return request;
}

StreamResult Draw(Engine& engine, const TurnRequest& request) {
  auto stream = engine.Submit(request);
  EXPECT_TRUE(stream.ok()) << stream.status();
  return stream.ok() ? ReadAll(**stream) : StreamResult{};
}

TEST(ImageEngineTest, ATurnEndsWithTheImage) {
  const auto engine = MakeImageEngine();
  const StreamResult image = Draw(*engine, ImageRequest(1));
  EXPECT_TRUE(image.status.ok()) << image.status;
  EXPECT_EQ(image.finish_reason, FinishReason::kLength);
  ASSERT_EQ(std::ssize(image.tokens), kValueCount);
  EXPECT_EQ(std::ssize(image.log_probs), kValueCount);
  for (const TokenLogProb& log_prob : image.log_probs) {
    EXPECT_TRUE(std::isfinite(log_prob.log_prob));
    EXPECT_LE(log_prob.log_prob, 0.0f);
  }
  EXPECT_NE(Draw(*engine, ImageRequest(2)).tokens, image.tokens);
  TurnRequest more = ImageRequest(1, std::vector<int32_t>(static_cast<size_t>(kValueCount) + 1));
  EXPECT_EQ(engine->Submit(more).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(ImageEngineTest, CompanyAndEarlierTurnsChangeNothing) {
  const auto engine = MakeImageEngine();
  std::vector<std::shared_ptr<TokenStream>> streams;
  for (uint64_t seed = 0; seed < 8; ++seed) streams.push_back(*engine->Submit(ImageRequest(seed)));
  const auto alone = MakeImageEngine(1);
  for (uint64_t seed = 0; seed < 8; ++seed) {
    const StreamResult together = ReadAll(*streams[seed]);
    const StreamResult image = Draw(*alone, ImageRequest(seed));
    EXPECT_EQ(together.tokens, image.tokens) << seed;
    for (size_t i = 0; i < image.log_probs.size(); ++i) {
      EXPECT_EQ(together.log_probs[i].log_prob, image.log_probs[i].log_prob);
    }
  }
}

TEST(ImageEngineTest, AnImageGoesOnFromItsGivenPart) {
  const auto engine = MakeImageEngine();
  const std::vector<int32_t> whole = Draw(*engine, ImageRequest(3)).tokens;
  std::vector<int32_t> given = {0};
  given.insert(given.end(), whole.begin(), whole.begin() + 20);
  const StreamResult rest = Draw(*engine, ImageRequest(3, given));
  EXPECT_EQ(rest.tokens, std::vector<int32_t>(whole.begin() + 20, whole.end()));
}

TEST(ImageEngineTest, ScoringTellsTheLogProbabilitiesOfDrawing) {
  const auto engine = MakeImageEngine();
  const StreamResult image = Draw(*engine, ImageRequest(4));
  TurnRequest request;
  request.prompt = {0};
  request.prompt.insert(request.prompt.end(), image.tokens.begin(), image.tokens.end());
  request.scores = true;
  const StreamResult scored = Draw(*engine, request);
  EXPECT_TRUE(scored.status.ok()) << scored.status;
  ASSERT_EQ(scored.log_probs.size(), image.log_probs.size());
  for (size_t i = 0; i < image.log_probs.size(); ++i) {
    EXPECT_EQ(scored.log_probs[i].log_prob, image.log_probs[i].log_prob) << i;
  }
  request.alternative_count = 1;
  const absl::Status status = engine->Submit(request).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(std::string(status.message()).starts_with("top_log_probs is 1, but the model"));
}

TEST(ImageEngineTest, WhatNeedsLogitsIsRefusedByItsField) {
  const auto engine = MakeImageEngine();
  TurnRequest request = ImageRequest(1);
  request.sampling.top_k = 4;
  const absl::Status status = engine->Submit(request).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(std::string(status.message()).starts_with("sampling.top_k is set")) << status;
}

}  // namespace
}  // namespace eddy
