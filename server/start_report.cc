// SPDX-License-Identifier: Apache-2.0
#include "server/start_report.h"

#include <chrono>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace eddy {
namespace {

// A chunk of a token stream with a short text.
constexpr int64_t kChunkBytes = sizeof(TokenChunk) + 16;

int64_t Milliseconds(Duration duration) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(duration).count();
}

// Aligned columns.
class Table {
 public:
  template <typename Value>
  void Line(const char* name, const Value& value, const std::string& meaning) {
    absl::StrAppendFormat(&text_, "  %-22s %12s  %s\n", name, absl::StrCat(value), meaning);
  }
  std::string Take() { return std::move(text_); }

 private:
  std::string text_;
};

// What is not the ordinary: a logit per token of text.
std::string DescribeOutput(const ModelInfo& model) {
  std::string text;
  if (model.image.has_value()) {
    absl::StrAppend(&text, ", images of ", model.image->width, " x ", model.image->height, " x ",
                    model.image->channels);
  }
  if (model.mixture_size > 0) {
    absl::StrAppend(&text, ", mixtures of ", model.mixture_size, " logistics");
  }
  return text;
}

void AddMachine(const Engine& engine, Table* table) {
  const BackendInfo& backend = engine.backend_info();
  const ModelInfo& model = engine.model_info();
  table->Line("backend", backend.name,
              absl::StrCat("target ", backend.target, ", numeric path ", backend.numeric_path, ", ",
                           backend.thread_count, " threads"));
  table->Line(
      "model", model.name,
      absl::StrFormat(
          "%s, %d parameters, %s weights of %s, %s states, vocabulary %d, %s%s", model.family,
          model.parameter_count, DTypeName(model.weight_dtype), FormatBytes(model.weight_bytes),
          DTypeName(model.state_dtype), model.vocabulary_size,
          engine.tokenizer() != nullptr ? "text and token ids" : "token ids only (no tokenizer)",
          DescribeOutput(model)));
}

void AddEngine(const Engine& engine, Table* table) {
  const EngineOptions& options = engine.options();
  const int64_t state_bytes = engine.state_bytes();
  const int64_t logits_row_bytes = int64_t{4} * engine.model_info().output_size();
  table->Line("slots", options.slot_count,
              absl::StrCat("states of ", FormatBytes(state_bytes), " = ",
                           FormatBytes(state_bytes * options.slot_count)));
  table->Line("batch-rows-max", options.batch_row_count_max, "sessions moved by one step");
  table->Line("batch-tokens-max", options.batch_token_count_max,
              absl::StrCat("tokens of one step; outputs of ",
                           FormatBytes(logits_row_bytes * options.batch_row_count_max)));
  table->Line("prefill-chunk", options.prefill_chunk_token_count,
              "tokens of one prompt in one step");
  table->Line("prefill-beside-decode", options.prefill_beside_decode_token_count,
              "prompt tokens of a step in which others decode, or one for each of them");
  table->Line("batch-scores-max", options.batch_score_count_max,
              absl::StrCat("tokens scored in one step; logits of ",
                           FormatBytes(logits_row_bytes * options.batch_score_count_max)));
  table->Line("queue", options.submit_queue_capacity,
              absl::StrCat("waiting turns; at worst ",
                           FormatBytes(int64_t{4} * options.prompt_token_count_max *
                                       options.submit_queue_capacity),
                           " of prompts"));
  table->Line("session-turns-max", options.session_turn_count_max, "waiting turns of one session");
  table->Line(
      "prompt-tokens-max", options.prompt_token_count_max,
      absl::StrCat("tokens = ", FormatBytes(4 * options.prompt_token_count_max), " a prompt"));
  table->Line("score-tokens", options.score_token_count_max, "tokens of one Score call");
  table->Line("stream-capacity", options.stream_capacity,
              absl::StrCat("tokens behind = ", FormatBytes(kChunkBytes * options.stream_capacity),
                           " a call"));
  table->Line("reader-stall-ms-max", Milliseconds(options.reader_stall_max),
              "until a turn whose client does not read is ended");
  table->Line("sessions-max", options.session_count_max, "named sessions");
  table->Line("host-state-bytes-max", FormatBytes(options.host_state_bytes_max),
              absl::StrCat("= ", options.host_state_bytes_max / state_bytes,
                           " states moved out of the pool"));
}

}  // namespace

std::string FormatBytes(int64_t bytes) {
  if (bytes < 1024) return absl::StrCat(bytes, " B");
  double value = static_cast<double>(bytes);
  const char* unit = "";
  for (const char* next : {"KiB", "MiB", "GiB", "TiB"}) {
    value /= 1024;
    unit = next;
    if (value < 1024) break;
  }
  return absl::StrFormat("%.1f %s", value, unit);
}

std::string StartReport(const Engine& engine, const ServerOptions& options, Duration grace) {
  Table table;
  AddMachine(engine, &table);
  AddEngine(engine, &table);
  table.Line("prompt-bytes-max", FormatBytes(options.prompt_bytes_max),
             absl::StrCat("of text; messages up to ",
                          FormatBytes(MessageBytesMax(options, engine.options()))));
  table.Line("max-tokens-limit", options.max_tokens_limit, "tokens a turn may ask for");
  table.Line("connection-calls-max", options.connection_call_count_max,
             "calls at once on one connection");
  table.Line("rpc-memory-bytes-max", FormatBytes(options.rpc_memory_bytes_max),
             "of gRPC's buffers");
  table.Line("grace-ms", Milliseconds(grace), "for running turns after SIGTERM");
  return table.Take();
}

}  // namespace eddy
