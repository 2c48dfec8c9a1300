// SPDX-License-Identifier: Apache-2.0
#include "server/flags.h"

#include <CLI/CLI.hpp>
#include <cstdint>
#include <limits>
#include <ostream>

namespace eddy {
namespace {

constexpr const char* kDescription =
    "Streams tokens of one recurrent language model over gRPC. A conversation is a state of "
    "constant\n"
    "size, so memory is decided here, by the flags, and not by what clients do.\n"
    "Sizes may be written as 512MB or 4GB (of 1024).";

constexpr const char* kExample =
    "Example:\n"
    "  eddy-server --model models/shakespeare --listen 0.0.0.0:50051 --slots 256\n"
    "  eddy generate --server 127.0.0.1:50051 --prompt 'ROMEO:' --max-tokens 200\n"
    "SIGTERM or Ctrl-C lets running turns finish for --grace-ms; a second one stops at once.";

constexpr int64_t kGiB = int64_t{1} << 30;

// Flags in milliseconds, until they become durations.
struct Milliseconds {
  int64_t grace = 0;
  int64_t reader_stall_max = 0;
};

template <typename T>
void Number(CLI::App* app, const char* group, const char* name, T* value, T min, T max,
            const char* help) {
  app->add_option(name, *value, help)
      ->check(CLI::Range(min, max))
      ->capture_default_str()
      ->group(group);
}

void Bytes(CLI::App* app, const char* group, const char* name, int64_t* value, int64_t min,
           int64_t max, const char* help) {
  app->add_option(name, *value, help)
      ->transform(CLI::AsSizeValue(false))
      ->check(CLI::Range(min, max))
      ->capture_default_str()
      ->group(group);
}

void AddMain(CLI::App* app, Flags* flags, Milliseconds* ms) {
  const char* group = "What and where";
  app->add_option(
         "--model", flags->model_folder,
         "Folder with config.json, model.safetensors and, for text, tokenizer_config.json; or "
         "synthetic:NAME, made-up weights to measure speed (a wrong NAME lists them).")
      ->required()
      ->group(group);
  app->add_option("--model-name", flags->load.name,
                  "How requests name the model. Default: the folder's name.")
      ->group(group);
  app->add_option(
         "--listen", flags->server.listen,
         "HOST:PORT for gRPC, without encryption; port 0 takes any free one and prints it.")
      ->capture_default_str()
      ->group(group);
  app->add_option("--metrics-listen", flags->server.metrics_listen,
                  "HOST:PORT for the Prometheus page /metrics; port 0 as above, \"\" for none.")
      ->capture_default_str()
      ->group(group);
  Number<int64_t>(app, group, "--grace-ms", &ms->grace, 0, 86'400'000,
                  "How long running turns may go on after SIGTERM; then they end as cancelled.");
}

void AddDevice(CLI::App* app, Flags* flags) {
  const char* group = "Machine and numbers";
  app->add_option("--backend", flags->backend.backend, "auto or cpu.")
      ->capture_default_str()
      ->group(group);
  Number(app, group, "--threads", &flags->backend.thread_count, 0, 1024,
         "Threads of the step; 0: one per core. Does not change any token.");
  app->add_option("--cpu-target", flags->backend.cpu_target,
                  "auto, v2, v3, v4 or v4dot: the x86-64 level of the code; v4dot is v4 with the "
                  "dot products of bf16 and int8. auto takes the highest.")
      ->capture_default_str()
      ->group(group);
  app->add_option(
         "--numeric-path", flags->backend.numeric_path,
         "auto, fma, bf16dot or int8dot: how sums are made; servers on one path give the "
         "same bits. fma: on every machine. bf16dot (auto where cpu-target is v4dot): bf16 "
         "weights by the dot product instruction. int8dot: int8 weights, too, with x "
         "rounded to 8 bits: fastest, but less accurate.")
      ->capture_default_str()
      ->group(group);
  app->add_option_function<std::string>(
         "--weights",
         [flags](const std::string& name) {
           for (const DType dtype : kWeightDTypes) {
             if (name == DTypeName(dtype)) flags->load.weight_dtype = dtype;
           }
         },
         "f32, bf16, int8 or int4: how weights are kept. bf16 halves memory and time per step, "
         "int8 and int4 (groups of 64) halve them again, at some loss of quality. Default: what "
         "the "
         "folder was quantised to (eddy quantize), else bf16.")
      ->check(CLI::IsMember({"f32", "bf16", "int8", "int4"}))
      ->group(group);
  app->add_option_function<std::string>(
         "--state",
         [flags](const std::string& name) {
           flags->load.state_dtype = name == "bf16" ? DType::kBF16 : DType::kF32;
         },
         "f32 or bf16: how sessions' states are kept. bf16 halves their memory, at some loss of "
         "quality. Default: f32.")
      ->check(CLI::IsMember({"f32", "bf16"}))
      ->group(group);
}

void AddBatch(CLI::App* app, Flags* flags) {
  const char* group = "Step";
  EngineOptions& engine = flags->engine;
  Number(app, group, "--slots", &engine.slot_count, 1, 1 << 20,
         "Sessions with their state in the pool: turns that run at once. Costs the state's bytes "
         "each.");
  Number(app, group, "--batch-rows-max", &engine.batch_row_count_max, 1, 1 << 16,
         "Sessions moved by one step. More: throughput; fewer: shorter time between tokens.");
  Number(
      app, group, "--batch-tokens-max", &engine.batch_token_count_max, 1, 1 << 20,
      "Tokens of one step, prompts included. Costs activation memory; bounds the pause that a long "
      "prompt makes for others.");
  Number(app, group, "--prefill-chunk", &engine.prefill_chunk_token_count, 1, 1 << 20,
         "Tokens of one prompt in one step. Does not change any token.");
  Number(app, group, "--prefill-beside-decode", &engine.prefill_beside_decode_token_count, 1,
         1 << 20,
         "Prompt tokens of a step in which others decode; or as many as decode, if more. Smaller "
         "keeps the others' tokens steadier, larger lets prompts in sooner.");
  Number(app, group, "--batch-scores-max", &engine.batch_score_count_max, 1, 1 << 20,
         "Tokens scored in one step, of all Score calls together. Costs a row of logits each.");
  Number(app, group, "--queue", &engine.submit_queue_capacity, 1, 1 << 20,
         "Turns that may wait; one more is refused with RESOURCE_EXHAUSTED and the time to come "
         "again.");
  Number(app, group, "--session-turns-max", &engine.session_turn_count_max, 1, 1 << 20,
         "Turns of one session that may wait for the running one.");
}

void AddLimits(CLI::App* app, Flags* flags, Milliseconds* ms) {
  const char* group = "Limits";
  EngineOptions& engine = flags->engine;
  ServerOptions& server = flags->server;
  Number<int64_t>(app, group, "--prompt-tokens-max", &engine.prompt_token_count_max, 1, 1 << 28,
                  "Tokens of one prompt. A waiting prompt costs four bytes a token.");
  Number<int64_t>(app, group, "--score-tokens", &engine.score_token_count_max, 1, 1 << 28,
                  "Tokens of one Score call; --prompt-tokens-max holds, too.");
  Bytes(app, group, "--prompt-bytes-max", &server.prompt_bytes_max, 1, kGiB / 2,
        "Bytes of one prompt's text; it is tokenized on one of gRPC's few threads.");
  Number<int64_t>(app, group, "--max-tokens-limit", &server.max_tokens_limit, 1, 1 << 30,
                  "The largest max_tokens a turn may ask for.");
  Number(app, group, "--stream-capacity", &engine.stream_capacity, 1, 1 << 20,
         "Tokens a client may be behind before its turn is parked. Costs about 150 bytes each.");
  Number<int64_t>(app, group, "--reader-stall-ms-max", &ms->reader_stall_max, 1, 86'400'000,
                  "A turn parked longer than this for a client that does not read is ended.");
  Number<int64_t>(app, group, "--sessions-max", &engine.session_count_max, 1, int64_t{1} << 40,
                  "Named sessions at once; one more is refused with RESOURCE_EXHAUSTED.");
  Bytes(app, group, "--host-state-bytes-max", &engine.host_state_bytes_max, 0,
        std::numeric_limits<int64_t>::max(),
        "RAM for states of sessions between turns that were moved out of the pool.");
  Number(app, group, "--connection-calls-max", &server.connection_call_count_max, 1, 1 << 20,
         "Calls at once on one connection; more wait in the client without a word.");
  Bytes(app, group, "--rpc-memory-bytes-max", &server.rpc_memory_bytes_max, int64_t{1} << 20,
        int64_t{1} << 50, "RAM for gRPC's own buffers, all connections together.");
}

}  // namespace

std::optional<int> ParseFlags(int argc, const char* const* argv, Flags* flags, std::ostream& out,
                              std::ostream& err) {
  CLI::App app(kDescription, "eddy-server");
  app.footer(kExample);
  Milliseconds ms;
  ms.grace = std::chrono::duration_cast<std::chrono::milliseconds>(flags->grace).count();
  ms.reader_stall_max =
      std::chrono::duration_cast<std::chrono::milliseconds>(flags->engine.reader_stall_max).count();
  AddMain(&app, flags, &ms);
  AddDevice(&app, flags);
  AddBatch(&app, flags);
  AddLimits(&app, flags, &ms);
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    out << app.help();
    return 0;
  } catch (const CLI::ParseError& error) {
    err << "eddy-server: " << error.what() << ". See eddy-server --help.\n";
    return 2;
  }
  flags->grace = std::chrono::milliseconds(ms.grace);
  flags->engine.reader_stall_max = std::chrono::milliseconds(ms.reader_stall_max);
  return std::nullopt;
}

}  // namespace eddy
