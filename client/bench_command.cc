// SPDX-License-Identifier: Apache-2.0
#include "client/bench_command.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <ostream>
#include <random>
#include <string>

#include "client/bench_report.h"
#include "client/connection_flags.h"
#include "client/failure.h"
#include "client/interrupt.h"
#include "client/load_generator.h"
#include "client/progress_bar.h"
#include "client/prompt_flags.h"
#include "client/sampling_flags.h"

namespace eddy {
namespace {

constexpr char kExamples[] = R"(Examples:
  eddy bench --streams 16 --requests 200 --prompt-tokens 128 --max-tokens 64
  eddy bench --rate 50 --duration-s 30 --prompt 'ROMEO:' --max-tokens 100
  eddy bench --streams 64 --duration-s 10 --ignore-end-of-text --json

Closed loop (--streams): each stream sends its next request when its last ends; after a failure it
waits 100 ms. Open loop (--rate): requests come at random, on average so many a second, whether or
not the server keeps up, and are timed from when they were due. --duration-s ends the run then and
cuts what still runs: it counts with its tokens, but not as finished. Between tokens: a message of k
tokens that comes t after the one before counts as k intervals of t / k; the first message counts as
time to first token alone. Percentiles are exact, by nearest rank. Exit code: 0, or 1 if no request
finished well (2 wrong flags, 130 Ctrl-C); a run cut by --duration-s that failed nowhere is well.)";

// So many streams share one TCP connection at best: HTTP/2 serialises what one connection carries.
constexpr int kStreamsPerConnection = 64;
constexpr int kConnectionsMax = 16;

struct BenchFlags {
  LoadOptions load;
  CLI::Option* rate_option = nullptr;
  CLI::Option* streams_option = nullptr;
  PromptFlags prompt;
  uint32_t prompt_token_count = 32;
  SamplingFlags sampling;
  std::string model;
  int connection_count = 0;
  int64_t warmup_count = 0;
  bool json = false;
  bool progress = false;
};

int ConnectionCount(const BenchFlags& flags) {
  if (flags.connection_count > 0) {
    return flags.connection_count;
  }
  if (flags.load.rate_per_s > 0) {
    return 4;
  }
  return std::clamp((flags.load.stream_count + kStreamsPerConnection - 1) / kStreamsPerConnection,
                    1, kConnectionsMax);
}

// One run of the command: asks the server for its model, loads it, reports.
class Bench {
 public:
  Bench(BenchFlags& flags, CommandContext& context)
      : flags_(flags), context_(context), console_(context.console) {}

  int Run() {
    if (flags_.load.request_count == 0 && flags_.load.duration_s == 0) {
      flags_.load.request_count = 64;
    }
    if (!flags_.sampling.stop.has_max_tokens()) {
      flags_.sampling.stop.set_max_tokens(64);
    }
    if (flags_.sampling.sampling.has_seed()) {
      flags_.load.seed = flags_.sampling.sampling.seed();
    }
    if (flags_.prompt.given()) {
      const std::string problem = ReadPrompt(flags_.prompt, console_.in, &prompt_.emplace());
      if (!problem.empty()) {
        return ReportUsage(console_, problem);
      }
    }
    // Also tells at once if nobody answers.
    Client client(MakeClientOptions(context_));
    if (const grpc::Status status = client.GetModel(flags_.model, &model_); !status.ok()) {
      return ReportFailure(console_, status, context_.server);
    }
    OpenChannels();
    WarmUp();
    return RunMeasured();
  }

 private:
  void OpenChannels() {
    ClientOptions options = MakeClientOptions(context_);
    options.own_connection = true;
    for (int i = 0; i < ConnectionCount(flags_); ++i) {
      channels_.push_back(MakeChannel(options));
      channels_.back()->WaitForConnected(std::chrono::system_clock::now() +
                                         std::chrono::seconds(10));
    }
  }

  v1::GenerateRequest MakeRequest(int64_t index) const {
    v1::GenerateRequest request;
    request.set_model(flags_.model);
    if (prompt_) {
      *request.mutable_prompt() = *prompt_;
    } else {
      const std::vector<uint32_t> ids =
          DrawPrompt(model_, flags_.prompt_token_count, flags_.load.seed, index);
      request.mutable_prompt()->mutable_token_ids()->mutable_ids()->Assign(ids.begin(), ids.end());
    }
    *request.mutable_sampling() = flags_.sampling.sampling;
    request.mutable_sampling()->set_seed(flags_.load.seed + static_cast<uint64_t>(index));
    *request.mutable_stop() = flags_.sampling.stop;
    return request;
  }

  // Its requests are counted down from -1, so that their prompts differ from the measured ones.
  void WarmUp() {
    if (flags_.warmup_count == 0) {
      return;
    }
    LoadOptions options;
    options.stream_count = flags_.load.rate_per_s > 0 ? 1 : flags_.load.stream_count;
    options.request_count = flags_.warmup_count;
    LoadGenerator generator(options, channels_,
                            [this](int64_t index) { return MakeRequest(-1 - index); });
    const Interrupt::Scope interrupt(console_.interrupt, [&generator] { generator.Stop(); });
    generator.Run(nullptr);
    interrupted_ = interrupt.interrupted();
  }

