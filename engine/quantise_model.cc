// SPDX-License-Identifier: Apache-2.0
#include "engine/quantise_model.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>
#include <system_error>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/config.h"
#include "engine/json.h"
#include "engine/mapped_file.h"
#include "engine/model.h"
#include "engine/safetensors_writer.h"
#include "engine/sharded_safetensors.h"
#include "engine/synthetic.h"
#include "engine/text_loss.h"
#include "kernels/bf16.h"
#include "kernels/quantise.h"
#include "kernels/status_macros.h"

namespace eddy {
namespace {

// Bytes of the original between two calls of the progress function, and of one copied piece.
constexpr int64_t kPieceBytes = int64_t{4} << 20;

// A folder that is not finished yet, beside the one it will be; removed unless it becomes that.
class UnfinishedFolder {
 public:
  static absl::StatusOr<UnfinishedFolder> Create(std::string goal) {
    while (goal.size() > 1 && goal.ends_with('/')) goal.pop_back();
    std::error_code error;
    if (std::filesystem::exists(std::filesystem::symlink_status(goal, error))) {
      return absl::AlreadyExistsError(
          absl::StrCat(goal, " is there already; give a folder that is not, it will be made"));
    }
    UnfinishedFolder folder(goal);
    folder.path_ = absl::StrCat(goal, ".unfinished-", getpid());
    if (mkdir(folder.path_.c_str(), 0777) != 0) {
      const int number = errno;
      const std::string path = std::exchange(folder.path_, "");
      return absl::ErrnoToStatus(number, absl::StrCat("the folder ", path, " cannot be made"));
    }
    return folder;
  }
  UnfinishedFolder(UnfinishedFolder&& other) noexcept
      : goal_(other.goal_), path_(std::exchange(other.path_, "")) {}
  UnfinishedFolder& operator=(UnfinishedFolder&&) = delete;
  ~UnfinishedFolder() {
    std::error_code error;
    if (!path_.empty()) std::filesystem::remove_all(path_, error);
  }

  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

  absl::Status Finish() {
    if (rename(path_.c_str(), goal_.c_str()) != 0) {
      return absl::ErrnoToStatus(errno, absl::StrCat(path_, " cannot become ", goal_));
    }
    path_.clear();
    return absl::OkStatus();
  }

 private:
  explicit UnfinishedFolder(std::string goal) : goal_(std::move(goal)) {}

  const std::string goal_;
  std::string path_;  // empty: there is nothing to remove
};

absl::Status WriteFile(const std::string& path, std::string_view text) {
  const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  bool good = file >= 0;
  while (good && !text.empty()) {
    const ssize_t written = write(file, text.data(), text.size());
    good = written > 0 || (written < 0 && errno == EINTR);
    if (written > 0) text.remove_prefix(static_cast<size_t>(written));
  }
  good = good && fsync(file) == 0;
  const int error = errno;
  if (file >= 0) close(file);
  return good ? absl::OkStatus()
              : absl::ErrnoToStatus(error, absl::StrCat(path, " cannot be written"));
}

struct Errors {
  double error_sum = 0.0, weight_sum = 0.0;  // of squares
  double max = 0.0;

  double relative() const { return weight_sum == 0.0 ? 0.0 : std::sqrt(error_sum / weight_sum); }
  void Add(DType dtype, const std::vector<float>& weights, const std::vector<int8_t>& integers,
           std::span<const float> scales) {
    for (size_t in = 0; in < weights.size(); ++in) {
      const double scale = scales[dtype == DType::kI8 ? 0 : in / kInt4GroupInputs];
      const double weight = weights[in];
      const double error = integers[in] * scale - weight;
      error_sum += error * error;
      weight_sum += weight * weight;
      max = std::max(max, std::abs(error));
    }
  }
};

// The integers of a matrix on their way into the file, output by output: some rows, or all of a
// transposed matrix, whose rows in the file have a number of every output.
class Pending {
 public:
  Pending(const StoredTensor& tensor, bool transposed, DType dtype)
      : dtype_(dtype), columns_(static_cast<size_t>(tensor.shape[1])), transposed_(transposed) {
    if (transposed) integers_.resize(static_cast<size_t>(tensor.shape.element_count()));
  }

