// SPDX-License-Identifier: Apache-2.0
#include "quantize/quality.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/mapped_file.h"
#include "engine/model.h"
#include "kernels/status_macros.h"

namespace eddy {
namespace {

constexpr char kInt8Dot[] = "int8dot";

struct LossCase {
  std::string folder;
  std::optional<DType> dtype;  // absent: the folder's own
  std::string numeric_path;
};

absl::StatusOr<LossRow> MeasureOne(const LossCase& loss_case, int thread_count,
                                   const Tokenizer& tokenizer, const std::string& text,
                                   const LossProgress& progress) {
  BackendOptions options;
  options.thread_count = thread_count;
  options.numeric_path = loss_case.numeric_path;
  EDDY_ASSIGN_OR_RETURN(const std::unique_ptr<Backend> backend, MakeBackend(options));
  LoadOptions load;
  load.weight_dtype = loss_case.dtype;
  EDDY_ASSIGN_OR_RETURN(const std::unique_ptr<Model> model,
                        LoadModel(loss_case.folder, *backend, load));
  LossRow row;
  row.dtype = model->info().weight_dtype;
  row.numeric_path = backend->info().numeric_path;
  const std::string what =
      absl::StrCat("reading the text with ", DTypeName(row.dtype), ", ", row.numeric_path);
  TextLossOptions loss_options;
  loss_options.progress = [&](int64_t done, int64_t all) { return progress(what, done, all); };
  EDDY_ASSIGN_OR_RETURN(row.loss, MeasureTextLoss(*model, *backend, tokenizer, text, loss_options));
  return row;
}

bool MachineHasInt8Dot() {
  BackendOptions options;
  options.numeric_path = kInt8Dot;
  options.thread_count = 1;
  return MakeBackend(options).ok();
}

}  // namespace

absl::StatusOr<std::optional<TextPart>> FindText(const QuantizeFlags& flags) {
  if (flags.no_text) return std::nullopt;
  TextPart part = {flags.text, flags.text_begin, ""};
  if (flags.text.empty()) {
    EDDY_ASSIGN_OR_RETURN(const std::optional<HeldOutText> own,
                          FindHeldOutText(flags.model_folder));
    if (!own) return std::nullopt;
    part = {own->path, own->begin_byte, ""};
  }
  EDDY_ASSIGN_OR_RETURN(const MappedFile mapping, MappedFile::Open(part.path));
  const int64_t file_bytes = std::ssize(mapping.bytes());
  const int64_t left = file_bytes - std::min(part.begin_byte, file_bytes);
  if (left < 2) {
    return absl::InvalidArgumentError(absl::StrCat("the text ", part.path, " has ", left,
                                                   " bytes from byte ", part.begin_byte,
                                                   " on, expected at least 2"));
  }
  const auto bytes =
      mapping.bytes().subspan(static_cast<size_t>(part.begin_byte),
                              static_cast<size_t>(std::min(left, flags.text_bytes_max)));
  part.bytes.assign(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  return part;
}

absl::StatusOr<std::vector<LossRow>> MeasureLosses(const QuantizeFlags& flags,
                                                   const std::string& text,
                                                   const LossProgress& progress) {
  EDDY_ASSIGN_OR_RETURN(const std::unique_ptr<Tokenizer> tokenizer,
                        LoadTokenizer(flags.model_folder));
  std::vector<LossCase> cases = {{flags.model_folder, DType::kBF16, "auto"},
                                 {flags.out_folder, std::nullopt, "auto"}};
  // int8 activations meet int8 weights only.
  if (flags.dtype == DType::kI8 && MachineHasInt8Dot()) {
    cases.push_back({flags.out_folder, std::nullopt, kInt8Dot});
  }
  std::vector<LossRow> rows;
  for (const LossCase& loss_case : cases) {
    EDDY_ASSIGN_OR_RETURN(LossRow row,
                          MeasureOne(loss_case, flags.thread_count, *tokenizer, text, progress));
    rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace eddy
