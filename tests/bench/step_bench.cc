// SPDX-License-Identifier: Apache-2.0
// eddy-step-bench: how fast one step of a model is, decode by number of streams and prefill by
// prompt length, and what share that is of the roof that this machine's probe gives in the same
// run. README.md says what the figures mean.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/model.h"
#include "kernels/status_macros.h"
#include "tests/bench/step_case.h"

namespace eddy {
namespace {

struct Flags {
  std::string model = "models/shakespeare";
  DType weights = DType::kBF16;
  bool bf16_state = false;
  BackendOptions backend;
  std::vector<int> streams = {1, 2, 4, 8, 16, 32, 64, 128, 256};
  std::vector<int> prefill = {64, 512, 4096};
  StepBenchOptions bench;
  bool json = false;
};

// What the figures of one case are printed from.
struct Figures {
  Figures(const StepResult& result, const BackendInfo& backend, DType weights)
      : tokens_per_s(result.token_count / result.pass_seconds),
        gb_per_s(1e-9 * result.cost.bytes() / result.pass_seconds),
        gflop_per_s(1e-9 * result.cost.operations() / result.pass_seconds),
        probe_gb_per_s(result.probe.read_gb_per_s),
        probe_gflop_per_s(PeakOf(result.probe, backend, weights)),
        share_of_roof(std::max(gb_per_s / probe_gb_per_s, gflop_per_s / probe_gflop_per_s)) {}

  double tokens_per_s, gb_per_s, gflop_per_s, probe_gb_per_s, probe_gflop_per_s, share_of_roof;
};

const char* KindName(const StepCase& step_case) {
  return step_case.kind == StepCase::Kind::kDecode ? "streams" : "prefill";
}

// Three significant places are more than such figures are worth.
double Rounded(double value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.4g", value);
  return std::strtod(text, nullptr);
}

class Report {
 public:
  Report(const Flags& flags, const BackendInfo& backend, const ModelInfo& model)
      : flags_(flags), backend_(backend), model_(model) {}

  void Print(const StepResult& result) const {
    const Figures figures(result, backend_, flags_.weights);
    if (flags_.json) {
      PrintJson(result, figures);
    } else {
      PrintLine(result, figures);
      if (flags_.bench.classes) PrintClasses(result);
    }
    std::fflush(stdout);
  }

  void PrintHead() const {
    if (flags_.json) return;
    std::printf("%s, %s weights of %.1f MB; %s, numeric path %s, %d threads\n", model_.name.c_str(),
                DTypeName(flags_.weights), 1e-6 * static_cast<double>(model_.weight_bytes),
                backend_.target.c_str(), backend_.numeric_path.c_str(), backend_.thread_count);
    std::printf("%-14s %10s %11s %10s %10s %10s %10s %8s\n", "", "tokens/s", "ms", "GB/s",
                "of probe", "GFLOP/s", "of probe", "of roof");
  }

 private:
  void PrintLine(const StepResult& result, const Figures& f) const {
    std::printf("%-8s %5d %10.1f %11.3f %10.2f %10.1f %10.1f %10.1f %7.1f%%\n",
                KindName(result.step_case), result.step_case.size, f.tokens_per_s,
                1e3 * result.pass_seconds, f.gb_per_s, f.probe_gb_per_s, f.gflop_per_s,
                f.probe_gflop_per_s, 100.0 * f.share_of_roof);
  }

  void PrintJson(const StepResult& result, const Figures& f) const {
    nlohmann::ordered_json line = {{"model", model_.name},
                                   {"weights", DTypeName(flags_.weights)},
                                   {KindName(result.step_case), result.step_case.size},
                                   {"tokens_per_s", Rounded(f.tokens_per_s)},
                                   {"gb_per_s", Rounded(f.gb_per_s)},
                                   {"gflop_per_s", Rounded(f.gflop_per_s)},
                                   {"probe_gb_per_s", Rounded(f.probe_gb_per_s)},
                                   {"probe_gflop_per_s", Rounded(f.probe_gflop_per_s)},
                                   {"share_of_roof", Rounded(f.share_of_roof)},
                                   {"pass_ms", Rounded(1e3 * result.pass_seconds)},
                                   {"passes", result.pass_count},
                                   {"threads", backend_.thread_count},
                                   {"target", backend_.target},
                                   {"numeric_path", backend_.numeric_path}};
    if (flags_.bench.classes) {
      for (int i = 0; i < kOpClassCount; ++i) {
        const OpCost& cost = result.cost.ops[static_cast<size_t>(i)];
        line["class_ms"][kOpClassNames[i]] = Rounded(1e3 * cost.seconds);
      }
      line["class_ms"]["wait"] = Rounded(1e3 * WaitSeconds(result));
      line["class_ms"]["other"] = Rounded(1e3 * OtherSeconds(result));
      const OpCost& recurrence = result.cost.of(OpClass::kRecurrence);
      line["recurrence_gb_per_s"] =
          Rounded(1e-9 * recurrence.bytes / (recurrence.seconds + recurrence.wait_seconds));
    }
    std::printf("%s\n", line.dump().c_str());
  }

