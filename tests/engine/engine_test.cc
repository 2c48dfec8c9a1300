// SPDX-License-Identifier: Apache-2.0
#include "engine/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <future>
#include <mutex>
#include <thread>

#include "absl/strings/str_cat.h"
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

// Lets the step thread go on step by step, or freely.
class Gate {
 public:
  void Pass() {
    std::unique_lock lock(mutex_);
    waiting_ = true;
    changed_.notify_all();
    changed_.wait(lock, [&] { return open_; });
    waiting_ = false;
  }
  void AwaitArrival() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return waiting_; });
  }
  void Open() {
    std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
  bool waiting_ = false;
};

FakeModelOptions Gated(Gate& gate) {
  FakeModelOptions options;
  options.before_step = [&gate] { gate.Pass(); };
  return options;
}

TEST(EngineTest, ManyThreadsEachGetTheirOwnTokens) {
  EngineOptions options = SmallEngine(8);
  options.stream_capacity = 5;  // some are parked now and then
  auto engine = MakeFakeEngine(options);
  std::vector<std::thread> threads;
  for (int32_t t = 0; t < 16; ++t) {
    threads.emplace_back([&, t] {
      const std::string name = t % 2 == 0 ? absl::StrCat("s", t) : "";
      std::vector<int32_t> history;
      for (int32_t round = 0; round < 5; ++round) {
        if (name.empty()) history.clear();
        const std::vector<int32_t> prompt = {t, round, 3};
        const StreamResult result = Generate(*engine, MakeRequest(prompt, 20, name));
        history = Joined(history, prompt);
        EXPECT_TRUE(result.status.ok()) << result.status;
        EXPECT_THAT(result.tokens, ElementsAreArray(FakeModel::Continue(history, 20)));
        history = Joined(history, result.tokens);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(engine->metrics().generation_tokens.value(), 16 * 5 * 20);
}

TEST(EngineTest, BadRequestsAreRefusedAtTheDoorAndCounted) {
  auto engine = MakeFakeEngine(SmallEngine());
  TurnRequest request = MakeRequest({1}, 5);
  request.sampling.temperature = std::numeric_limits<float>::quiet_NaN();
  const absl::Status status = engine->Submit(request).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("sampling.temperature is nan"));
  EXPECT_EQ(
      engine->metrics().failed[static_cast<size_t>(absl::StatusCode::kInvalidArgument)].value(), 1);
}

TEST(EngineTest, AFullQueueRefusesAtOnceWithAHint) {
  EngineOptions options = SmallEngine(1);
  options.submit_queue_capacity = 2;
  Gate gate;
  auto engine = MakeFakeEngine(options, Gated(gate));
  auto running = *engine->Submit(MakeRequest({1}, 3));
  gate.AwaitArrival();
  // The step thread is inside a step. Until it comes out, the running turn still counts as waiting.
  auto waiting = *engine->Submit(MakeRequest({2}, 3));
  const absl::Status full = engine->Submit(MakeRequest({3}, 3)).status();
  EXPECT_EQ(full.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(full.message()), HasSubstr("submit_queue_capacity is 2"));
  EXPECT_GT(engine->RetryAfter(), Duration::zero());
  gate.Open();
  EXPECT_THAT(ReadAll(*running).tokens, ElementsAreArray(FakeModel::Continue({1}, 3)));
  EXPECT_THAT(ReadAll(*waiting).tokens, ElementsAreArray(FakeModel::Continue({2}, 3)));
}

TEST(EngineTest, CancelFromTheReaderEndsTheTurn) {
  auto engine = MakeFakeEngine(SmallEngine());
  auto stream = *engine->Submit(MakeRequest({1}, 1'000'000'000));
  StreamResult result;
  TokenStream::Taken taken;
  while (result.tokens.size() < 10) {
    stream->WaitForMore();
    stream->Take(&taken);
    for (const TokenChunk& chunk : taken.chunks) AddChunk(chunk, &result);
  }
  stream->Cancel();
  while (!TakeNow(*stream, &result)) stream->WaitForMore();
  EXPECT_EQ(result.finish_reason, FinishReason::kCancelled);
  EXPECT_THAT(result.tokens,
              ElementsAreArray(FakeModel::Continue({1}, static_cast<int>(result.tokens.size()))));
}

TEST(EngineTest, CancelWakesAParkedTurn) {
  EngineOptions options = SmallEngine();
  options.stream_capacity = 2;
  auto engine = MakeFakeEngine(options);
  auto stream = *engine->Submit(MakeRequest({1}, 100));
  while (engine->metrics().stream_parked.value() == 0) std::this_thread::yield();
  stream->Cancel();
  StreamResult result = ReadAll(*stream);
  EXPECT_EQ(result.tokens.size(), 2u);
  EXPECT_EQ(result.finish_reason, FinishReason::kCancelled);
}

TEST(EngineTest, AParkedTurnGoesOnWhenReadAndOthersDoNotNotice) {
  EngineOptions options = SmallEngine();
  options.stream_capacity = 2;
  auto engine = MakeFakeEngine(options);
  auto slow = *engine->Submit(MakeRequest({1}, 50));
  while (engine->metrics().stream_parked.value() == 0) std::this_thread::yield();
  EXPECT_THAT(Generate(*engine, MakeRequest({2}, 30)).tokens,
              ElementsAreArray(FakeModel::Continue({2}, 30)));
  EXPECT_THAT(ReadAll(*slow).tokens, ElementsAreArray(FakeModel::Continue({1}, 50)));
}

TEST(EngineTest, ADeadlineEndsAParkedTurnOfASleepingEngine) {
  EngineOptions options = SmallEngine();
  options.stream_capacity = 2;
  auto engine = MakeFakeEngine(options);
  TurnRequest request = MakeRequest({1}, 100);
  request.deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(50);
  auto stream = *engine->Submit(request);
  // Nobody reads, so nothing but the time can wake the step thread.
  while (engine->metrics().finished[static_cast<size_t>(FinishReason::kDeadline)].value() == 0) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  const StreamResult result = ReadAll(*stream);
  EXPECT_EQ(result.finish_reason, FinishReason::kDeadline);
  EXPECT_EQ(result.tokens.size(), 2u);
}

// Takes whenever told; one thread at a time.
class TakingReader : public StreamReader {
 public:
  explicit TakingReader(TokenStream& stream) : stream_(stream) {}
  void OnReady() override {
    std::lock_guard lock(mutex_);
    stream_.Take(&taken_);
    for (const TokenChunk& chunk : taken_.chunks) token_count_ += chunk.has_token ? 1 : 0;
    if (taken_.end.has_value()) done_.set_value(token_count_);
  }
  size_t AwaitTokenCount() { return done_.get_future().get(); }

 private:
  TokenStream& stream_;
  std::mutex mutex_;
  TokenStream::Taken taken_;
  size_t token_count_ = 0;
  std::promise<size_t> done_;
};

class IdleReader : public StreamReader {
  void OnReady() override {}
};

TEST(EngineTest, TheReaderIsToldAndMayGoAnyTime) {
  auto engine = MakeFakeEngine(SmallEngine());
  auto stream = *engine->Submit(MakeRequest({1}, 100));
  auto reader = std::make_shared<TakingReader>(*stream);
  stream->SetReader(reader);
  EXPECT_EQ(reader->AwaitTokenCount(), 100u);

  auto abandoned = *engine->Submit(MakeRequest({1}, 100));
  auto gone = std::make_shared<IdleReader>();
  abandoned->SetReader(gone);
  gone.reset();
  EXPECT_EQ(ReadAll(*abandoned).tokens.size(), 100u);
}

template <typename T>
class Answer {
 public:
  std::function<void(T)> Done() {
    return [promise = promise_](T value) { promise->set_value(std::move(value)); };
  }
  T Get() { return promise_->get_future().get(); }

 private:
  std::shared_ptr<std::promise<T>> promise_ = std::make_shared<std::promise<T>>();
};

TEST(EngineTest, SessionsAreCreatedListedReadAndDeleted) {
  auto engine = MakeFakeEngine(SmallEngine());
  for (const char* name : {"b", "c", "a"}) {
    Answer<absl::StatusOr<SessionInfo>> created;
    engine->CreateSession(name, created.Done());
    EXPECT_EQ(created.Get()->name, name);
  }
  Answer<absl::StatusOr<SessionInfo>> again, bad;
  engine->CreateSession("a", again.Done());
  EXPECT_EQ(again.Get().status().code(), absl::StatusCode::kAlreadyExists);
  engine->CreateSession("no/slash", bad.Done());
  EXPECT_EQ(bad.Get().status().code(), absl::StatusCode::kInvalidArgument);

  EXPECT_TRUE(Generate(*engine, MakeRequest({1, 2}, 4, "b")).status.ok());
  Answer<absl::StatusOr<SessionInfo>> info;
  engine->GetSession("b", info.Done());
  const absl::StatusOr<SessionInfo> b = info.Get();
  EXPECT_EQ(b->position, 6);
  EXPECT_EQ(b->turn_count, 1);
  EXPECT_EQ(b->state, SessionInfo::State::kResident);
  EXPECT_EQ(b->state_bytes, engine->state_bytes());
  EXPECT_GE(b->last_used, b->created);

  Answer<absl::StatusOr<Engine::SessionPage>> first, second;
  engine->ListSessions("", 2, first.Done());
  const Engine::SessionPage page = *first.Get();
  ASSERT_EQ(page.sessions.size(), 2u);
  EXPECT_EQ(page.sessions[0].name, "a");
  EXPECT_EQ(page.next_after, "b");
  engine->ListSessions(page.next_after, 2, second.Done());
  const Engine::SessionPage last = *second.Get();
  ASSERT_EQ(last.sessions.size(), 1u);
  EXPECT_EQ(last.next_after, "");

  Answer<absl::Status> deleted, missing;
  engine->DeleteSession("b", deleted.Done());
  EXPECT_TRUE(deleted.Get().ok());
  engine->DeleteSession("b", missing.Done());
  EXPECT_EQ(missing.Get().code(), absl::StatusCode::kNotFound);
}

TEST(EngineTest, ShutdownLetsTurnsFinishInItsGraceTime) {
  Gate gate;
  auto engine = MakeFakeEngine(SmallEngine(1), Gated(gate));
  auto running = *engine->Submit(MakeRequest({1}, 20));
  auto waiting = *engine->Submit(MakeRequest({2}, 20));
  gate.AwaitArrival();
  std::thread shutdown([&] { engine->Shutdown(std::chrono::hours(1)); });
  while (engine->Submit(MakeRequest({3}, 1)).status().code() != absl::StatusCode::kUnavailable) {
    std::this_thread::yield();
  }
  gate.Open();
  shutdown.join();
  EXPECT_THAT(ReadAll(*running).tokens, ElementsAreArray(FakeModel::Continue({1}, 20)));
  EXPECT_THAT(ReadAll(*waiting).tokens, ElementsAreArray(FakeModel::Continue({2}, 20)));
  engine->Shutdown(Duration::zero());
  Answer<absl::StatusOr<SessionInfo>> late;
  engine->GetSession("x", late.Done());
  EXPECT_EQ(late.Get().status().code(), absl::StatusCode::kUnavailable);
}

TEST(EngineTest, ShutdownCancelsWhatIsLeftAndStreamsOutliveTheEngine) {
  auto engine = MakeFakeEngine(SmallEngine(1));
  auto running = *engine->Submit(MakeRequest({1}, 1'000'000'000));
  auto waiting = *engine->Submit(MakeRequest({2}, 1'000'000'000));
  std::thread reader([&] { EXPECT_EQ(ReadAll(*running).finish_reason, FinishReason::kCancelled); });
  engine->Shutdown(std::chrono::milliseconds(20));
  reader.join();
  engine.reset();
  EXPECT_EQ(ReadAll(*waiting).finish_reason, FinishReason::kCancelled);
  running->Cancel();  // wakes a queue that nobody listens to
}

TEST(EngineTest, ALostDeviceMakesItUnhealthyAndEndsEverything) {
  Gate gate;
  FakeBackend* backend = nullptr;
  auto engine = MakeFakeEngine(SmallEngine(), Gated(gate), nullptr, &backend);
  auto stream = *engine->Submit(MakeRequest({1}, 100));
  gate.AwaitArrival();
  EXPECT_TRUE(engine->healthy());
  backend->FailSynchronize(3);
  gate.Open();
  const StreamResult result = ReadAll(*stream);
  EXPECT_EQ(result.status.code(), absl::StatusCode::kInternal);
  EXPECT_EQ(result.tokens.size(), 2u);
  while (engine->healthy()) std::this_thread::yield();
  EXPECT_EQ(engine->Submit(MakeRequest({1}, 1)).status().code(), absl::StatusCode::kUnavailable);
}

TEST(EngineTest, MakeSaysWhatDoesNotFit) {
  const auto make = [](EngineOptions options, std::shared_ptr<const Tokenizer> tokenizer) {
    auto backend = std::make_unique<FakeBackend>();
    auto model = std::make_unique<FakeModel>(FakeModelOptions(), backend.get());
    return Engine::Make(std::move(backend), std::move(model), std::move(tokenizer), options)
        .status();
  };
  EngineOptions options = SmallEngine(0);
  EXPECT_THAT(std::string(make(options, nullptr).message()), HasSubstr("slot_count is 0"));
  EXPECT_EQ(make(SmallEngine(), std::make_shared<FakeTokenizer>(65)).code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(make(SmallEngine(), nullptr).ok());
}

TEST(EngineTest, RowsAreClampedToSlots) {
  EngineOptions options = SmallEngine(3);
  options.batch_row_count_max = 64;
  EXPECT_EQ(MakeFakeEngine(options)->options().batch_row_count_max, 3);
}

// The sampler of the CPU backend, not the fake one: drawn tokens, too, depend on nothing but seed
// and position.
TEST(EngineTest, DrawnTokensAreTheSameAloneAndInCompanyForEveryChunkSize) {
  const auto run = [](int chunk, int company_count) {
    EngineOptions options = SmallEngine(64);
    options.batch_token_count_max = 300;
    options.prefill_chunk_token_count = chunk;
    auto engine = *Engine::Make(*MakeBackend({.backend = "cpu"}),
                                std::make_unique<FakeModel>(FakeModelOptions()), nullptr, options);
    const auto request = [](uint64_t seed) {
      TurnRequest drawn = MakeRequest({5, 6, 7, 8, 9, 10, 11, 12, 13, 14}, 40);
      drawn.sampling.temperature = 1.5f;
      drawn.sampling.top_k = 50;
      drawn.sampling.top_p = 0.98f;
      drawn.sampling.repetition_penalty = 1.1f;
      drawn.sampling.seed = seed;
      return drawn;
    };
    std::vector<std::shared_ptr<TokenStream>> company;
    for (int i = 0; i < company_count; ++i) {
      company.push_back(*engine->Submit(request(static_cast<uint64_t>(i) + 100)));
    }
    return Generate(*engine, request(7)).tokens;
  };
  const std::vector<int32_t> alone = run(256, 0);
  EXPECT_EQ(alone.size(), 40u);
  EXPECT_NE(alone, FakeModel::Continue({5, 6, 7, 8, 9, 10, 11, 12, 13, 14}, 40));  // really drawn
  for (const int chunk : {1, 7, 256}) EXPECT_THAT(run(chunk, 63), ElementsAreArray(alone)) << chunk;
}

}  // namespace
}  // namespace eddy
