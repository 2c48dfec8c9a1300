// SPDX-License-Identifier: Apache-2.0
// Weights: takes a model's tensors from their source onto a backend, by name and expected shape,
// once, at load. Tensors go there piece by piece, and the source is told of every piece that it is
// not needed any more: beside what the backend holds lie some MiB, or one tensor where its numbers
// have to be turned round or computed with.
//
// A tensor is read once; or as a table and as a matrix (tied embeddings); or in parts that together
// are all of it. However it is read, its parameters count once.
//
// The Read functions do not fail one by one: each mismatch is noted, an empty value comes back, and
// Finish tells all of them in one error, with the tensors that nobody asked for. Not thread-safe.
//
// Where matrices become int8 or int4, the file may have them so already. NAME is then I8 of the
// matrix's shape, or for int4 U8 of half as many columns: two integers to a byte, that of the even
// column in the low half, in two's complement. NAME.scale is F32 [out], or for int4 BF16 [out,
// ceil(in / 64)]. What they are is said in kernels/quantise.h, and the packed matrix has the same
// bits as if it were quantised here. Tables and vectors are floats in every file, and so is a
// matrix that is a table, too.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/problems.h"
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
  bool table = false;       // it is read as a table, too; known after Finish
};

// Called now and then with how much of the source's data is read.
using LoadProgress = std::function<void(int64_t done_bytes, int64_t all_bytes)>;

class Weights {
 public:
  // Of the source's data, in whole rows that Backend::PackRows takes.
  static constexpr int64_t kPieceBytes = int64_t{4} << 20;

  // Matrices become `dtype`, tables kF32 (if `dtype` is) or kBF16. `file` and `backend` must
  // outlive this. `progress` is not called for a source that has no data beforehand.
  Weights(const TensorSource& file, Backend& backend, DType dtype, LoadProgress progress = {});

  const TensorSource& file() const { return file_; }
  // The shape of a tensor that may be read, of an int4 matrix in numbers; nullopt when there is
  // none of that name.
  std::optional<Shape> StoredShape(const std::string& name) const;
  DType dtype() const { return dtype_; }

  // f32, of any rank; the file may have more or fewer axes of size 1. Without data when it failed.
  Tensor ReadVector(const std::string& name, const Shape& shape, const ValueRange& range = {});
  // The part [begin, end) of the outermost axis of a tensor that the file holds as `stored`.
  Tensor ReadVectorPart(const std::string& name, const Shape& stored, int64_t begin, int64_t end,
                        const ValueRange& range = {});
  // Vectors of one size in one tensor [names, size], f32.
  Tensor ReadVectors(std::span<const std::string> names, int64_t size);
  // The same of one tensor that the file holds as [size, vectors], here `shape`: [vectors, size].
  Tensor ReadTransposedVectors(const std::string& name, const Shape& shape);
  // Packed for MatMul.  shape [out, in]
  Matrix ReadMatrix(const std::string& name, const Shape& shape);
  // The outputs [begin, end) of a matrix that the file holds as `stored` [out, in].
  Matrix ReadMatrixRows(const std::string& name, const Shape& stored, int64_t begin, int64_t end);
  // The same as ReadMatrix of a matrix that the file holds as [in, out]; shape as in the file.
  Matrix ReadTransposedMatrix(const std::string& name, const Shape& shape);
  // Not packed, for Embed.  shape [vocabulary, E]
  Tensor ReadTable(const std::string& name, const Shape& shape);

  // For what a model computes from a tensor once, at load: its numbers as f32 on the host, with
  // axes as ReadVector. Empty when it failed; what is made of them may be empty then, too.
  std::vector<float> ReadNumbers(const std::string& name, const Shape& shape,
                                 const ValueRange& range = {});
  // Numbers so made, as ReadVector and ReadMatrix give them; `name` is of a tensor they come from,
  // for messages.
  Tensor UploadNumbers(const std::string& name, std::span<const float> numbers, const Shape& shape);
  Matrix PackNumbers(const std::string& name, std::span<const float> numbers, const Shape& shape);

  // Those that ReadMatrix, ReadMatrixRows (once for all parts) and ReadTransposedMatrix were asked
  // for, in order.
  const std::vector<MatrixName>& matrices() const { return matrices_; }
  // The file may have this tensor; it is not needed.
  void Ignore(const std::string& name) { asked_[name].whole = true; }

