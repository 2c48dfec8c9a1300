// SPDX-License-Identifier: Apache-2.0
#include "client/models_command.h"

#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "client/connection_flags.h"
#include "client/failure.h"
#include "client/json_line.h"
#include "client/prompt_flags.h"
#include "client/sampling_flags.h"
#include "client/table.h"

namespace eddy {
namespace {

constexpr char kExamples[] = R"(Examples:
  eddy models                                  what is served
  eddy models get shakespeare --json
  eddy models tokenize --prompt 'To be'        token ids, as eddy generate --token-ids takes them
  eddy models detokenize --token-ids 32,53,1   their text

--server and --json go with every one of these.)";

struct ModelsFlags {
  std::string model;
  PromptFlags tokenize;
  std::vector<uint32_t> token_ids;
  bool json = false;
};

int PrintModels(const std::vector<v1::Model>& models, bool json, Console& console) {
  if (json) {
    for (const v1::Model& model : models) {
      console.out << JsonLine(model) << '\n';
    }
    console.out << std::flush;
    return kExitOk;
  }
  std::vector<std::vector<std::string>> rows = {{"NAME", "FAMILY", "PARAMETERS", "VOCABULARY",
                                                 "STATE_BYTES", "DTYPE", "NUMERIC_PATH",
                                                 "BACKEND"}};
  for (const v1::Model& model : models) {
    rows.push_back({model.name(), model.family(), std::to_string(model.parameter_count()),
                    std::to_string(model.vocabulary_size()),
                    std::to_string(model.state_bytes_per_session()), model.dtype(),
                    model.numeric_path(), model.backend() + " " + model.target()});
  }
  console.out << FormatTable(rows) << std::flush;
  return kExitOk;
}

int RunList(const ModelsFlags& flags, CommandContext& context) {
  std::vector<v1::Model> models;
  const grpc::Status status = Client(MakeClientOptions(context)).ListModels(&models);
  return status.ok() ? PrintModels(models, flags.json, context.console)
                     : ReportFailure(context.console, status, context.server);
}

int RunGet(const ModelsFlags& flags, CommandContext& context) {
  v1::Model model;
  const grpc::Status status = Client(MakeClientOptions(context)).GetModel(flags.model, &model);
  return status.ok() ? PrintModels({model}, flags.json, context.console)
                     : ReportFailure(context.console, status, context.server);
}

int RunTokenize(const ModelsFlags& flags, CommandContext& context) {
  Console& console = context.console;
  v1::Prompt prompt;
  if (!flags.tokenize.given()) {
    return ReportUsage(console, "give --prompt or --prompt-file (see eddy models tokenize --help)");
  }
  if (const std::string problem = ReadPrompt(flags.tokenize, console.in, &prompt);
      !problem.empty()) {
    return ReportUsage(console, problem);
  }
  std::vector<uint32_t> token_ids;
  const grpc::Status status =
      Client(MakeClientOptions(context)).Tokenize(flags.model, prompt.text(), &token_ids);
  if (!status.ok()) {
    return ReportFailure(console, status, context.server);
  }
  if (flags.json) {
    v1::TokenizeResponse response;
    response.mutable_token_ids()->Assign(token_ids.begin(), token_ids.end());
    console.out << JsonLine(response) << std::endl;
    return kExitOk;
  }
  std::string line;
  for (const uint32_t id : token_ids) {
    line += (line.empty() ? "" : ",") + std::to_string(id);
  }
  console.out << line << std::endl;
  return kExitOk;
}

int RunDetokenize(const ModelsFlags& flags, CommandContext& context) {
  Console& console = context.console;
  v1::DetokenizeResponse response;
  const grpc::Status status =
      Client(MakeClientOptions(context))
          .Detokenize(flags.model, flags.token_ids, response.mutable_text());
  if (!status.ok()) {
    return ReportFailure(console, status, context.server);
  }
  if (flags.json) {
    console.out << JsonLine(response) << std::endl;
  } else {
    console.out << response.text() << (console.out_is_terminal ? "\n" : "") << std::flush;
  }
  return kExitOk;
}

}  // namespace

void AddModelsCommand(CLI::App& app, CommandContext& context) {
  const auto flags = std::make_shared<ModelsFlags>();
  CLI::App* const group = app.add_subcommand("models", "Look at the models and their tokenizers");
  AddServerFlag(*group, context);
  group->add_flag("--json", flags->json, "Print each answer as one line of JSON");
  group->require_subcommand(0, 1);
  group->footer(kExamples);

  const auto add = [&](const char* name, const char* what, auto run) {
    CLI::App* const command = group->add_subcommand(name, what);
    command->fallthrough();
    command->footer("--server and --json as for eddy models.");
    command->callback([flags, &context, run] { context.exit_code = run(*flags, context); });
    return command;
  };
  const auto add_model_flag = [&](CLI::App* command) {
    command->add_option("--model", flags->model, "The model; default: the only one served")
        ->type_name("NAME")
        ->check(CheckUtf8);
  };
  add("list", "Print all models", RunList);
  add("get", "Print one model", RunGet)
      ->add_option("name", flags->model, "Its name; default: the only one served")
      ->check(CheckUtf8);
  CLI::App* const tokenize = add("tokenize", "Print the token ids of a text", RunTokenize);
  AddTextFlags(*tokenize, flags->tokenize);
  add_model_flag(tokenize);
  CLI::App* const detokenize = add("detokenize", "Print the text of token ids", RunDetokenize);
  detokenize->add_option("--token-ids", flags->token_ids, "The ids: 1,2,3")
      ->type_name("IDS")
      ->check(CheckWholeNumber)
      ->delimiter(',')
      ->allow_extra_args(false)
      ->required();
  add_model_flag(detokenize);
  group->callback([flags, group, &context] {
    if (group->get_subcommands().empty()) {
      context.exit_code = RunList(*flags, context);
    }
  });
}

}  // namespace eddy
