// SPDX-License-Identifier: Apache-2.0
#include "engine/model.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <iterator>
#include <string_view>
#include <system_error>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/config.h"
#include "engine/model_families.h"
#include "engine/sharded_safetensors.h"
#include "engine/synthetic.h"
#include "engine/weights.h"
#include "kernels/status_macros.h"

namespace eddy {
namespace {

struct Family {
  std::string_view model_type;  // of config.json
  MakeModel* make = nullptr;
};
constexpr Family kFamilies[] = {
    {"linear_transformer", MakeLinearTransformer},
    {"rwkv7", MakeRwkv7},
    {"gated_deltanet", MakeGatedDeltaNet},
    {"delta_net", MakeDeltaNet},
    {"gla", MakeGla},
    {"hgrn2", MakeHgrn2},
    {"kda", MakeKda},
    {"linear_attn", MakeLinearAttention},
    {"retnet", MakeRetNet},
    {"mamba2", MakeMamba2},
    {"rwkv6", MakeRwkv6},
};
constexpr size_t kFamilyCount = std::size(kFamilies);

// The index in kFamilies.
absl::StatusOr<size_t> FamilyOf(const Config& config) {
  std::array<std::string_view, kFamilyCount> names;
  std::transform(std::begin(kFamilies), std::end(kFamilies), names.begin(),
                 [](const Family& family) { return family.model_type; });
  if (!config.Has("model_type") && config.Has("ssm_cfg")) {  // state-spaces' have none
    return static_cast<size_t>(std::find(names.begin(), names.end(), "mamba2") - names.begin());
  }
  return config.Choice("model_type", names);
}

// The last part of the path, also of "models/shakespeare/" and ".".
std::string FolderName(const std::string& folder) {
  std::error_code error;
  const std::filesystem::path path = std::filesystem::canonical(folder, error);
  return error ? folder : path.filename().string();
}

absl::StatusOr<DType> WeightDType(const Config& config, const LoadOptions& options) {
  if (!config.Has(kQuantisationKey)) return options.weight_dtype.value_or(DType::kBF16);
  constexpr std::string_view kNames[] = {"int8", "int4"};
  EDDY_ASSIGN_OR_RETURN(const size_t choice, config.Choice(kQuantisationKey, kNames));
  const DType dtype = choice == 0 ? DType::kI8 : DType::kI4;
  if (options.weight_dtype.value_or(dtype) != dtype) {
    return absl::FailedPreconditionError(absl::StrCat(
        config.file(), ": ", kQuantisationKey, " is \"", DTypeName(dtype), "\": these weights are ",
        DTypeName(dtype), " already and cannot become ", DTypeName(*options.weight_dtype),
        "; load them as they are, or the original model"));
  }
  return dtype;
}

absl::StatusOr<std::unique_ptr<Model>> MakeFrom(const Config& config, const TensorSource& source,
                                                Backend& backend, const LoadOptions& options,
                                                std::string name) {
  EDDY_ASSIGN_OR_RETURN(const size_t family, FamilyOf(config));
  ModelInfo info;
  info.name = options.name.empty() ? std::move(name) : options.name;
  info.family = std::string(kFamilies[family].model_type);
  EDDY_ASSIGN_OR_RETURN(info.weight_dtype, WeightDType(config, options));
  info.state_dtype = options.state_dtype;
  Weights weights(source, backend, info.weight_dtype, options.progress);
  auto model = kFamilies[family].make(config, weights, backend, std::move(info));
  if (options.matrices != nullptr) *options.matrices = weights.matrices();
  return model;
}

absl::StatusOr<std::unique_ptr<Model>> LoadSyntheticModel(const std::string& model,
                                                          Backend& backend,
                                                          const LoadOptions& options) {
  EDDY_ASSIGN_OR_RETURN(const Config config, SyntheticConfig(model));
  EDDY_ASSIGN_OR_RETURN(const int64_t vocabulary_size, config.Int("vocab_size", 1, 1 << 23));
  return MakeFrom(config, SyntheticTensors(model, vocabulary_size), backend, options, model);
}

}  // namespace

int64_t StateLayout::Add(std::string name, DType dtype, Shape shape) {
  constexpr int64_t kAlignBytes = 64;
  const int64_t offset_bytes = bytes_;
  const int64_t tensor_bytes = shape.element_count() * DTypeBytes(dtype);
  bytes_ += (tensor_bytes + kAlignBytes - 1) / kAlignBytes * kAlignBytes;
  tensors_.push_back({std::move(name), offset_bytes, dtype, shape});
  return offset_bytes;
}

void SampleOutputs(Backend& backend, const ModelInfo& info, const Tensor& outputs,
                   std::span<const SampleRow> rows, std::span<SampleResult> results) {
  if (info.mixture_size == 0) return backend.Sample(outputs, rows, results);
  backend.SampleMixture(outputs, info.vocabulary_size, rows, results);
}

void ScoreOutputs(Backend& backend, const ModelInfo& info, const Tensor& outputs,
                  std::span<const ScoreRow> rows, std::span<ScoreResult> results) {
  if (info.mixture_size == 0) return backend.Score(outputs, rows, results);
  backend.ScoreMixture(outputs, info.vocabulary_size, rows, results);
}

absl::StatusOr<std::unique_ptr<Model>> LoadModel(const std::string& folder, Backend& backend,
                                                 const LoadOptions& options) {
  if (options.weight_dtype && std::find(std::begin(kWeightDTypes), std::end(kWeightDTypes),
                                        *options.weight_dtype) == std::end(kWeightDTypes)) {
    return absl::InvalidArgumentError(absl::StrCat("the weight type is ",
                                                   DTypeName(*options.weight_dtype),
                                                   ", expected f32, bf16, int8 or int4"));
  }
  if (options.state_dtype != DType::kF32 && options.state_dtype != DType::kBF16) {
    return absl::InvalidArgumentError(absl::StrCat(
        "the state type is ", DTypeName(options.state_dtype), ", expected f32 or bf16"));
  }
  if (IsSyntheticModel(folder)) return LoadSyntheticModel(folder, backend, options);
  std::error_code error;
  if (!std::filesystem::exists(folder, error)) {
    return absl::NotFoundError(absl::StrCat("the model folder ", folder, " does not exist"));
  }
  if (!std::filesystem::is_directory(folder, error)) {
    return absl::InvalidArgumentError(absl::StrCat(
        folder, " is not a folder, expected one with config.json and model.safetensors"));
  }
  EDDY_ASSIGN_OR_RETURN(const Config config, Config::Read(folder + "/config.json"));
  // A family that does not exist is told before a file of gigabytes is looked for.
  EDDY_RETURN_IF_ERROR(FamilyOf(config).status());
  EDDY_ASSIGN_OR_RETURN(const std::unique_ptr<TensorSource> source, OpenModelTensors(folder));
  return MakeFrom(config, *source, backend, options, FolderName(folder));
}

}  // namespace eddy
