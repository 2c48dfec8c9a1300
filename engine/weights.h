// SPDX-License-Identifier: Apache-2.0
// Weights: takes a model's tensors from their source onto a backend, by name and expected shape,
// once, at load. One tensor at a time is held beside what the backend holds.
//
// The Read functions do not fail one by one: each mismatch is noted, an empty value comes back, and
// Finish tells all of them in one error, with the tensors that nobody asked for. Not thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/tensor_source.h"
#include "kernels/backend.h"

namespace eddy {

// What the tensors of ReadVector and ReadTable point into, to be kept with them; and what all
// weights amount to.
struct LoadedWeights {
  std::vector<Buffer> buffers;
  int64_t parameter_count = 0;
  int64_t weight_bytes = 0;  // on the backend
};

class Weights {
 public:
  // Matrices become `dtype`, tables kF32 (if `dtype` is) or kBF16. `file` and `backend` must
  // outlive this.
  Weights(const TensorSource& file, Backend& backend, DType dtype)
      : file_(file), backend_(backend), dtype_(dtype) {}

  const TensorSource& file() const { return file_; }
  // The shape of a tensor that may be read; nullopt when there is none of that name.
  std::optional<Shape> StoredShape(const std::string& name) const;
  DType dtype() const { return dtype_; }

  // f32, of any rank; the file may have more or fewer axes of size 1. Without data when it failed.
  Tensor ReadVector(const std::string& name, const Shape& shape, const ValueRange& range = {});
  // Vectors of one size in one tensor [names, size], f32.
  Tensor ReadVectors(std::span<const std::string> names, int64_t size);
  // Packed for MatMul.  shape [out, in]
  Matrix ReadMatrix(const std::string& name, const Shape& shape);
  // The same of a matrix that the file holds as [in, out]; shape as in the file.
  Matrix ReadTransposedMatrix(const std::string& name, const Shape& shape);
  // Not packed, for Embed.  shape [vocabulary, E]
  Tensor ReadTable(const std::string& name, const Shape& shape);
  // The file may have this tensor; it is not needed.
  void Ignore(const std::string& name) { asked_.insert(name); }

  // Nothing may be read afterwards. INVALID_ARGUMENT, naming file and tensors, for what is missing,
  // has another shape, a number that is not finite (as `dtype`, where it becomes that) or out of
  // range, or is left over; the backend's error when it could not hold them.
  absl::StatusOr<LoadedWeights> Finish();

 private:
  // The tensor if it is there in that shape (but for axes of size 1, where ones do not count); else
  // nullptr, with the mismatch noted. It may lie in *made.
  const StoredTensor* Ask(const std::string& name, const Shape& shape, const ValueRange& range,
                          MadeTensor* made, bool ones_count = true);
  // Notes the first number that is not finite as `dtype` or out of range.
  bool NumbersAreSound(const std::string& name, const StoredTensor& tensor, DType dtype,
                       const ValueRange& range);
  // Appends the numbers of one that ReadVector may read; false when it may not.
  bool AppendVector(const std::string& name, const Shape& shape, const ValueRange& range,
                    std::vector<float>* floats);
  Tensor Upload(const std::string& name, const void* host, DType dtype, const Shape& shape);
  Matrix Pack(const std::string& name, const Tensor& host);
  bool failed() const { return !problems_.empty() || !backend_error_.ok(); }

  const TensorSource& file_;
  Backend& backend_;
  const DType dtype_;
  LoadedWeights loaded_;
  std::set<std::string, std::less<>> asked_;
  std::vector<std::string> problems_;
  absl::Status backend_error_;
};

}  // namespace eddy
