// SPDX-License-Identifier: Apache-2.0
#include "engine/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/engine_fixture.h"

namespace eddy {
namespace {

using ::testing::ElementsAreArray;
using ::testing::HasSubstr;

StreamResult Generate(Engine& engine, TurnRequest request) {
  auto stream = engine.Submit(std::move(request));
  EXPECT_TRUE(stream.ok()) << stream.status();
  return stream.ok() ? ReadAll(**stream) : StreamResult{};
}

TEST(EngineTest, StreamsTheModelsTokensInOrder) {
  auto engine = MakeFakeEngine(SmallEngine());
  const StreamResult result = Generate(*engine, MakeRequest({1, 2, 3}, 10));
  EXPECT_TRUE(result.status.ok()) << result.status;
  EXPECT_THAT(result.tokens, ElementsAreArray(FakeModel::Continue({1, 2, 3}, 10)));
  for (size_t i = 0; i < result.positions.size(); ++i) {
    EXPECT_EQ(result.positions[i], static_cast<int64_t>(3 + i));
  }
  EXPECT_EQ(result.text.size(), 10u);
  EXPECT_EQ(result.finish_reason, FinishReason::kLength);
  ASSERT_TRUE(result.usage.has_value());
  EXPECT_EQ(result.usage->prompt_tokens, 3);
  EXPECT_EQ(result.usage->reused_tokens, 0);
  EXPECT_EQ(result.usage->generated_tokens, 10);
}

TEST(EngineTest, TheSecondTurnOfASessionReadsOnlyWhatIsNew) {
  auto engine = MakeFakeEngine(SmallEngine());
  const StreamResult first = Generate(*engine, MakeRequest({1, 2, 3}, 5, "s"));
  const StreamResult second = Generate(*engine, MakeRequest({7, 8}, 5, "s"));
  const std::vector<int32_t> history = Joined(Joined({1, 2, 3}, first.tokens), {7, 8});
  EXPECT_THAT(second.tokens, ElementsAreArray(FakeModel::Continue(history, 5)));
  ASSERT_TRUE(second.usage.has_value());
  EXPECT_EQ(second.usage->prompt_tokens, 10);
  EXPECT_EQ(second.usage->reused_tokens, 7);  // the last generated token was not read before
  EXPECT_EQ(engine->metrics().prompt_tokens.value(), 5);
  EXPECT_EQ(second.positions.front(), 10);
}

}  // namespace
}  // namespace eddy