  int RunMeasured() {
    if (interrupted_) {
      return kExitInterrupted;
    }
    LoadGenerator generator(flags_.load, channels_,
                            [this](int64_t index) { return MakeRequest(index); });
    LoadResult result;
    {
      const Interrupt::Scope interrupt(console_.interrupt, [&generator] { generator.Stop(); });
      std::optional<ProgressBar> bar;
      if (flags_.progress || console_.err_is_terminal) {
        bar.emplace(console_.err);
      }
      const ProgressGoal goal{flags_.load.request_count, flags_.load.duration_s};
      result = generator.Run([&bar, &goal](const LoadProgress& progress) {
        if (bar) {
          bar->Show(FormatProgress(progress, goal));
        }
      });
      interrupted_ = interrupt.interrupted();
    }
    const BenchSetting setting{flags_.load, static_cast<int>(channels_.size()),
                               flags_.sampling.stop.max_tokens()};
    if (flags_.json) {
      console_.out << FormatBenchJson(setting, result) << std::endl;
    } else {
      console_.out << FormatBenchTable(setting, result) << std::flush;
    }
    if (interrupted_) {
      return kExitInterrupted;
    }
    return result.finished() > 0 || (result.failed_by_code.empty() && result.generated_tokens > 0)
               ? kExitOk
               : kExitFailed;
  }

  BenchFlags& flags_;
  CommandContext& context_;
  Console& console_;
  v1::Model model_;
  std::optional<v1::Prompt> prompt_;
  std::vector<std::shared_ptr<grpc::Channel>> channels_;
  bool interrupted_ = false;
};

void AddLoadFlags(CLI::App& command, BenchFlags& flags) {
  flags.streams_option =
      command.add_option("--streams", flags.load.stream_count, "Closed loop: streams at once")
          ->type_name("N")
          ->check(CLI::Range(1, 100'000))
          ->capture_default_str();
  command.add_option("--rate", flags.load.rate_per_s, "Open loop: requests per second")
      ->type_name("R")
      ->check(CLI::Range(0.001, 1e6))
      ->excludes(flags.streams_option);
  command
      .add_option("--requests", flags.load.request_count,
                  "Requests in all; default: 64 if --duration-s is not given, else no limit")
      ->type_name("N")
      ->check(CLI::PositiveNumber);
  command.add_option("--duration-s", flags.load.duration_s, "Seconds the run lasts at most")
      ->type_name("S")
      ->check(CLI::PositiveNumber);
  command.add_option("--warmup", flags.warmup_count, "Requests to run first that are not counted")
      ->type_name("N")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command
      .add_option("--running-max", flags.load.running_max,
                  "Open loop: requests due while so many run are not sent")
      ->type_name("N")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command
      .add_option("--connections", flags.connection_count,
                  "TCP connections; default: one for 64 streams, at most 16; open loop 4")
      ->type_name("N")
      ->check(CLI::Range(1, 1024));
  command
      .add_option("--deadline-ms", flags.load.deadline_ms, "Each call's deadline; default: none")
      ->type_name("N")
      ->check(CLI::Range(1, 86'400'000));
}

}  // namespace

void AddBenchCommand(CLI::App& app, CommandContext& context) {
  const auto flags = std::make_shared<BenchFlags>();
  flags->load.stream_count = 8;
  CLI::App* const command = app.add_subcommand("bench", "Measure a server under load");
  AddServerFlag(*command, context);
  AddLoadFlags(*command, *flags);
  AddPromptFlags(*command, flags->prompt);
  command
      ->add_option("--prompt-tokens", flags->prompt_token_count,
                   "Length of random prompts, a new one each request, if no prompt is given")
      ->type_name("N")
      ->check(CLI::Range(1u, 100'000'000u))
      ->excludes(flags->prompt.text_option)
      ->excludes(flags->prompt.file_option)
      ->excludes(flags->prompt.token_ids_option)
      ->capture_default_str();
  command->add_option("--model", flags->model, "The model; default: the only one served")
      ->type_name("NAME")
      ->check(CheckUtf8);
  AddSamplingFlags(*command, flags->sampling);
  command->get_option("--max-tokens")->description("Tokens of each request at most; default 64");
  command->get_option("--seed")->description(
      "Of arrivals and random prompts; request i samples with seed N + i; default 1");
  command->add_flag("--json", flags->json, "Print the result as one JSON object")->group("Output");
  command
      ->add_flag("--progress", flags->progress,
                 "Show the progress bar even if the standard error is no terminal")
      ->group("Output");
  command->footer(kExamples);
  command->callback([flags, &context] { context.exit_code = Bench(*flags, context).Run(); });
}

std::vector<uint32_t> DrawPrompt(const v1::Model& model, uint32_t token_count, uint64_t seed,
                                 int64_t index) {
  // The engine's first numbers for neighbouring seeds are unlike enough; multiplying keeps the
  // prompts of seed 1 apart from those of seed 2.
  std::mt19937_64 random(seed * 0x9E3779B97F4A7C15u + static_cast<uint64_t>(index));
  const auto& banned = model.end_of_text_ids();
  std::vector<uint32_t> ids;
  ids.reserve(token_count);
  if (model.vocabulary_size() <= static_cast<uint32_t>(banned.size())) {
    ids.assign(token_count, 0);
    return ids;
  }
  while (ids.size() < token_count) {
    const uint32_t id = static_cast<uint32_t>(random() % model.vocabulary_size());
    if (std::find(banned.begin(), banned.end(), id) == banned.end()) {
      ids.push_back(id);
    }
  }
  return ids;
}

}  // namespace eddy