  // Nothing may be read afterwards. INVALID_ARGUMENT, naming file and tensors, for what is missing,
  // has another shape, a number that is not finite (as `dtype`, where it becomes that) or out of
  // range, or is left over; the backend's error when it could not hold them.
  absl::StatusOr<LoadedWeights> Finish();

 private:
  // How a tensor is asked for; once, but for parts and for tables that are matrices.
  enum class Use : uint8_t { kVector, kVectorPart, kTable, kMatrix, kMatrixRows };
  // [begin, end) of the outermost axis.
  struct Part {
    int64_t begin = 0;
    int64_t end = 0;

    bool operator<(const Part& other) const { return begin < other.begin; }
  };
  struct Asked {
    bool whole = false, table = false, matrix = false;
    std::vector<Part> parts;
    int64_t row_count = 0;   // that the parts are of
    bool counted = false;    // among the parameters
    bool sound = true;       // nothing is noted of it
    int64_t done_bytes = 0;  // of its data, for the progress
  };

  // Notes how `name` is asked for.
  Asked& Expect(const std::string& name, Use use, const Part& part, int64_t row_count);
  // The tensor if it is there in that shape (but for axes of size 1, where it is no matrix) and
  // nothing is noted of it; else nullptr, with the mismatch noted. It may lie in *made.
  const StoredTensor* Ask(const std::string& name, Use use, const Shape& shape, const Part& part,
                          const ValueRange& range, MadeTensor* made);
  void Count(const Shape& shape, Asked* asked);
  // Told at the end; later ones of the same tensor are not.
  void Note(const std::string& name, const std::string& problem);
  // Notes the first number in [begin, end) that is not finite as `dtype` or out of range.
  bool AreSound(const std::string& name, const StoredTensor& tensor, int64_t begin, int64_t end,
                DType dtype, const ValueRange& range);
  // Its numbers if it may be read as a vector; else empty.
  std::vector<float> Vector(const std::string& name, Use use, const Shape& shape, const Part& part,
                            const ValueRange& range);
  // Notes when numbers made of a tensor are not finite as `dtype`; false also when anything failed.
  bool MadeAreSound(const std::string& name, std::span<const float> numbers, const Shape& shape,
                    DType dtype);
  // Tells the source and who waits that numbers [begin, end) are read.
  void Done(const std::string& name, const StoredTensor& tensor, int64_t begin, int64_t end);
  // Calls use(piece) for one piece of `rows` after the other, and Done after each, until it
  // returns false.
  void ForEachPiece(const std::string& name, const StoredTensor& tensor, const Part& rows,
                    int64_t row_bytes, const std::function<bool(const Part&)>& use);
  // Without data when the backend could not.
  Tensor Allocate(const std::string& name, DType dtype, const Shape& shape);
  Matrix AllocateMatrix(const std::string& name, int64_t out_size, int64_t in_size);
  Matrix ReadRows(const std::string& name, Use use, const Shape& shape, const Part& rows);
  void KeepError(const std::string& name, const absl::Status& status);

  // Of a matrix that the file has as `dtype_` already; shape as in the file, in numbers.
  bool HasQuantised(const std::string& name) const;
  // The same as Ask.
  const StoredTensor* AskQuantised(const std::string& name, Use use, const Shape& shape,
                                   const Part& rows);
  Matrix ReadQuantisedRows(const std::string& name, Use use, const Shape& shape, const Part& rows);
  Matrix ReadTransposedQuantised(const std::string& name, const Shape& shape);
  bool IntegersAreSound(const std::string& name, std::span<const std::byte> integers,
                        int64_t begin);
  // Of outputs `rows`; empty when they are not sound.
  std::vector<float> QuantisedScales(const std::string& name, Use use, int64_t out_size,
                                     int64_t in_size, const Part& rows);
  bool failed() const { return !problems_.empty() || !backend_error_.ok(); }

  const TensorSource& file_;
  Backend& backend_;
  const DType dtype_;
  LoadedWeights loaded_;
  std::map<std::string, Asked, std::less<>> asked_;
  std::vector<MatrixName> matrices_;
  Problems problems_;
  absl::Status backend_error_;
  const LoadProgress progress_;
  int64_t done_bytes_ = 0, all_bytes_ = 0;
};

}  // namespace eddy
