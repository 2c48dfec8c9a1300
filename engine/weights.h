// SPDX-License-Identifier: Apache-2.0
// Weights: takes a model's tensors from their source onto a backend, by name and expected shape,
// once, at load. One tensor at a time is held beside what the backend holds.
//
// The Read functions do not fail one by one: each mismatch is noted, an empty value comes back, and
// Finish tells all of them in one error, with the tensors that nobody asked for. Not thread-safe.
//
// Where matrices become int8 or int4, the file may have them so already. NAME is then I8 of the
// matrix's shape, or for int4 U8 of half as many columns: two integers to a byte, that of the even
// column in the low half, in two's complement. NAME.scale is F32 [out], or for int4 BF16 [out,
// ceil(in / 64)]. What they are is said in kernels/quantise.h, and the packed matrix has the same
// bits as if it were quantised here.
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

// A matrix that a model multiplies with, as the file names it.
struct MatrixName {
  std::string name;
  bool transposed = false;  // the file holds it as [in, out]
};

class Weights {
 public:
  // Matrices become `dtype`, tables kF32 (if `dtype` is) or kBF16. `file` and `backend` must
  // outlive this.
  Weights(const TensorSource& file, Backend& backend, DType dtype)
      : file_(file), backend_(backend), dtype_(dtype) {}

  const TensorSource& file() const { return file_; }
  // The shape of a tensor that may be read, of an int4 matrix in numbers; nullopt when there is
  // none of that name.
  std::optional<Shape> StoredShape(const std::string& name) const;
  DType dtype() const { return dtype_; }

  // f32, of any rank; the file may have more or fewer axes of size 1. Without data when it failed.
  Tensor ReadVector(const std::string& name, const Shape& shape, const ValueRange& range = {});
  // Vectors of one size in one tensor [names, size], f32.
  Tensor ReadVectors(std::span<const std::string> names, int64_t size);
  // The same of one tensor that the file holds as [size, vectors], here `shape`: [vectors, size].
  Tensor ReadTransposedVectors(const std::string& name, const Shape& shape);
  // Packed for MatMul.  shape [out, in]
  Matrix ReadMatrix(const std::string& name, const Shape& shape);
  // The same of a matrix that the file holds as [in, out]; shape as in the file.
  Matrix ReadTransposedMatrix(const std::string& name, const Shape& shape);
  // Not packed, for Embed.  shape [vocabulary, E]
  Tensor ReadTable(const std::string& name, const Shape& shape);
  // Those that ReadMatrix and ReadTransposedMatrix were asked for, in order.
  const std::vector<MatrixName>& matrices() const { return matrices_; }
  // The file may have this tensor; it is not needed.
  void Ignore(const std::string& name) { asked_.insert(name); }

  // Nothing may be read afterwards. INVALID_ARGUMENT, naming file and tensors, for what is missing,
  // has another shape, a number that is not finite (as `dtype`, where it becomes that) or out of
  // range, or is left over; the backend's error when it could not hold them.
  absl::StatusOr<LoadedWeights> Finish();

 private:
  void Expect(const std::string& name);  // asked for, for the first time
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
  // Keeps a matrix that the backend has packed, or its error.
  Matrix Keep(const std::string& name, absl::StatusOr<Matrix> matrix);
  // Of a matrix that the file has as `dtype_` already; shape as in the file, in numbers.
  bool HasQuantised(const std::string& name) const;
  Matrix ReadQuantised(const std::string& name, const Shape& shape, bool transposed);
  std::vector<std::byte> QuantisedIntegers(const std::string& name, const Shape& shape,
                                           bool transposed);
  std::vector<float> QuantisedScales(const std::string& name, int64_t out_size, int64_t in_size);
  bool failed() const { return !problems_.empty() || !backend_error_.ok(); }

  const TensorSource& file_;
  Backend& backend_;
  const DType dtype_;
  LoadedWeights loaded_;
  std::set<std::string, std::less<>> asked_;
  std::vector<MatrixName> matrices_;
  std::vector<std::string> problems_;
  absl::Status backend_error_;
};

}  // namespace eddy
