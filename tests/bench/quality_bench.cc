// SPDX-License-Identifier: Apache-2.0
// eddy-quality-bench: the loss of a model on its held-out text: what each way to keep weights and
// states, and each numeric path, costs in quality; or what a longer history gains.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/mapped_file.h"
#include "engine/model.h"
#include "engine/text_loss.h"
#include "engine/tokenizer/tokenizer.h"
#include "kernels/status_macros.h"

namespace eddy {
namespace {

struct Choice {
  DType weights;
  DType state;
  const char* numeric_path;
};

constexpr Choice kChoices[] = {
    {DType::kF32, DType::kF32, "fma"},       {DType::kBF16, DType::kF32, "fma"},
    {DType::kBF16, DType::kF32, "bf16dot"},  {DType::kBF16, DType::kBF16, "fma"},
    {DType::kBF16, DType::kBF16, "bf16dot"}, {DType::kI8, DType::kF32, "fma"},
    {DType::kI8, DType::kF32, "int8dot"},    {DType::kI4, DType::kF32, "fma"}};

absl::StatusOr<TextLoss> Measure(const std::string& folder, const Choice& choice,
                                 std::string_view text, const TextLossOptions& loss_options = {}) {
  BackendOptions options;
  options.numeric_path = choice.numeric_path;
  EDDY_ASSIGN_OR_RETURN(const std::unique_ptr<Backend> backend, MakeBackend(options));
  LoadOptions load;
  load.weight_dtype = choice.weights;
  load.state_dtype = choice.state;
  EDDY_ASSIGN_OR_RETURN(const std::unique_ptr<Model> model, LoadModel(folder, *backend, load));
  EDDY_ASSIGN_OR_RETURN(const std::shared_ptr<const Tokenizer> tokenizer, LoadTokenizer(folder));
  return MeasureTextLoss(*model, *backend, *tokenizer, text, loss_options);
}

// The loss of the text's last `target_bytes`, each after at least so many bytes (at most a
// tenth more), read from an empty state. Of a model of bytes.
absl::Status PrintHistories(const std::string& folder, std::string_view text,
                            const std::vector<int64_t>& histories, int64_t target_bytes) {
  std::printf("history  nats per byte\n");
  for (const int64_t history : histories) {
    TextLossOptions options;
    options.history_token_count = history;
    options.window_token_count = std::max<int64_t>(history / 10, 10);
    const size_t wanted = static_cast<size_t>(history + target_bytes) + 1;
    if (text.size() < wanted) {
      return absl::InvalidArgumentError(absl::StrCat(
          "a history of ", history, " bytes needs a text of ", wanted, ", not ", text.size()));
    }
    const Choice choice = {DType::kBF16, DType::kF32, "auto"};
    EDDY_ASSIGN_OR_RETURN(const TextLoss loss,
                          Measure(folder, choice, text.substr(text.size() - wanted), options));
    std::printf("%7lld  %13.5f\n", static_cast<long long>(history), loss.nats_per_byte());
    std::fflush(stdout);
  }
  return absl::OkStatus();
}

absl::Status Run(const std::string& folder, int64_t bytes_max,
                 const std::vector<int64_t>& histories, int64_t target_bytes) {
  EDDY_ASSIGN_OR_RETURN(const std::optional<HeldOutText> part, FindHeldOutText(folder));
  if (!part) {
    return absl::NotFoundError("the model folder " + folder + " has no held-out text (eddy_text)");
  }
  EDDY_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(part->path));
  std::string_view text(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
  text =
      text.substr(static_cast<size_t>(part->begin_byte)).substr(0, static_cast<size_t>(bytes_max));
  std::printf("%zu held-out bytes of %s\n", text.size(), folder.c_str());
  if (!histories.empty()) return PrintHistories(folder, text, histories, target_bytes);
  std::printf("weights  state  path     nats per byte  against the first\n");
  double first = 0.0;
  for (const Choice& choice : kChoices) {
    const absl::StatusOr<TextLoss> loss = Measure(folder, choice, text);
    // The machine has no such instructions.
    if (absl::IsFailedPrecondition(loss.status())) continue;
    EDDY_RETURN_IF_ERROR(loss.status());
    if (first == 0.0) first = loss->nats_per_byte();
    std::printf("%-7s  %-5s  %-7s  %13.5f  %+17.5f\n", DTypeName(choice.weights),
                DTypeName(choice.state), choice.numeric_path, loss->nats_per_byte(),
                loss->nats_per_byte() - first);
    std::fflush(stdout);
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace eddy

int main(int argc, char** argv) {
  std::string folder = "models/shakespeare";
  int64_t bytes_max = int64_t{1} << 30;
  std::vector<int64_t> histories;
  int64_t target_bytes = 10'000;
  CLI::App app("The loss of a model on its held-out text, by weights, states and numeric path.");
  app.add_option("--model", folder, "model folder that names a text")->capture_default_str();
  app.add_option("--bytes-max", bytes_max, "of the text")->check(CLI::Range(2, 1 << 30));
  app.add_option("--histories", histories,
                 "bytes read before each byte measured, instead: 100,1000")
      ->delimiter(',')
      ->check(CLI::Range(1, 1 << 30));
  app.add_option("--target-bytes", target_bytes, "bytes measured behind a history")
      ->capture_default_str()
      ->check(CLI::Range(1, 1 << 30));
  CLI11_PARSE(app, argc, argv);
  const absl::Status status = eddy::Run(folder, bytes_max, histories, target_bytes);
  if (!status.ok()) std::fprintf(stderr, "eddy-quality-bench: %s\n", status.ToString().c_str());
  return status.ok() ? 0 : 1;
}