  void Add(int64_t out, const std::vector<int8_t>& integers) {
    if (!transposed_) {
      integers_.insert(integers_.end(), integers.begin(), integers.end());
      return;
    }
    for (size_t in = 0; in < integers.size(); ++in) {
      integers_[in * columns_ + static_cast<size_t>(out)] = integers[in];
    }
  }
  bool full() const { return !transposed_ && std::ssize(integers_) >= kPieceBytes; }
  // As they lie in the file, until the next call. Rows of int4 have an even number of columns: no
  // byte has integers of two.
  std::span<const std::byte> Take() {
    bytes_.resize(static_cast<size_t>(IntegerBytes(dtype_, std::ssize(integers_))));
    StoreIntegers(dtype_, integers_, bytes_.data());
    integers_.clear();
    return bytes_;
  }

 private:
  const DType dtype_;
  const size_t columns_;
  const bool transposed_;
  std::vector<int8_t> integers_;
  std::vector<std::byte> bytes_;
};

// One way from the original's numbers to the new file's.
class Conversion {
 public:
  Conversion(const TensorSource& file, const QuantiseOptions& options)
      : file_(file), options_(options) {
    for (const auto& [name, tensor] : file.tensors()) all_bytes_ += std::ssize(tensor.data);
  }

  // Quantises those of `matrices` that can be and copies everything else.
  absl::Status Run(const std::vector<MatrixName>& matrices, const std::string& path,
                   QuantiseReport* report);

 private:
  struct Output {
    size_t integers = 0, scales = 0;  // indices in the plan
  };

  bool CanQuantise(const MatrixName& matrix) const;
  Output Plan(const MatrixName& matrix);
  absl::Status Copy(const StoredTensor& tensor, size_t index, SafetensorsWriter& writer);
  absl::StatusOr<QuantisedTensor> Quantise(const MatrixName& matrix, const Output& output,
                                           SafetensorsWriter& writer);
  absl::Status AppendScales(std::span<const float> scales, size_t index, SafetensorsWriter& writer);
  absl::Status Advance(int64_t bytes);

