// SPDX-License-Identifier: Apache-2.0
// A warm decode step allocates nothing on the heap (architecture D4). A program of its own: it
// counts every `new`.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "absl/strings/str_cat.h"
#include "engine/engine_core.h"
#include "tests/support/hand_stepped_engine.h"

namespace {
std::atomic<int64_t> allocation_count{0};

void* Counted(std::size_t bytes) {
  allocation_count.fetch_add(1, std::memory_order_relaxed);
  void* data = std::malloc(bytes);
  if (data == nullptr) std::abort();
  return data;
}
}  // namespace

void* operator new(std::size_t bytes) { return Counted(bytes); }
void* operator new[](std::size_t bytes) { return Counted(bytes); }
void operator delete(void* data) noexcept { std::free(data); }
void operator delete[](void* data) noexcept { std::free(data); }
void operator delete(void* data, std::size_t) noexcept { std::free(data); }
void operator delete[](void* data, std::size_t) noexcept { std::free(data); }

namespace eddy {
namespace {

TEST(EngineAllocationTest, TheCounterCounts) {
  const int64_t before = allocation_count;
  std::vector<int> block(1000);
  EXPECT_EQ(allocation_count, before + 1) << block.size();
}

TEST(EngineAllocationTest, AWarmDecodeStepAllocatesNothing) {
  HandSteppedEngine engine(SmallEngine(8), {}, FakeBackend::Stream::kAtOnce);
  std::vector<std::shared_ptr<TokenStream>> streams;
  for (int32_t i = 0; i < 8; ++i) {
    TurnRequest request = MakeRequest({i, 2, 3}, 100'000, i % 2 == 0 ? "" : absl::StrCat("s", i));
    if (i == 1) request.sampling.presence_penalty = 0.5f;
    if (i == 2) request.stop.sequences = {"abcdefgh", "bca"};
    if (i == 3) request.deadline = engine.now + std::chrono::hours(1);
    request.stop.min_tokens = 50'000;
    streams.push_back(*engine.Submit(std::move(request)));
  }
  TokenStream::Taken taken;
  const auto step = [&] {
    EXPECT_TRUE(engine.Step());
    for (const auto& stream : streams) stream->Take(&taken);
  };
  // Each swap of the streams' vectors with the reader's warms one more of them; the windows fill,
  // too.
  for (int i = 0; i < 1500; ++i) step();
  const int64_t before = allocation_count;
  for (int i = 0; i < 500; ++i) step();
  EXPECT_EQ(allocation_count, before);
  EXPECT_EQ(engine.metrics.generation_tokens.value(), 8 * 2000);
}

}  // namespace
}  // namespace eddy
