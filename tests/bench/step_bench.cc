// SPDX-License-Identifier: Apache-2.0
// eddy-step-bench: how fast one step of a model is, decode by number of streams and prefill by
// prompt length, and what share that is of the roof that this machine's probe gives in the same
// run.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <numeric>
#include <string>
#include <vector>

#include "engine/model.h"
#include "kernels/backend.h"
#include "kernels/status_macros.h"
#include "kernels/workspace.h"
#include "tests/bench/probe.h"

namespace eddy {
namespace {

struct Flags {
  std::string model = "models/shakespeare";
  std::string weights = "bf16";
  std::string cpu_target = "auto";
  std::vector<int> streams = {1, 8, 64};
  std::vector<int> prefill = {64, 512};
  int threads = 0;
  int steps = 200;
  bool json = false;
};

// The rows of one step, as the engine's batch has them: `rows` rows of `tokens_per_row` tokens.
class StepRows {
 public:
  StepRows(int rows, int tokens_per_row, int32_t vocabulary_size) {
    const int tokens = rows * tokens_per_row;
    for (int i = 0; i < tokens; ++i) tokens_.push_back(i * 7919 % vocabulary_size);
    for (int r = 0; r <= rows; ++r) token_begin_.push_back(r * tokens_per_row);
    for (int r = 0; r < rows; ++r) {
      slot_.push_back(r);
      position_.push_back(0);
      logits_token_.push_back((r + 1) * tokens_per_row - 1);
    }
    view_ = {rows,
             tokens,
             rows,
             tokens_.data(),
             token_begin_.data(),
             slot_.data(),
             position_.data(),
             logits_token_.data()};
  }
  const Rows& view() const { return view_; }

 private:
  std::vector<int32_t> tokens_, token_begin_, slot_, logits_token_;
  std::vector<int64_t> position_;
  Rows view_;
};

struct Case {
  const char* kind;  // "streams" or "prefill"
  int rows;
  int tokens_per_row;
};

class StepBench {
 public:
  StepBench(const Flags& flags, Backend& backend, Model& model, const ProbeResult& probe)
      : flags_(flags), backend_(backend), model_(model), probe_(probe) {}

  absl::Status Run(const Case& bench) {
    const StepRows rows(bench.rows, bench.tokens_per_row, model_.info().vocabulary_size);
    const int64_t state_bytes = model_.state_layout().bytes();
    Workspace measure;
    const Shape logits_shape = {bench.rows, model_.info().vocabulary_size};
    model_.Forward(rows.view(), {}, measure, Tensor(nullptr, DType::kF32, logits_shape));
    EDDY_ASSIGN_OR_RETURN(Buffer scratch, backend_.Allocate(measure.peak_bytes()));
    EDDY_ASSIGN_OR_RETURN(Buffer pool, backend_.Allocate(bench.rows * state_bytes));
    EDDY_ASSIGN_OR_RETURN(Buffer logits, backend_.Allocate(logits_shape.element_count() * 4));
    Workspace workspace(std::move(scratch));
    const StateRef state = {static_cast<std::byte*>(pool.data()), state_bytes, 0};
    std::vector<double> seconds;
    for (int i = -flags_.steps / 10; i < flags_.steps; ++i) {
      const auto start = std::chrono::steady_clock::now();
      workspace.Reset();
      const Rows& device = backend_.BeginStep(rows.view());
      model_.Forward(device, state, workspace, logits.View(DType::kF32, logits_shape));
      EDDY_RETURN_IF_ERROR(backend_.Synchronize());
      const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
      if (i >= 0) seconds.push_back(took.count());
    }
    std::nth_element(seconds.begin(), seconds.begin() + flags_.steps / 2, seconds.end());
    Print(bench, seconds[static_cast<size_t>(flags_.steps / 2)]);
    return absl::OkStatus();
  }

