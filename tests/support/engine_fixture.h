// SPDX-License-Identifier: Apache-2.0
// What engine tests share: a fake engine in one line, a whole stream read in one call.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "tests/support/fake_backend.h"
#include "tests/support/fake_model.h"

namespace eddy {

// All that one stream gave.
struct StreamResult {
  std::vector<int32_t> tokens;
  std::vector<int64_t> positions;  // of the tokens
  std::string text;
  std::vector<TokenLogProb> log_probs;
  FinishReason finish_reason = FinishReason::kNone;
  int64_t last_position = 0;  // of the last chunk
  std::optional<Usage> usage;
  absl::Status status;
};

inline void AddChunk(const TokenChunk& chunk, StreamResult* result) {
  EXPECT_EQ(result->finish_reason, FinishReason::kNone) << "a chunk after the last one";
  if (chunk.has_token) {
    result->tokens.push_back(chunk.token);
    result->positions.push_back(chunk.position);
  }
  result->text += chunk.text;
  if (chunk.log_prob.has_value()) result->log_probs.push_back(*chunk.log_prob);
  result->finish_reason = chunk.finish_reason;
  result->last_position = chunk.position;
  if (chunk.usage.has_value()) result->usage = chunk.usage;
}

// What is there now, appended to `result`; true once the stream has ended.
inline bool TakeNow(TokenStream& stream, StreamResult* result) {
  TokenStream::Taken taken;
  stream.Take(&taken);
  for (const TokenChunk& chunk : taken.chunks) AddChunk(chunk, result);
  if (!taken.end.has_value()) return false;
  result->status = *taken.end;
  return true;
}

// Blocks until the stream has ended.
inline StreamResult ReadAll(TokenStream& stream) {
  StreamResult result;
  do {
    stream.WaitForMore();
  } while (!TakeNow(stream, &result));
  return result;
}

inline TurnRequest MakeRequest(std::vector<int32_t> prompt, int64_t max_tokens,
                               std::string session_name = "") {
  TurnRequest request;
  request.prompt = std::move(prompt);
  request.sampling.temperature = 0;
  request.stop.max_tokens = max_tokens;
  request.session_name = std::move(session_name);
  request.create_session = !request.session_name.empty();
  return request;
}

inline std::vector<int32_t> Joined(std::vector<int32_t> a, const std::vector<int32_t>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

inline EngineOptions SmallEngine(int32_t slot_count = 4) {
  EngineOptions options;
  options.slot_count = slot_count;
  options.batch_row_count_max = slot_count;
  options.batch_token_count_max = 32;
  options.prefill_chunk_token_count = 16;
  return options;
}

// Over a FakeBackend with a lazy stream.
inline std::unique_ptr<Engine> MakeFakeEngine(
    const EngineOptions& options, const FakeModelOptions& model_options = {},
    std::shared_ptr<const Tokenizer> tokenizer = std::make_shared<FakeTokenizer>(),
    FakeBackend** backend_out = nullptr) {
  auto backend = std::make_unique<FakeBackend>(FakeBackend::Stream::kLazy);
  if (backend_out != nullptr) *backend_out = backend.get();
  auto model = std::make_unique<FakeModel>(model_options, backend.get());
  absl::StatusOr<std::unique_ptr<Engine>> engine =
      Engine::Make(std::move(backend), std::move(model), std::move(tokenizer), options);
  EXPECT_TRUE(engine.ok()) << engine.status();
  return engine.ok() ? *std::move(engine) : nullptr;
}

}  // namespace eddy
