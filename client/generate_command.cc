// SPDX-License-Identifier: Apache-2.0
#include "client/generate_command.h"

#include <chrono>
#include <cstdint>
#include <memory>
#include <ostream>

#include "client/connection_flags.h"
#include "client/failure.h"
#include "client/interrupt.h"
#include "client/json_line.h"
#include "client/prompt_flags.h"
#include "client/sampling_flags.h"
#include "client/turn_clock.h"

namespace eddy {
namespace {

constexpr char kExamples[] = R"(Examples:
  eddy generate --prompt 'ROMEO:' --max-tokens 200 --temperature 0.8 --seed 1
  eddy generate --prompt-file play.txt --stop $'\n\n' > scene.txt
  eddy generate --session anna --create --prompt 'JULIET:'     continue where it stopped:
  eddy generate --session anna --prompt $'\nROMEO:'            only the new text is read
  eddy generate --token-ids 20,43,50 --json | jq .token_ids

The completion alone goes to the standard output, all else to the standard error. Ctrl-C cancels the
call. Exit code: 0 done, 1 the server refused or failed it, 2 wrong flags, 130 Ctrl-C.)";

struct GenerateFlags {
  PromptFlags prompt;
  SessionFlags session;
  SamplingFlags sampling;
  v1::Output output;
  uint32_t deadline_ms = 0;
  bool json = false;
  bool verbose = false;
};

v1::GenerateRequest MakeRequest(const GenerateFlags& flags) {
  v1::GenerateRequest request;
  request.set_model(flags.session.model);
  request.set_session(flags.session.session);
  request.set_create_session(flags.session.create);
  *request.mutable_sampling() = flags.sampling.sampling;
  *request.mutable_stop() = flags.sampling.stop;
  *request.mutable_output() = flags.output;
  return request;
}

// The text's last piece may leave a terminal's cursor in mid-line; a file must not get a byte more.
void EndLine(Console& console, bool at_line_start) {
  if (console.out_is_terminal && !at_line_start) {
    console.out << std::endl;
  }
}

int RunGenerate(const GenerateFlags& flags, CommandContext& context) {
  Console& console = context.console;
  if (!flags.prompt.given() && flags.session.session.empty()) {
    return ReportUsage(console,
                       "give --prompt, --prompt-file or --token-ids (see eddy generate --help)");
  }
  v1::GenerateRequest request = MakeRequest(flags);
  if (const std::string problem = ReadPrompt(flags.prompt, console.in, request.mutable_prompt());
      !problem.empty()) {
    return ReportUsage(console, problem);
  }

  Client client(MakeClientOptions(context));
  grpc::ClientContext call;
  if (flags.deadline_ms > 0) {
    call.set_deadline(std::chrono::system_clock::now() +
                      std::chrono::milliseconds(flags.deadline_ms));
  }
  Interrupt::Scope interrupt(console.interrupt, [&call] { call.TryCancel(); });
  TurnClock clock(TurnClock::Clock::now());
  bool at_line_start = true;
  v1::GenerateResponse last;
  const auto on_message = [&](const v1::GenerateResponse& message) {
    clock.OnMessage(message, TurnClock::Clock::now());
    if (flags.json) {
      console.out << JsonLine(message) << '\n';
    } else if (!message.text().empty()) {
      console.out << message.text();
      at_line_start = message.text().back() == '\n';
    }
    return static_cast<bool>(console.out.flush());
  };
  const grpc::Status status = client.Generate(call, request, on_message, &last);
  EndLine(console, at_line_start);
  if (!console.out) {
    console.err << "eddy: cannot write to the standard output" << std::endl;
    return kExitFailed;
  }
  if (interrupt.interrupted() && !status.ok()) {
    console.err << "eddy: CANCELLED: interrupted by Ctrl-C" << std::endl;
    return kExitInterrupted;
  }
  if (!status.ok()) {
    return ReportFailure(console, status, context.server, &call);
  }
  if (flags.verbose || (console.err_is_terminal && !flags.json)) {
    console.err << "eddy: " << clock.Summary(last) << std::endl;
  }
  return kExitOk;
}

}  // namespace

void AddGenerateCommand(CLI::App& app, CommandContext& context) {
  const auto flags = std::make_shared<GenerateFlags>();
  CLI::App* const command = app.add_subcommand("generate", "Stream a completion of a prompt");
  AddServerFlag(*command, context);
  AddPromptFlags(*command, flags->prompt);
  AddSessionFlags(*command, flags->session);
  AddSamplingFlags(*command, flags->sampling);
  AddOutputFlags(*command, flags->output);
  command
      ->add_option("--deadline-ms", flags->deadline_ms,
                   "End the turn after N milliseconds, finished or not; default: none")
      ->type_name("N")
      ->check(CLI::Range(1u, 86'400'000u))
      ->group("Stopping");
  command
      ->add_flag("--json", flags->json,
                 "Print each message as one line of JSON with the proto's field names")
      ->group("Output");
  command
      ->add_flag("--verbose", flags->verbose,
                 "Print tokens, pace and finish reason at the end even if the standard error is no "
                 "terminal")
      ->group("Output");
  command->footer(kExamples);
  command->callback([flags, &context] { context.exit_code = RunGenerate(*flags, context); });
}

}  // namespace eddy