  const TensorSource& file_;
  const QuantiseOptions& options_;
  std::vector<PlannedTensor> plan_;
  int64_t all_bytes_ = 0, done_bytes_ = 0;
};

bool Conversion::CanQuantise(const MatrixName& matrix) const {
  // StoredShape must be able to tell the number of columns.
  const bool even = file_.Find(matrix.name)->shape[1] % 2 == 0;
  return (options_.dtype == DType::kI8 || even) && file_.Find(matrix.name + ".scale") == nullptr;
}

Conversion::Output Conversion::Plan(const MatrixName& matrix) {
  const Shape& shape = file_.Find(matrix.name)->shape;
  const int64_t out_size = shape[matrix.transposed ? 1 : 0];
  const int64_t in_size = shape[matrix.transposed ? 0 : 1];
  const Output output = {plan_.size(), plan_.size() + 1};
  if (options_.dtype == DType::kI8) {
    plan_.push_back({matrix.name, StoredType::kI8, shape});
    plan_.push_back({matrix.name + ".scale", StoredType::kF32, {out_size}});
  } else {
    plan_.push_back({matrix.name, StoredType::kU8, {shape[0], shape[1] / 2}});
    plan_.push_back({matrix.name + ".scale",
                     StoredType::kBF16,
                     {out_size, ScaleCount(options_.dtype, in_size)}});
  }
  return output;
}

absl::Status Conversion::Run(const std::vector<MatrixName>& matrices, const std::string& path,
                             QuantiseReport* report) {
  std::set<std::string> replaced;
  std::vector<std::pair<const MatrixName*, Output>> outputs;
  for (const MatrixName& matrix : matrices) {
    if (matrix.table) {
      report->tables.push_back(matrix.name);
    } else if (CanQuantise(matrix)) {
      replaced.insert(matrix.name);
      outputs.emplace_back(&matrix, Plan(matrix));
    } else {
      report->left.push_back(matrix.name);
    }
  }
  std::map<std::string, size_t> copied;
  for (const auto& [name, tensor] : file_.tensors()) {
    if (replaced.contains(name)) continue;
    copied[name] = plan_.size();
    plan_.push_back({name, tensor.type, tensor.shape});
  }
  EDDY_ASSIGN_OR_RETURN(SafetensorsWriter writer, SafetensorsWriter::Create(path, plan_));
  report->file_bytes_after = writer.file_bytes();
  for (const auto& [name, index] : copied) {
    EDDY_RETURN_IF_ERROR(Copy(*file_.Find(name), index, writer));
  }
  for (const auto& [matrix, output] : outputs) {
    EDDY_ASSIGN_OR_RETURN(QuantisedTensor tensor, Quantise(*matrix, output, writer));
    report->tensors.push_back(std::move(tensor));
  }
  return writer.Finish();
}

absl::Status Conversion::Copy(const StoredTensor& tensor, size_t index, SafetensorsWriter& writer) {
  for (auto rest = tensor.data; !rest.empty();) {
    const auto piece = rest.first(std::min<size_t>(rest.size(), kPieceBytes));
    EDDY_RETURN_IF_ERROR(writer.Append(index, piece));
    file_.Release(piece);
    rest = rest.subspan(piece.size());
    EDDY_RETURN_IF_ERROR(Advance(std::ssize(piece)));
  }
  return absl::OkStatus();
}

absl::StatusOr<QuantisedTensor> Conversion::Quantise(const MatrixName& matrix, const Output& output,
                                                     SafetensorsWriter& writer) {
  const StoredTensor& tensor = *file_.Find(matrix.name);
  const DType dtype = options_.dtype;
  const int64_t out_size = tensor.shape[matrix.transposed ? 1 : 0];
  const int64_t in_size = tensor.shape[matrix.transposed ? 0 : 1];
  const auto scale_count = static_cast<size_t>(ScaleCount(dtype, in_size));
  std::vector<float> weights(static_cast<size_t>(in_size)), scales;
  std::vector<int8_t> integers(weights.size());
  Pending pending(tensor, matrix.transposed, dtype);
  Errors errors;
  for (int64_t out = 0; out < out_size; ++out) {
    for (int64_t in = 0; in < in_size; ++in) {
      weights[static_cast<size_t>(in)] =
          NumberAt(tensor, matrix.transposed ? in * out_size + out : out * in_size + in);
    }
    scales.resize(scales.size() + scale_count);
    const auto own = std::span(scales).last(scale_count);
    QuantiseOutput(dtype, weights, integers, own);
    errors.Add(dtype, weights, integers, own);
    pending.Add(out, integers);
    if (pending.full()) EDDY_RETURN_IF_ERROR(writer.Append(output.integers, pending.Take()));
    EDDY_RETURN_IF_ERROR(Advance(in_size * StoredTypeBytes(tensor.type)));
  }
  file_.Release(tensor.data);
  EDDY_RETURN_IF_ERROR(writer.Append(output.integers, pending.Take()));
  EDDY_RETURN_IF_ERROR(AppendScales(scales, output.scales, writer));
  QuantisedTensor report = {matrix.name, tensor.shape, errors.relative(), errors.max,
                            std::ssize(tensor.data)};
  report.bytes_after = plan_[output.integers].bytes() + plan_[output.scales].bytes();
  return report;
}

absl::Status Conversion::AppendScales(std::span<const float> scales, size_t index,
                                      SafetensorsWriter& writer) {
  if (options_.dtype == DType::kI8) return writer.Append(index, std::as_bytes(scales));
  std::vector<uint16_t> halves;
  halves.reserve(scales.size());
  for (const float scale : scales) halves.push_back(F32ToBf16(scale));
  return writer.Append(index, std::as_bytes(std::span(halves)));
}

absl::Status Conversion::Advance(int64_t bytes) {
  const int64_t before = done_bytes_;
  done_bytes_ += bytes;
  if (before / kPieceBytes == done_bytes_ / kPieceBytes && done_bytes_ != all_bytes_) {
    return absl::OkStatus();
  }
  if (options_.progress && !options_.progress(done_bytes_, all_bytes_)) {
    return absl::CancelledError("stopped; nothing was made");
  }
  return absl::OkStatus();
}

absl::Status WriteConfig(const std::string& from, const std::string& to, DType dtype) {
  EDDY_ASSIGN_OR_RETURN(const MappedFile mapping, MappedFile::Open(from));
  const auto bytes = mapping.bytes();
  const std::string text =
      QuoteNotFinite({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  EDDY_RETURN_IF_ERROR(ParseJson(text, from).status());
  // In the order of the original.
  auto config = nlohmann::ordered_json::parse(text, nullptr, /*allow_exceptions=*/false);
  config[kQuantisationKey] = DTypeName(dtype);
  config.erase(kTextKey);  // the text is not copied
  config.erase(kTextBeginKey);
  return WriteFile(to, config.dump(2) + "\n");
}

// What tokenizers read, and the licence. Neither weights of other formats nor the text that a
// small model was trained on.
bool IsCopied(const std::string& name) {
  for (const std::string_view begin :
       {"tokenizer", "vocab", "merges", "special_tokens", "added_tokens", "generation_config",
        "LICENSE", "LICENCE", "NOTICE"}) {
    if (name.starts_with(begin)) return true;
  }
  return name.ends_with(".model") || name.find("vocab") != std::string::npos;
}

absl::Status CopyOthers(const std::string& from, const UnfinishedFolder& to) {
  std::error_code error;
  std::filesystem::directory_iterator entries(from, error);
  for (; !error && entries != std::filesystem::directory_iterator(); entries.increment(error)) {
    const std::string name = entries->path().filename().string();
    if (!IsCopied(name) || !entries->is_regular_file(error)) continue;
    std::filesystem::copy_file(entries->path(), to / name, error);
    if (error) break;
  }
  if (!error) return absl::OkStatus();
  return absl::ErrnoToStatus(error.value(),
                             absl::StrCat("the files of ", from, " cannot be copied"));
}

}  // namespace

absl::StatusOr<QuantiseReport> QuantiseModel(const std::string& folder, const std::string& out,
                                             Backend& backend, const QuantiseOptions& options) {
  EDDY_CHECK(options.dtype == DType::kI8 || options.dtype == DType::kI4);
  if (IsSyntheticModel(folder)) {
    return absl::InvalidArgumentError(
        absl::StrCat(folder, " has no files: serve it with --weights ", DTypeName(options.dtype)));
  }
  EDDY_ASSIGN_OR_RETURN(UnfinishedFolder made, UnfinishedFolder::Create(out));
  if (const auto config = Config::Read(folder + "/config.json");
      config.ok() && config->Has(kQuantisationKey)) {
    return absl::FailedPreconditionError(
        absl::StrCat(folder, " is quantised already (", kQuantisationKey,
                     " in its config.json); quantise the model that it was made from"));
  }
  std::vector<MatrixName> matrices;
  LoadOptions load;
  load.weight_dtype = options.dtype;
  load.matrices = &matrices;
  EDDY_RETURN_IF_ERROR(LoadModel(folder, backend, load).status());
  EDDY_ASSIGN_OR_RETURN(const Config config, Config::Read(folder + "/config.json"));
  if (config.Has(kQuantisationKey)) {
    return absl::FailedPreconditionError(absl::StrCat(folder, " is ", DTypeName(options.dtype),
                                                      " already, says its ", kQuantisationKey));
  }
  EDDY_ASSIGN_OR_RETURN(const std::unique_ptr<TensorSource> source, OpenModelTensors(folder));
  QuantiseReport report;
  report.file_bytes_before = source->file_bytes();
  EDDY_RETURN_IF_ERROR(
      Conversion(*source, options).Run(matrices, made / "model.safetensors", &report));
  EDDY_RETURN_IF_ERROR(WriteConfig(folder + "/config.json", made / "config.json", options.dtype));
  EDDY_RETURN_IF_ERROR(CopyOthers(folder, made));
  EDDY_RETURN_IF_ERROR(made.Finish());
  return report;
}

}  // namespace eddy