 private:
  // A step reads the weights once and reads and writes each row's state once; a token costs two
  // operations a parameter and six a number of the state.
  void Print(const Case& bench, double step_seconds) const {
    const double tokens = bench.rows * bench.tokens_per_row;
    const auto state_bytes = static_cast<double>(model_.state_layout().bytes());
    const double bytes =
        static_cast<double>(model_.info().weight_bytes) + 2 * bench.rows * state_bytes;
    const double gflop =
        1e-9 * tokens *
        (2 * static_cast<double>(model_.info().parameter_count) + 6 * state_bytes / 4);
    const double roof_seconds = std::max(1e-9 * bytes / probe_.read_gb_per_s,  //
                                         gflop / probe_.fma_gflop_per_s);
    std::printf(
        flags_.json
            ? "{\"model\": \"%s\", \"weights\": \"%s\", \"%s\": %d, \"tokens_per_s\": %.1f, "
              "\"gb_per_s\": %.2f, \"gflop_per_s\": %.2f, \"probe_gb_per_s\": %.1f, "
              "\"probe_gflop_per_s\": %.1f, \"share_of_roof\": %.3f}\n"
            : "%-16s %-5s %8s %5d  %10.1f tokens/s  %7.2f GB/s  %7.2f GFLOP/s  "
              "(probe %.1f GB/s, %.1f GFLOP/s)  %.3f of the roof\n",
        model_.info().name.c_str(), flags_.weights.c_str(), bench.kind,
        bench.rows * bench.tokens_per_row, tokens / step_seconds, 1e-9 * bytes / step_seconds,
        gflop / step_seconds, probe_.read_gb_per_s, probe_.fma_gflop_per_s,
        roof_seconds / step_seconds);
    std::fflush(stdout);
  }

  const Flags& flags_;
  Backend& backend_;
  Model& model_;
  const ProbeResult probe_;
};

absl::Status RunAll(const Flags& flags) {
  BackendOptions options;
  options.backend = "cpu";
  options.cpu_target = flags.cpu_target;
  options.thread_count = flags.threads;
  EDDY_ASSIGN_OR_RETURN(std::unique_ptr<Backend> backend, MakeBackend(options));
  LoadOptions load;
  load.weight_dtype = flags.weights == "f32" ? DType::kF32 : DType::kBF16;
  EDDY_ASSIGN_OR_RETURN(std::unique_ptr<Model> model, LoadModel(flags.model, *backend, load));
  const ProbeResult probe = ProbeMachine(backend->info().thread_count);
  StepBench bench(flags, *backend, *model, probe);
  for (int streams : flags.streams) EDDY_RETURN_IF_ERROR(bench.Run({"streams", streams, 1}));
  for (int tokens : flags.prefill) EDDY_RETURN_IF_ERROR(bench.Run({"prefill", 1, tokens}));
  return absl::OkStatus();
}

}  // namespace
}  // namespace eddy

int main(int argc, char** argv) {
  eddy::Flags flags;
  CLI::App app("Times one step of a model: decode by streams, prefill by prompt length.");
  app.add_option("--model", flags.model, "model folder")->capture_default_str();
  app.add_option("--weights", flags.weights, "f32 or bf16")
      ->check(CLI::IsMember({"f32", "bf16"}))
      ->capture_default_str();
  app.add_option("--cpu-target", flags.cpu_target, "auto, v2, v3 or v4")->capture_default_str();
  app.add_option("--streams", flags.streams, "numbers of decoding streams, by commas")
      ->delimiter(',')
      ->check(CLI::Range(1, 4096));
  app.add_option("--prefill", flags.prefill, "prompt lengths in tokens, by commas")
      ->delimiter(',')
      ->check(CLI::Range(1, 65536));
  app.add_option("--threads", flags.threads, "worker threads; 0: one a core");
  app.add_option("--steps", flags.steps, "steps a case; the median is printed")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str();
  app.add_flag("--json", flags.json, "one JSON object a line");
  CLI11_PARSE(app, argc, argv);
  const absl::Status status = eddy::RunAll(flags);
  if (!status.ok()) std::fprintf(stderr, "eddy-step-bench: %s\n", status.ToString().c_str());
  return status.ok() ? 0 : 1;
}
