// SPDX-License-Identifier: Apache-2.0
#include "client/chat_command.h"

#include <chrono>
#include <istream>
#include <memory>
#include <ostream>

#include "client/connection_flags.h"
#include "client/failure.h"
#include "client/interrupt.h"
#include "client/prompt_flags.h"
#include "client/sampling_flags.h"
#include "client/turn_clock.h"

namespace eddy {
namespace {

constexpr char kExamples[] = R"(Examples:
  eddy chat --max-tokens 120 --temperature 0.8
  eddy chat --session anna --create        the session stays; continue it later or elsewhere
  eddy chat --stop $'\n\n'                 a reply ends at the first empty line

A model with a chat template reads each line as a message of the user, and --prompt as the system's.
Another one reads each line with its line end and goes on from there; nothing else is added. Ctrl-C
ends the reply that runs, or the chat while it waits for a line. /help lists the commands.)";

constexpr char kCommands[] =
    "/exit or Ctrl-D ends the chat, Ctrl-C ends the reply, //x sends the text /x\n";

struct ChatFlags {
  SessionFlags session;
  SamplingFlags sampling;
  std::string opening;
  bool verbose = false;
};

// One chat: a line in, a reply out, until the end of the input.
class Chat {
 public:
  Chat(const ChatFlags& flags, CommandContext& context)
      : flags_(flags), context_(context), console_(context.console) {
    *generate_.mutable_sampling() = flags.sampling.sampling;
    *generate_.mutable_stop() = flags.sampling.stop;
  }

  int Run() {
    Client client(MakeClientOptions(context_));
    v1::Model model;
    if (const grpc::Status status = client.GetModel(flags_.session.model, &model); !status.ok()) {
      return ReportFailure(console_, status, context_.server);
    }
    sends_messages_ = !model.chat_template().empty();
    v1::ConverseRequest::Open open;
    open.set_model(flags_.session.model);
    open.set_session(flags_.session.session);
    open.set_create_session(flags_.session.create);
    conversation_ = client.Converse(open);
    if (!flags_.opening.empty() && sends_messages_) {
      AddMessage("system", flags_.opening);
    } else if (!flags_.opening.empty()) {
      AppendText(flags_.opening);
    }
    if (console_.in_is_terminal) {
      console_.err << kCommands;
    }
    int exit_code = kExitOk;
    while (exit_code == kExitOk) {
      const std::optional<std::string> line = ReadLine();
      if (!line) {
        break;
      }
      const ChatLine parsed = ParseChatLine(*line);
      if (parsed.kind == ChatLine::Kind::kExit) {
        break;
      }
      exit_code = Answer(parsed);
    }
    const grpc::Status status = conversation_->Finish();
    if (exit_code == kExitOk && !status.ok()) {
      return ReportFailure(console_, status, context_.server);
    }
    return exit_code;
  }

 private:
  std::optional<std::string> ReadLine() {
    if (console_.in_is_terminal) {
      console_.err << "> " << std::flush;
    }
    std::string line;
    if (!std::getline(console_.in, line)) {
      if (console_.in_is_terminal) {
        console_.err << std::endl;
      }
      return std::nullopt;
    }
    return line;
  }

  int Answer(const ChatLine& line) {
    if (line.kind == ChatLine::Kind::kHelp) {
      console_.err << kCommands << std::flush;
      return kExitOk;
    }
    if (line.kind == ChatLine::Kind::kUnknownCommand) {
      console_.err << "eddy: no command " << line.text << "; " << kCommands << std::flush;
      return kExitOk;
    }
    if (const std::string problem = CheckUtf8(line.text); !problem.empty()) {
      console_.err << "eddy: this line is not sent: " << problem << std::endl;
      return kExitOk;
    }
    if (sends_messages_) {
      // Without the line end, which is the template's.
      AddMessage("user", line.text.substr(0, line.text.size() - 1));
      v1::Prompt prompt;
      prompt.mutable_messages()->Swap(&messages_);
      conversation_->Append(prompt);
      messages_.Clear();
    } else {
      AppendText(line.text);
    }
    return Reply();
  }

  void AddMessage(const std::string& role, const std::string& content) {
    v1::ChatMessage* const message = messages_.add_messages();
    message->set_role(role);
    message->set_content(content);
  }

  // A failure shows at the turn that follows, with its reason.
  void AppendText(const std::string& text) {
    v1::Prompt prompt;
    prompt.set_text(text);
    conversation_->Append(prompt);
  }

  int Reply() {
    bool at_line_start = true;
    v1::GenerateResponse last;
    TurnClock clock(TurnClock::Clock::now());
    grpc::Status status;
    {
      const Interrupt::Scope interrupt(console_.interrupt, [this] { conversation_->CancelTurn(); });
      status = conversation_->Generate(
          generate_,
          [&](const v1::GenerateResponse& message) {
            clock.OnMessage(message, TurnClock::Clock::now());
            if (!message.text().empty()) {
              console_.out << message.text();
              at_line_start = message.text().back() == '\n';
            }
            return static_cast<bool>(console_.out.flush());
          },
          &last);
    }
    if (!at_line_start) {
      console_.out << std::endl;
    }
    if (!status.ok()) {
      return ReportFailure(console_, status, context_.server);
    }
    if (!console_.out) {
      console_.err << "eddy: cannot write to the standard output" << std::endl;
      return kExitFailed;
    }
    if (flags_.verbose) {
      console_.err << "eddy: " << clock.Summary(last) << std::endl;
    }
    return kExitOk;
  }

  const ChatFlags& flags_;
  CommandContext& context_;
  Console& console_;
  v1::ConverseRequest::Generate generate_;
  std::unique_ptr<Conversation> conversation_;
  bool sends_messages_ = false;
  v1::Messages messages_;  // since the last reply
};

}  // namespace

void AddChatCommand(CLI::App& app, CommandContext& context) {
  const auto flags = std::make_shared<ChatFlags>();
  CLI::App* const command = app.add_subcommand("chat", "Talk with a model line by line");
  AddServerFlag(*command, context);
  AddSessionFlags(*command, flags->session);
  command->add_option("--prompt", flags->opening, "What the model reads before the first line")
      ->type_name("TEXT")
      ->check(CheckUtf8);
  AddSamplingFlags(*command, flags->sampling);
  command
      ->add_flag("--verbose", flags->verbose, "Print tokens, pace and finish reason of each reply")
      ->group("Output");
  command->footer(kExamples);
  command->callback([flags, &context] { context.exit_code = Chat(*flags, context).Run(); });
}

ChatLine ParseChatLine(const std::string& line) {
  if (line.empty() || line[0] != '/') {
    return {ChatLine::Kind::kText, line + "\n"};
  }
  if (line.rfind("//", 0) == 0) {
    return {ChatLine::Kind::kText, line.substr(1) + "\n"};
  }
  const std::string command = line.substr(0, line.find_last_not_of(" \t\r") + 1);
  if (command == "/exit" || command == "/quit") {
    return {ChatLine::Kind::kExit, ""};
  }
  if (command == "/help") {
    return {ChatLine::Kind::kHelp, ""};
  }
  return {ChatLine::Kind::kUnknownCommand, command};
}

}  // namespace eddy
