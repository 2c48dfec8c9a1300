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

The completion alone goes to the standard output, all else to the standard error; of a model without
tokenizer it is token ids: 12 7 3. Ctrl-C cancels the call. Exit code: 0 done, 1 the server refused
or failed it, 2 wrong flags, 130 Ctrl-C.)";

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

// The completion on the standard output.
class Completion {
 public:
  enum class Form { kText, kTokenIds, kJson };
  Completion(Form form, Console& console) : form_(form), console_(console) {}

  void Print(const v1::GenerateResponse& message) {
    switch (form_) {
      case Form::kJson:
        console_.out << JsonLine(message) << '\n';
        break;
      case Form::kTokenIds:
        for (const uint32_t id : message.token_ids()) {
          console_.out << (at_line_start_ ? "" : " ") << id;
          at_line_start_ = false;
        }
        break;
      case Form::kText:
        if (!message.text().empty()) {
          console_.out << message.text();
          at_line_start_ = message.text().back() == '\n';
        }
    }
    console_.out.flush();
  }

  // The text's last piece may leave a terminal's cursor in mid-line; a file must not get a byte
  // more.
  void End() {
    if (!at_line_start_ && (form_ == Form::kTokenIds || console_.out_is_terminal)) {
      console_.out << std::endl;
    }
  }

 private:
  const Form form_;
  Console& console_;
  bool at_line_start_ = true;
};

// Text, if the model has any; only who prompts by token ids may be talking to one that has not.
grpc::Status ChooseForm(const GenerateFlags& flags, const v1::GenerateRequest& request,
                        Client& client, Completion::Form* form) {
  *form = flags.json ? Completion::Form::kJson : Completion::Form::kText;
  if (flags.json || request.prompt().has_text()) {
    return grpc::Status::OK;
  }
  v1::Model model;
  const grpc::Status status = client.GetModel(flags.session.model, &model);
  if (status.ok() && !model.has_tokenizer()) {
    *form = Completion::Form::kTokenIds;
  }
  return status;
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
  Completion::Form form;
  if (const grpc::Status status = ChooseForm(flags, request, client, &form); !status.ok()) {
    return ReportFailure(console, status, context.server);
  }
  grpc::ClientContext call;
  if (flags.deadline_ms > 0) {
    call.set_deadline(std::chrono::system_clock::now() +
                      std::chrono::milliseconds(flags.deadline_ms));
  }
  Interrupt::Scope interrupt(console.interrupt, [&call] { call.TryCancel(); });
  TurnClock clock(TurnClock::Clock::now());
  Completion completion(form, console);
  v1::GenerateResponse last;
  const auto on_message = [&](const v1::GenerateResponse& message) {
    clock.OnMessage(message, TurnClock::Clock::now());
    completion.Print(message);
    return static_cast<bool>(console.out);
  };
  const grpc::Status status = client.Generate(call, request, on_message, &last);
  completion.End();
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
