// SPDX-License-Identifier: Apache-2.0
#include "client/perplexity_command.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <memory>
#include <optional>
#include <ostream>
#include <span>

#include "client/connection_flags.h"
#include "client/failure.h"
#include "client/interrupt.h"
#include "client/progress_bar.h"
#include "client/prompt_flags.h"
#include "client/sampling_flags.h"
#include "client/score_report.h"
#include "client/table.h"
#include "client/turn_clock.h"

namespace eddy {
namespace {

constexpr char kExamples[] = R"(Examples:
  eddy perplexity play.txt
  eddy perplexity play.txt --window 4096 --json
  eddy perplexity ids.txt --token-ids            for a model without tokenizer: 12 7 3 ...

The file is scored in windows, each from an empty state: every token but the file's first is
predicted once, from those before it in its window. Text is tokenized in pieces of whole lines.
Exit code: 0 done, 1 the server refused or failed it, 2 wrong flags or file, 130 Ctrl-C.)";

// Well below the largest text that a server takes by default.
constexpr size_t kPieceBytesMax = 256 << 10;

struct PerplexityFlags {
  PromptFlags file;
  std::string model;
  bool token_ids = false;
  uint32_t window = 1024;
  bool json = false;
};

// One file on its way; errors name it.
class FileScore {
 public:
  FileScore(const PerplexityFlags& flags, CommandContext& context)
      : flags_(flags), context_(context), client_(MakeClientOptions(context)) {
    if (context.console.err_is_terminal) bar_.emplace(context.console.err);
  }

  // An exit code when the command should end here.
  std::optional<int> Tokenize(const std::string& text);
  std::optional<int> Score();
  const TextScore& score() const { return score_; }

 private:
  // All but the first of these are predicted.
  std::optional<int> ScoreWindow(std::span<const uint32_t> token_ids);
  void ShowProgress();
  int Fail(const std::string& sentence, int exit_code = kExitFailed) {
    bar_.reset();
    context_.console.err << "eddy: " << flags_.file.file << ": " << sentence << std::endl;
    return exit_code;
  }

