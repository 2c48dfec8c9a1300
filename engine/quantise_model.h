// SPDX-License-Identifier: Apache-2.0
// QuantiseModel: a model folder with its matrices as int8 or int4 (engine/weights.h) from one of
// floats.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/backend.h"

namespace eddy {

struct QuantiseOptions {
  DType dtype = DType::kI8;  // or kI4
  // Called now and then with how much of the original's data is done; false: stop.
  std::function<bool(int64_t done_bytes, int64_t all_bytes)> progress;
};

// What became of one matrix W [out, in].
struct QuantisedTensor {
  std::string name;
  Shape shape;                  // as in the file
  double relative_error = 0.0;  // |W' - W| / |W|, Frobenius norms; 0 if W is
  double error_max = 0.0;       // of one number
  int64_t bytes_before = 0;
  int64_t bytes_after = 0;  // with the scales
};

struct QuantiseReport {
  std::vector<QuantisedTensor> tensors;  // in the model's order
  // Matrices that stay as they were and are quantised at load, to the same bits: for int4 those
  // with an odd number of columns in the file.
  std::vector<std::string> left;
  // The same of those that are tables, too (tied embeddings): tables stay floats.
  std::vector<std::string> tables;
  int64_t file_bytes_before = 0;  // of model.safetensors, or of all its shards
  int64_t file_bytes_after = 0;
};

// Reads the model in `folder`, as LoadModel does, onto `backend`, to learn from its family what is
// a matrix (this takes the memory of serving the result), then makes the folder `out`: config.json
// with kQuantisationKey, one model.safetensors, and what tokenizers need. `out` appears whole or
// not at all. Errors as LoadModel's; INVALID_ARGUMENT for a model that is no folder,
// FAILED_PRECONDITION for one that is quantised already, ALREADY_EXISTS when `out` is there,
// CANCELLED when stopped, the system's where it cannot be written.
absl::StatusOr<QuantiseReport> QuantiseModel(const std::string& folder, const std::string& out,
                                             Backend& backend, const QuantiseOptions& options);

}  // namespace eddy
