// SPDX-License-Identifier: Apache-2.0
// FakeModel: a network whose state is a running hash of all tokens read and whose next token is a
// function of that hash. A slot mixed up, not zeroed, half copied or read twice shows at once: in
// the tokens, or in an abort.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/model.h"
#include "engine/tokenizer/tokenizer.h"
#include "tests/support/fake_backend.h"

namespace eddy {

struct FakeModelOptions {
  int32_t vocabulary_size = 64;
  int64_t position_max = 0;
  std::vector<int32_t> end_of_text_ids;
  int32_t nan_token = -1;             // reading it makes all later logits of the session NaN
  int32_t state_float_count = 100;    // beside the hash: a state of some size
  std::function<void()> before_step;  // called at the start of each Forward, on the step thread
};

class FakeModel : public Model {
 public:
  // backend: put the work on its stream; null: do it at once, on the host memory of whatever
  // backend there is.
  explicit FakeModel(const FakeModelOptions& options, FakeBackend* backend = nullptr);

  const ModelInfo& info() const override { return info_; }
  const StateLayout& state_layout() const override { return layout_; }
  // Logits: noise in [0, 1) from the hash, and 2 at the next token.
  void Forward(const Rows& rows, const StateRef& pool, Workspace& workspace,
               const Tensor& logits) override;

  // What greedy decoding says after these tokens, all of them read.
  static std::vector<int32_t> Continue(std::vector<int32_t> tokens, int count,
                                       int32_t vocabulary_size = 64);
  // The logits after these tokens.
  static std::vector<float> Logits(std::span<const int32_t> tokens, int32_t vocabulary_size = 64);

 private:
  void ReadRow(const Rows& rows, int32_t row, std::byte* state, Tensor logits,
               int32_t* logits_index) const;

  const FakeModelOptions options_;
  FakeBackend* const backend_;
  ModelInfo info_;
  StateLayout layout_;
};

// Token t is the letter 'a' + t % 26, or what it is told to be.
class FakeTokenizer : public Tokenizer {
 public:
  explicit FakeTokenizer(int32_t vocabulary_size = 64);
  void SetBytes(int32_t token, std::string bytes) {
    bytes_[static_cast<size_t>(token)] = std::move(bytes);
  }
  int32_t vocabulary_size() const override { return static_cast<int32_t>(bytes_.size()); }
  absl::StatusOr<std::vector<int32_t>> Encode(std::string_view text) const override;
  std::string_view TokenBytes(int32_t token) const override {
    return bytes_[static_cast<size_t>(token)];
  }

 private:
  std::vector<std::string> bytes_;
};

}  // namespace eddy
