// SPDX-License-Identifier: Apache-2.0
#include "engine/text_loss.h"

#include <algorithm>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/config.h"
#include "kernels/status_macros.h"
#include "kernels/workspace.h"

namespace eddy {
namespace {

// Tokens of one step: many share the weights, but their logits must not take all memory.
constexpr int64_t kChunkTokensMax = 256;
constexpr int64_t kChunkLogitsMax = int64_t{1} << 24;

// One session that reads tokens and tells how probable each next one was.
class Reader {
 public:
  static absl::StatusOr<Reader> Make(Model& model, Backend& backend);

  int64_t chunk_token_count() const { return chunk_token_count_; }
  // Reads tokens[0 .. n) at `position` of the session, n at most chunk_token_count, and adds what
  // they say of tokens[1 .. n].
  absl::Status Read(std::span<const int32_t> tokens, int64_t position, double* nats);

 private:
  Reader(Model& model, Backend& backend, int64_t chunk_token_count)
      : model_(model), backend_(backend), chunk_token_count_(chunk_token_count) {}

  Rows RowsOf(const int32_t* tokens, int64_t count);

  Model& model_;
  Backend& backend_;
  const int64_t chunk_token_count_;
  Buffer state_, logits_;
  Workspace workspace_;
  // The step's arrays, which must live until Synchronize.
  std::vector<int32_t> logits_token_;
  int32_t token_begin_[2] = {};
  int32_t slot_ = 0;
  int64_t position_ = 0;
  std::vector<ScoreRow> targets_;
  std::vector<ScoreResult> results_;
};

absl::StatusOr<Reader> Reader::Make(Model& model, Backend& backend) {
  if (model.info().mixture_size > 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("model ", model.info().name, " predicts values, not text, expected logits"));
  }
  const int64_t vocabulary = model.info().vocabulary_size;
  Reader reader(model, backend,
                std::clamp<int64_t>(kChunkLogitsMax / vocabulary, 1, kChunkTokensMax));
  EDDY_ASSIGN_OR_RETURN(reader.state_, backend.Allocate(model.state_layout().bytes()));
  EDDY_ASSIGN_OR_RETURN(reader.logits_,
                        backend.Allocate(reader.chunk_token_count_ * vocabulary * 4));
  Workspace measuring;
  model.Forward(reader.RowsOf(nullptr, reader.chunk_token_count_), {}, measuring, {});
  EDDY_ASSIGN_OR_RETURN(Buffer scratch, backend.Allocate(measuring.peak_bytes()));
  reader.workspace_ = Workspace(std::move(scratch));
  return reader;
}

Rows Reader::RowsOf(const int32_t* tokens, int64_t count) {
  logits_token_.resize(static_cast<size_t>(count));
  for (size_t i = 0; i < logits_token_.size(); ++i) logits_token_[i] = static_cast<int32_t>(i);
  token_begin_[1] = static_cast<int32_t>(count);
  Rows rows;
  rows.row_count = 1;
  rows.token_count = rows.logits_count = static_cast<int32_t>(count);
  rows.tokens = tokens;
  rows.token_begin = token_begin_;
  rows.slot = &slot_;
  rows.position = &position_;
  rows.logits_token = logits_token_.data();
  return rows;
}

absl::Status Reader::Read(std::span<const int32_t> tokens, int64_t position, double* nats) {
  const size_t count = tokens.size() - 1;
  position_ = position;
  const int64_t state_bytes = model_.state_layout().bytes();
  if (position == 0) backend_.FillBytes(state_.data(), 0, state_bytes);
  const Tensor logits = logits_.View(
      DType::kF32, {static_cast<int64_t>(count), int64_t{model_.info().vocabulary_size}});
  workspace_.Reset();
  model_.Forward(backend_.BeginStep(RowsOf(tokens.data(), static_cast<int64_t>(count))),
                 {static_cast<std::byte*>(state_.data()), state_bytes, 0}, workspace_, logits);
  targets_.resize(count);
  results_.resize(count);
  for (size_t i = 0; i < count; ++i) targets_[i] = {.token = tokens[i + 1], .alternatives = {}};
  backend_.Score(logits, targets_, results_);
  EDDY_RETURN_IF_ERROR(backend_.Synchronize());
  for (size_t i = 0; i < count; ++i) {
    if (!results_[i].is_finite) {
      return absl::InternalError(absl::StrCat("the logits at position ",
                                              position + static_cast<int64_t>(i),
                                              " of a window are not finite"));
    }
    *nats -= results_[i].log_prob;
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::optional<HeldOutText>> FindHeldOutText(const std::string& folder) {
  EDDY_ASSIGN_OR_RETURN(const Config config, Config::Read(folder + "/config.json"));
  if (!config.Has(kTextKey)) return std::nullopt;
  EDDY_ASSIGN_OR_RETURN(const std::string name, config.String(kTextKey));
  if (name.find('/') != std::string::npos) {
    return config.Error(kTextKey, "expected the name of a file in this folder");
  }
  HeldOutText text;
  text.path = folder + "/" + name;
  EDDY_ASSIGN_OR_RETURN(text.begin_byte,
                        config.Int(kTextBeginKey, 0, std::numeric_limits<int64_t>::max(), 0));
  return text;
}

absl::StatusOr<TextLoss> MeasureTextLoss(Model& model, Backend& backend, const Tokenizer& tokenizer,
                                         std::string_view text, const TextLossOptions& options) {
  const int64_t window = options.window_token_count, history = options.history_token_count;
  EDDY_CHECK(window >= 1) << window;
  EDDY_CHECK(history >= 0) << history;
  EDDY_ASSIGN_OR_RETURN(const std::vector<int32_t> tokens, tokenizer.Encode(text));
  const int64_t all = std::ssize(tokens) - 1;
  if (all - history < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("the text has ", tokens.size(), " tokens, expected at least ", history + 2));
  }
  EDDY_ASSIGN_OR_RETURN(Reader reader, Reader::Make(model, backend));
  TextLoss loss;
  loss.token_count = all - history;
  const int64_t to_read = loss.token_count + (loss.token_count + window - 1) / window * history;
  int64_t done = 0;
  for (int64_t begin = history; begin < all; begin += window) {
    const int64_t end = std::min(all, begin + window);
    for (int64_t at = begin - history; at < end;) {
      const bool counts = at >= begin;
      const int64_t count = std::min((counts ? end : begin) - at, reader.chunk_token_count());
      double ignored = 0.0;
      EDDY_RETURN_IF_ERROR(reader.Read(
          std::span(tokens).subspan(static_cast<size_t>(at), static_cast<size_t>(count) + 1),
          at - (begin - history), counts ? &loss.nats : &ignored));
      at += count;
      done += count;
      if (options.progress && !options.progress(done, to_read)) {
        return absl::CancelledError("stopped");
      }
    }
  }
  for (const int32_t token : std::span(tokens).subspan(static_cast<size_t>(history) + 1)) {
    loss.byte_count += std::ssize(tokenizer.TokenBytes(token));
  }
  return loss;
}

}  // namespace eddy