  void PrintClasses(const StepResult& result) const {
    const auto print = [&](const char* name, double seconds) {
      std::printf("  %-12s %9.3f ms %5.1f%%", name, 1e3 * seconds,
                  100.0 * seconds / result.timed_pass_seconds);
    };
    for (int i = 0; i < kOpClassCount; ++i) {
      const OpCost& cost = result.cost.ops[static_cast<size_t>(i)];
      print(kOpClassNames[i], cost.seconds);
      const double all_seconds = cost.seconds + cost.wait_seconds;
      if (cost.bytes > 0.0) std::printf(" %8.2f GB/s", 1e-9 * cost.bytes / all_seconds);
      if (cost.operations > 0.0) {
        std::printf(" %8.1f GFLOP/s", 1e-9 * cost.operations / all_seconds);
      }
      std::printf("\n");
    }
    print("wait", WaitSeconds(result));
    std::printf("\n");
    print("other", OtherSeconds(result));
    std::printf("\n");
  }

  static double WaitSeconds(const StepResult& result) {
    double seconds = 0.0;
    for (const OpCost& cost : result.cost.ops) seconds += cost.wait_seconds;
    return seconds;
  }

  // Between the ops.
  static double OtherSeconds(const StepResult& result) {
    double seconds = result.timed_pass_seconds - WaitSeconds(result);
    for (const OpCost& cost : result.cost.ops) seconds -= cost.seconds;
    return seconds;
  }

  const Flags& flags_;
  const BackendInfo& backend_;
  const ModelInfo& model_;
};

// What the system says may still be taken; 0 when it does not say.
int64_t AvailableBytes() {
  std::ifstream file("/proc/meminfo");
  std::string key, unit;
  int64_t kilobytes = 0;
  while (file >> key >> kilobytes) {
    std::getline(file, unit);
    if (key == "MemAvailable:") return kilobytes * 1024;
  }
  return 0;
}

absl::Status RunAll(const Flags& flags) {
  EDDY_ASSIGN_OR_RETURN(std::unique_ptr<Backend> cpu, MakeBackend(flags.backend));
  MeteredBackend backend(std::move(cpu));
  LoadOptions load;
  load.weight_dtype = flags.weights;
  if (flags.bf16_state) load.state_dtype = DType::kBF16;
  EDDY_ASSIGN_OR_RETURN(std::unique_ptr<Model> model, LoadModel(flags.model, backend, load));
  Probe probe(backend.info().thread_count);
  const Report report(flags, backend.info(), model->info());
  report.PrintHead();
  std::vector<StepCase> cases;
  for (const int streams : flags.streams) cases.push_back({StepCase::Kind::kDecode, streams});
  for (const int tokens : flags.prefill) cases.push_back({StepCase::Kind::kPrefill, tokens});
  for (const StepCase& step_case : cases) {
    const int64_t needed_bytes = CaseBytes(step_case, flags.bench, *model);
    if (const int64_t available = AvailableBytes(); available > 0 && needed_bytes > available) {
      std::fprintf(stderr, "eddy-step-bench: %s %d is left out: it needs %.1f GB, there are %.1f\n",
                   KindName(step_case), step_case.size, 1e-9 * static_cast<double>(needed_bytes),
                   1e-9 * static_cast<double>(available));
      continue;
    }
    EDDY_ASSIGN_OR_RETURN(const StepResult result,
                          RunCase(step_case, flags.bench, backend, *model, probe));
    report.Print(result);
  }
  return absl::OkStatus();
}

void AddFlags(CLI::App* app, Flags* flags) {
  app->add_option("--model", flags->model, "model folder, or synthetic:NAME")
      ->capture_default_str();
  app->add_option_function<std::string>(
         "--weights",
         [flags](const std::string& name) {
           for (const DType dtype : kWeightDTypes) {
             if (name == DTypeName(dtype)) flags->weights = dtype;
           }
         },
         "f32, bf16 (default), int8 or int4")
      ->check(CLI::IsMember({"f32", "bf16", "int8", "int4"}));
  app->add_flag("--bf16-state", flags->bf16_state, "states kept as bf16 (default: f32)");
  app->add_option("--cpu-target", flags->backend.cpu_target, "auto, v2, v3, v4 or v4dot")
      ->capture_default_str();
  app->add_option("--numeric-path", flags->backend.numeric_path, "auto, fma, bf16dot or int8dot")
      ->capture_default_str();
  app->add_option("--threads", flags->backend.thread_count, "threads of a step; 0: one a core")
      ->check(CLI::Range(0, 1024));
  app->add_option("--streams", flags->streams, "numbers of decoding streams, by commas; 0: none")
      ->delimiter(',')
      ->check(CLI::Range(0, 65536))
      ->capture_default_str();
  app->add_option("--prefill", flags->prefill, "prompt lengths in tokens, by commas; 0: none")
      ->delimiter(',')
      ->check(CLI::Range(0, 1 << 20))
      ->capture_default_str();
  app->add_option("--chunk", flags->bench.chunk_token_count, "prompt tokens in one step")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app->add_option("--seconds", flags->bench.seconds, "measured time a case")
      ->check(CLI::Range(0.0, 3600.0))
      ->capture_default_str();
  app->add_option("--steps", flags->bench.step_count_max, "measured passes a case at most")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str();
  app->add_flag("--classes", flags->bench.classes, "also the time by class of ops");
  app->add_flag("--json", flags->json, "one JSON object a line");
}

}  // namespace
}  // namespace eddy

int main(int argc, char** argv) {
  eddy::Flags flags;
  CLI::App app("Times one step of a model: decode by streams, prefill by prompt length.");
  eddy::AddFlags(&app, &flags);
  CLI11_PARSE(app, argc, argv);
  std::erase(flags.streams, 0);
  std::erase(flags.prefill, 0);
  const absl::Status status = eddy::RunAll(flags);
  if (!status.ok()) {
    std::fprintf(stderr, "eddy-step-bench: %s\n", std::string(status.message()).c_str());
  }
  return status.ok() ? 0 : 1;
}
