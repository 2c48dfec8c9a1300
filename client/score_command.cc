// SPDX-License-Identifier: Apache-2.0
#include "client/score_command.h"

#include <cstdint>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "client/connection_flags.h"
#include "client/failure.h"
#include "client/interrupt.h"
#include "client/prompt_flags.h"
#include "client/sampling_flags.h"
#include "client/score_report.h"
#include "client/turn_clock.h"

namespace eddy {
namespace {

constexpr char kExamples[] = R"(Examples:
  eddy score --text 'To be, or not to be'
  eddy score --text 'To be' --top 5              with the five most probable tokens at each place
  eddy score --token-ids 34,105,110 --json | jq .log_probs

The log-probability of each token, in nats, after all before it; the first has none. With --json one
line: token_ids, log_probs (the first null) and, with --top, top. Exit code: 0 done, 1 the server
refused or failed it, 2 wrong flags, 130 Ctrl-C. The sum over a file: eddy perplexity.)";

constexpr uint32_t kTopMax = 256;

struct ScoreFlags {
  PromptFlags text;
  std::string model;
  uint32_t top = 0;
  bool json = false;
};

int RunScore(const ScoreFlags& flags, CommandContext& context) {
  Console& console = context.console;
  if (!flags.text.given()) {
    return ReportUsage(console, "give --text, --text-file or --token-ids (see eddy score --help)");
  }
  v1::ScoreRequest request;
  request.set_model(flags.model);
  request.set_top_log_probs(flags.top);
  request.set_token_bytes(!flags.json);
  if (const std::string problem = ReadPrompt(flags.text, console.in, request.mutable_prompt());
      !problem.empty()) {
    return ReportUsage(console, problem);
  }

  Client client(MakeClientOptions(context));
  grpc::ClientContext call;
  Interrupt::Scope interrupt(console.interrupt, [&call] { call.TryCancel(); });
  std::vector<v1::TokenLogProb> tokens;
  v1::ScoreResponse last;
  const auto on_message = [&tokens](const v1::ScoreResponse& message) {
    tokens.insert(tokens.end(), message.tokens().begin(), message.tokens().end());
    return true;
  };
  const grpc::Status status = client.Score(call, request, on_message, &last);
  if (interrupt.interrupted() && !status.ok()) {
    console.err << "eddy: CANCELLED: interrupted by Ctrl-C" << std::endl;
    return kExitInterrupted;
  }
  if (!status.ok()) {
    return ReportFailure(console, status, context.server, &call);
  }
  if (last.finish_reason() != v1::FINISH_REASON_SCORED) {
    console.err << "eddy: the server ended the call after " << tokens.size()
                << " tokens: " << FinishReasonWord(last.finish_reason()) << std::endl;
    return kExitFailed;
  }
  const bool top = flags.top > 0;
  console.out << (flags.json ? FormatScoresJson(tokens, top) + "\n"
                             : FormatScoresTable(tokens, top))
              << std::flush;
  return kExitOk;
}

}  // namespace

void AddScoreCommand(CLI::App& app, CommandContext& context) {
  const auto flags = std::make_shared<ScoreFlags>();
  CLI::App* const command =
      app.add_subcommand("score", "Tell how probable each token of a text is");
  AddServerFlag(*command, context);
  PromptFlags& text = flags->text;
  text.text_option = command->add_option("--text", text.text, "The text to score")
                         ->type_name("TEXT")
                         ->check(CheckUtf8);
  text.file_option =
      command->add_option("--text-file", text.file, "Read it from a file; - is the standard input")
          ->type_name("FILE")
          ->excludes(text.text_option);
  text.token_ids_option =
      command->add_option("--token-ids", text.token_ids, "The text as token ids: 1,2,3")
          ->type_name("IDS")
          ->check(CheckWholeNumber)
          ->delimiter(',')
          ->allow_extra_args(false)
          ->excludes(text.text_option)
          ->excludes(text.file_option);
  command->add_option("--model", flags->model, "The model; default: the only one served")
      ->type_name("NAME")
      ->check(CheckUtf8);
  command
      ->add_option("--top", flags->top, "Also the N most probable tokens at each place; default 0")
      ->type_name("N")
      ->check(CLI::Range(0u, kTopMax));
  command->add_flag("--json", flags->json, "Print one line of JSON");
  command->footer(kExamples);
  command->callback([flags, &context] { context.exit_code = RunScore(*flags, context); });
}

}  // namespace eddy
