// SPDX-License-Identifier: Apache-2.0
// Model: one loaded network on one backend. Immutable after load; Forward is the step thread's.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/weights.h"
#include "kernels/backend.h"
#include "kernels/workspace.h"

namespace eddy {

// Where each tensor of a session's state lies in its slot. All f32 unless said.
struct StateTensor {
  std::string name;  // "layers.3.s"
  int64_t offset_bytes = 0;
  DType dtype = DType::kF32;
  Shape shape;
};

class StateLayout {
 public:
  // Appends a tensor, 64-byte aligned, and returns its offset in bytes.
  int64_t Add(std::string name, DType dtype, Shape shape);
  const std::vector<StateTensor>& tensors() const { return tensors_; }
  // Of one slot; a multiple of 64.
  int64_t bytes() const { return bytes_; }

 private:
  std::vector<StateTensor> tensors_;
  int64_t bytes_ = 0;
};

// The images that a model's tokens are: values 0 to 255 in raster order, the channels of a pixel
// side by side.
struct ImageFormat {
  int32_t width = 0;
  int32_t height = 0;
  int32_t channels = 0;                // 1: grey; 3: red, green, blue
  std::optional<int32_t> start_token;  // stands before the first value; none: that value is given

  int64_t value_count() const { return int64_t{width} * height * channels; }
};

struct ModelInfo {
  std::string name;    // how clients call it: the folder's name unless a flag says otherwise
  std::string family;  // "linear_transformer"
  int64_t parameter_count = 0;
  int64_t weight_bytes = 0;  // packed
  int32_t vocabulary_size = 0;
  int64_t position_max = 0;  // tokens a session may hold; 0: no limit
  DType weight_dtype = DType::kBF16;
  DType state_dtype = DType::kF32;       // of the matrices of the state; what else is in it is f32
  std::vector<int32_t> end_of_text_ids;  // any of them ends a turn; may be empty
  // What Forward writes for a token. 0: a logit for each token of the vocabulary; else the numbers
  // of a mixture of so many logistics over the vocabulary, which are values in order
  // (Backend::SampleMixture).
  int32_t mixture_size = 0;
  std::optional<ImageFormat> image;  // of a model of images

  int32_t output_size() const { return mixture_size == 0 ? vocabulary_size : 3 * mixture_size; }
};

class Model {
 public:
  virtual ~Model() = default;

  virtual const ModelInfo& info() const = 0;
  virtual const StateLayout& state_layout() const = 0;
  // Reads rows.tokens into the states of rows.slot (state.base is slot 0 of the pool; offset_bytes
  // is ignored) and writes the outputs of rows.logits_token, which are logits unless info() says
  // otherwise.  logits [logits_count, output_size] f32
  // With a measuring workspace it only takes its scratch; no op is run.
  virtual void Forward(const Rows& rows, const StateRef& pool, Workspace& workspace,
                       const Tensor& logits) = 0;
};

// Chooses one token per row of what Forward wrote, by the op for the model's kind of output.
void SampleOutputs(Backend& backend, const ModelInfo& info, const Tensor& outputs,
                   std::span<const SampleRow> rows, std::span<SampleResult> results);
// Tells how probable given tokens were, likewise.
void ScoreOutputs(Backend& backend, const ModelInfo& info, const Tensor& outputs,
                  std::span<const ScoreRow> rows, std::span<ScoreResult> results);

// How matrices can be kept. With the last two, tables stay bf16.
inline constexpr DType kWeightDTypes[] = {DType::kF32, DType::kBF16, DType::kI8, DType::kI4};

// The key of config.json that says that the folder's matrices are "int8" or "int4" already
// (engine/weights.h). One that is not is quantised at load, to the same bits.
inline constexpr char kQuantisationKey[] = "eddy_quantization";

struct LoadOptions {
  std::string name;  // empty: the folder's name
  // One of kWeightDTypes; absent: what the folder is quantised to, else bf16.
  std::optional<DType> weight_dtype;
  // Where to note the matrices of the model, if anywhere.
  std::vector<MatrixName>* matrices = nullptr;
  LoadProgress progress;
  // kF32, or kBF16: half the memory, at some loss of quality.
  DType state_dtype = DType::kF32;
};

// Reads config.json and the weights of a folder (engine/sharded_safetensors.h) and picks the family
// by model_type. Errors name the file, the key or tensor, what was found and what was expected. The
// backend must outlive the model. FAILED_PRECONDITION for a weight type other than what the folder
// is quantised to. "synthetic:NAME" in place of a folder makes one (engine/synthetic.h).
absl::StatusOr<std::unique_ptr<Model>> LoadModel(const std::string& folder, Backend& backend,
                                                 const LoadOptions& options);

}  // namespace eddy
