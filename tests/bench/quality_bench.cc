// SPDX-License-Identifier: Apache-2.0
// eddy-quality-bench: what each way to keep weights and states, and each numeric path, costs in
// quality: the loss of a model on its held-out text.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <string>
#include <string_view>

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
                                 std::string_view text) {
  BackendOptions options;
  options.numeric_path = choice.numeric_path;
  EDDY_ASSIGN_OR_RETURN(const std::unique_ptr<Backend> backend, MakeBackend(options));
  LoadOptions load;
  load.weight_dtype = choice.weights;
  load.state_dtype = choice.state;
  EDDY_ASSIGN_OR_RETURN(const std::unique_ptr<Model> model, LoadModel(folder, *backend, load));
  EDDY_ASSIGN_OR_RETURN(const std::shared_ptr<const Tokenizer> tokenizer, LoadTokenizer(folder));
  return MeasureTextLoss(*model, *backend, *tokenizer, text, {});
}

absl::Status Run(const std::string& folder, int64_t bytes_max) {
  EDDY_ASSIGN_OR_RETURN(const std::optional<HeldOutText> part, FindHeldOutText(folder));
  if (!part) {
    return absl::NotFoundError("the model folder " + folder + " has no held-out text (eddy_text)");
  }
  EDDY_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(part->path));
  std::string_view text(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
  text =
      text.substr(static_cast<size_t>(part->begin_byte)).substr(0, static_cast<size_t>(bytes_max));
  std::printf("%zu held-out bytes of %s\n", text.size(), folder.c_str());
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
  CLI::App app("The loss of a model on its held-out text, by weights, states and numeric path.");
  app.add_option("--model", folder, "model folder that names a text")->capture_default_str();
  app.add_option("--bytes-max", bytes_max, "of the text")->check(CLI::Range(2, 1 << 30));
  CLI11_PARSE(app, argc, argv);
  const absl::Status status = eddy::Run(folder, bytes_max);
  if (!status.ok()) std::fprintf(stderr, "eddy-quality-bench: %s\n", status.ToString().c_str());
  return status.ok() ? 0 : 1;
}
