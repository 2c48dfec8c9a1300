// SPDX-License-Identifier: Apache-2.0
// eddy-quantize: flags, the new folder, the report.
//
// Exit codes: 0 made, 1 could not, 2 wrong flags, 130 stopped by Ctrl-C (nothing is left behind).
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <iostream>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "engine/quantise_model.h"
#include "kernels/status_macros.h"
#include "quantize/flags.h"
#include "quantize/progress_line.h"
#include "quantize/quality.h"
#include "quantize/report.h"

namespace eddy {
namespace {

constexpr int kExitInterrupted = 130;

std::atomic<bool> stopped{false};
static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler writes it");

void StopOnSignals() {
  struct sigaction action = {};
  action.sa_handler = [](int) { stopped.store(true); };
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction before = {};
    sigaction(number, nullptr, &before);
    if (before.sa_handler != SIG_IGN) sigaction(number, &action, nullptr);
  }
}

absl::Status PrintLosses(const QuantizeFlags& flags, const TextPart& text, ProgressLine* line) {
  const auto rows =
      MeasureLosses(flags, text.bytes, [&](const std::string& what, int64_t done, int64_t all) {
        line->Show(done, all, what);
        return !stopped.load();
      });
  line->Wipe();
  if (absl::IsNotFound(rows.status()) && flags.text.empty()) {
    std::cout << "no loss: the model has no tokenizer\n";
    return absl::OkStatus();
  }
  if (!rows.ok()) return rows.status();
  std::cout << "\n" << FormatLosses(text, *rows);
  return absl::OkStatus();
}

absl::Status Quantize(const QuantizeFlags& flags) {
  ProgressLine line(std::cerr, isatty(STDERR_FILENO) == 1);
  // Before the work: a wrong path is told at once.
  EDDY_ASSIGN_OR_RETURN(const std::optional<TextPart> text, FindText(flags));
  BackendOptions backend_options;
  backend_options.thread_count = flags.thread_count;
  QuantiseOptions options;
  options.dtype = flags.dtype;
  options.progress = [&](int64_t done, int64_t all) {
    line.Show(done, all, "quantising");
    return !stopped.load();
  };
  line.Show(0, 1, "loading the model");
  EDDY_ASSIGN_OR_RETURN(const std::unique_ptr<Backend> backend, MakeBackend(backend_options));
  EDDY_ASSIGN_OR_RETURN(const QuantiseReport report,
                        QuantiseModel(flags.model_folder, flags.out_folder, *backend, options));
  line.Wipe();
  std::cout << FormatReport(report) << std::flush;
  if (!text) return absl::OkStatus();
  return PrintLosses(flags, *text, &line);
}

}  // namespace
}  // namespace eddy

int main(int argc, char** argv) {
  eddy::QuantizeFlags flags;
  if (const std::optional<int> code =
          eddy::ParseQuantizeFlags(argc, argv, &flags, std::cout, std::cerr)) {
    return *code;
  }
  eddy::StopOnSignals();
  const absl::Status status = eddy::Quantize(flags);
  std::cout << std::flush;
  if (!status.ok()) {
    std::cerr << "eddy-quantize: " << std::string(status.message()) << "\n";
    return eddy::stopped.load() ? eddy::kExitInterrupted : EXIT_FAILURE;
  }
  if (!std::cout) {
    std::cerr << "eddy-quantize: cannot write to the standard output\n";
    return EXIT_FAILURE;
  }
  return EXIT_SUCCESS;
}