  const PerplexityFlags& flags_;
  CommandContext& context_;
  Client client_;
  std::optional<ProgressBar> bar_;
  std::vector<uint32_t> token_ids_;
  TextScore score_;
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

std::optional<int> FileScore::Tokenize(const std::string& text) {
  if (flags_.token_ids) {
    const std::string problem = ParseTokenIds(text, &token_ids_);
    if (!problem.empty()) return Fail(problem, kExitUsage);
  }
  std::string_view rest = flags_.token_ids ? std::string_view() : text;
  std::vector<uint32_t> piece;
  while (!rest.empty()) {
    const size_t length = PieceLength(rest, kPieceBytesMax);
    const grpc::Status status =
        client_.Tokenize(flags_.model, std::string(rest.substr(0, length)), &piece);
    if (!status.ok()) return Fail(FailureSentence(status, context_.server, nullptr));
    token_ids_.insert(token_ids_.end(), piece.begin(), piece.end());
    rest.remove_prefix(length);
  }
  if (token_ids_.size() >= 2) return std::nullopt;
  return Fail("it has " + std::to_string(token_ids_.size()) + " tokens; at least 2 are needed",
              kExitUsage);
}

std::optional<int> FileScore::Score() {
  const size_t all = token_ids_.size() - 1;
  for (size_t at = 0; at < all; at += flags_.window) {
    const size_t count = std::min<size_t>(flags_.window, all - at);
    if (const auto exit = ScoreWindow(std::span(token_ids_).subspan(at, count + 1))) return exit;
  }
  bar_.reset();
  return std::nullopt;
}

std::optional<int> FileScore::ScoreWindow(std::span<const uint32_t> token_ids) {
  v1::ScoreRequest request;
  request.set_model(flags_.model);
  request.set_token_bytes(true);
  request.mutable_prompt()->mutable_token_ids()->mutable_ids()->Assign(token_ids.begin(),
                                                                       token_ids.end());
  grpc::ClientContext call;
  Interrupt::Scope interrupt(context_.console.interrupt, [&call] { call.TryCancel(); });
  v1::ScoreResponse last;
  const auto on_message = [this](const v1::ScoreResponse& message) {
    score_.Add(message);
    ShowProgress();
    return true;
  };
  const grpc::Status status = client_.Score(call, request, on_message, &last);
  if (interrupt.interrupted()) {
    return Fail("CANCELLED: interrupted by Ctrl-C", kExitInterrupted);
  }
  if (!status.ok()) return Fail(FailureSentence(status, context_.server, &call));
  if (last.finish_reason() == v1::FINISH_REASON_SCORED) return std::nullopt;
  return Fail("the server ended the call after token " + std::to_string(score_.token_count) +
              " of " + std::to_string(token_ids_.size() - 1) + ": " +
              FinishReasonWord(last.finish_reason()));
}

void FileScore::ShowProgress() {
  if (!bar_.has_value()) return;
  const auto done = static_cast<double>(score_.token_count);
  const auto all = static_cast<double>(token_ids_.size() - 1);
  const double elapsed_s =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  std::string line = FormatBar(done / all);
  line.append("  ").append(std::to_string(score_.token_count)).append("/");
  line.append(std::to_string(token_ids_.size() - 1)).append(" tokens");
  if (elapsed_s > 0) {
    line.append("  ").append(FormatNumber(done / elapsed_s, 1)).append(" tokens/s");
  }
  bar_->Show(line);
}

int RunPerplexity(const PerplexityFlags& flags, CommandContext& context) {
  Console& console = context.console;
  v1::Prompt text;
  if (const std::string problem = ReadPrompt(flags.file, console.in, &text); !problem.empty()) {
    return ReportUsage(console, problem);
  }
  FileScore file(flags, context);
  if (const auto exit = file.Tokenize(text.text())) return *exit;
  if (const auto exit = file.Score()) return *exit;
  console.out << (flags.json ? FormatTextScoreJson(file.score()) + "\n"
                             : FormatTextScoreTable(file.score()))
              << std::flush;
  return kExitOk;
}

}  // namespace

size_t PieceLength(std::string_view text, size_t bytes_max) {
  if (text.size() <= bytes_max) return text.size();
  const size_t line_end = text.substr(0, bytes_max).rfind('\n');
  if (line_end != std::string_view::npos) return line_end + 1;
  size_t length = bytes_max;
  while ((static_cast<unsigned char>(text[length]) & 0xC0) == 0x80) --length;
  return length;
}

std::string ParseTokenIds(std::string_view text, std::vector<uint32_t>* token_ids) {
  constexpr std::string_view kBetween = " \t\r\n,";
  token_ids->clear();
  for (size_t at = text.find_first_not_of(kBetween); at != std::string_view::npos;
       at = text.find_first_not_of(kBetween, at)) {
    const size_t end = std::min(text.find_first_of(kBetween, at), text.size());
    uint32_t id = 0;
    const auto [stop, error] = std::from_chars(text.data() + at, text.data() + end, id);
    if (error != std::errc() || stop != text.data() + end) {
      return "at byte " + std::to_string(at) + ": \"" +
             std::string(text.substr(at, std::min<size_t>(end - at, 40))) +
             "\" is no token id in [0, 2^32)";
    }
    token_ids->push_back(id);
    at = end;
  }
  return "";
}

void AddPerplexityCommand(CLI::App& app, CommandContext& context) {
  const auto flags = std::make_shared<PerplexityFlags>();
  CLI::App* const command =
      app.add_subcommand("perplexity", "Tell how well a model predicts a file");
  AddServerFlag(*command, context);
  flags->file.file_option =
      command->add_option("FILE", flags->file.file, "A text in UTF-8; - is the standard input")
          ->required();
  command->add_flag("--token-ids", flags->token_ids, "The file holds token ids: 12 7 3");
  command
      ->add_option("--window", flags->window,
                   "Tokens predicted from one beginning; larger: more context, and a call each")
      ->type_name("N")
      ->check(CLI::Range(1u, 1u << 28))
      ->capture_default_str();
  command->add_option("--model", flags->model, "The model; default: the only one served")
      ->type_name("NAME")
      ->check(CheckUtf8);
  command->add_flag("--json", flags->json, "Print one line of JSON");
  command->footer(kExamples);
  command->callback([flags, &context] { context.exit_code = RunPerplexity(*flags, context); });
}

}  // namespace eddy
