// SPDX-License-Identifier: Apache-2.0
#include "engine/weights.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/json.h"
#include "kernels/bf16.h"

namespace eddy {
namespace {

std::string Described(const StoredTensor& tensor) {
  return absl::StrCat(StoredTypeName(tensor.type), " ", tensor.shape.ToString());
}

Shape WithoutOnes(const Shape& shape) {
  std::array<int64_t, Shape::kRankMax> dims = {1, 1, 1, 1};
  size_t rank = 0;
  for (int i = 0; i < shape.rank(); ++i) {
    if (shape[i] != 1) dims[rank++] = shape[i];
  }
  return {dims[0], dims[1], dims[2], dims[3]};
}

int64_t RowCount(const Shape& shape) { return shape.rank() == 0 ? 1 : shape[0]; }
// Numbers of one row, which is all of a scalar.
int64_t RowSize(const Shape& shape) {
  return shape.element_count() / std::max<int64_t>(RowCount(shape), 1);
}

// `shape` with as many rows.
Shape WithRows(const Shape& shape, int64_t count) {
  EDDY_CHECK(shape.rank() >= 1 && count >= 1);
  return Tensor(nullptr, DType::kF32, shape).First(count).shape();
}

int64_t RowBytes(const StoredTensor& tensor, int64_t row_size) {
  return row_size * StoredTypeBytes(tensor.type);
}

// The numbers from `begin` on where they lie, if a backend can pack them from there; else absent.
Tensor InPlace(const StoredTensor& tensor, int64_t begin, const Shape& shape) {
  const int64_t item_bytes = StoredTypeBytes(tensor.type);
  const std::byte* data = tensor.data.data() + begin * item_bytes;
  const bool aligned = reinterpret_cast<uintptr_t>(data) % static_cast<uintptr_t>(item_bytes) == 0;
  if (!aligned || tensor.type == StoredType::kF16) return {};
  const DType dtype = tensor.type == StoredType::kBF16 ? DType::kBF16 : DType::kF32;
  return Tensor(const_cast<std::byte*>(data), dtype, shape);
}

}  // namespace

Weights::Weights(const TensorSource& file, Backend& backend, DType dtype, LoadProgress progress)
    : file_(file), backend_(backend), dtype_(dtype), progress_(std::move(progress)) {
  for (const auto& [name, tensor] : file.tensors()) all_bytes_ += std::ssize(tensor.data);
}

std::optional<Shape> Weights::StoredShape(const std::string& name) const {
  const StoredTensor* tensor = file_.Find(name);
  if (tensor == nullptr) return std::nullopt;
  if (dtype_ == DType::kI4 && HasQuantised(name)) return {{tensor->shape[0], 2 * tensor->shape[1]}};
  return tensor->shape;
}

// ---- what is asked for, and what is wrong with it ----

Weights::Asked& Weights::Expect(const std::string& name, Use use, const Part& part,
                                int64_t row_count) {
  Asked& asked = asked_[name];
  const bool table = use == Use::kTable, matrix = use == Use::kMatrix;
  const bool in_parts = use == Use::kVectorPart || use == Use::kMatrixRows;
  EDDY_CHECK(!asked.whole && (!asked.table || matrix) && (!asked.matrix || table) &&
             (asked.parts.empty() || in_parts))
      << name << " is read twice";
  asked.whole |= use == Use::kVector;
  asked.table |= table;
  asked.matrix |= matrix;
  if (!in_parts) return asked;
  EDDY_CHECK(0 <= part.begin && part.begin < part.end && part.end <= row_count)
      << "[" << part.begin << ", " << part.end << ") of " << row_count << " of " << name;
  EDDY_CHECK(asked.parts.empty() || asked.row_count == row_count) << name;
  asked.parts.push_back(part);
  asked.row_count = row_count;
  return asked;
}

const StoredTensor* Weights::Ask(const std::string& name, Use use, const Shape& shape,
                                 const Part& part, const ValueRange& range, MadeTensor* made) {
  Asked& asked = Expect(name, use, part, RowCount(shape));
  if (!asked.sound) return nullptr;
  const bool vector = use == Use::kVector || use == Use::kVectorPart;
  const StoredTensor* tensor = file_.Provide(name, shape, range, made);
  if (tensor == nullptr) {
    Note(name, absl::StrCat("is missing, expected ", shape.ToString()));
    return nullptr;
  }
  const bool fits =
      vector ? WithoutOnes(tensor->shape) == WithoutOnes(shape) : tensor->shape == shape;
  if (!fits) {
    Note(name, absl::StrCat("is ", Described(*tensor), ", expected ", shape.ToString()));
    return nullptr;
  }
  if (IsInteger(tensor->type)) {
    Note(name,
         absl::StrCat("is ", Described(*tensor), ", expected F32, F16 or BF16 ", shape.ToString()));
    return nullptr;
  }
  Count(shape, &asked);
  return tensor;
}

void Weights::Count(const Shape& shape, Asked* asked) {
  if (!std::exchange(asked->counted, true)) loaded_.parameter_count += shape.element_count();
}

void Weights::Note(const std::string& name, const std::string& problem) {
  if (std::exchange(asked_[name].sound, false)) problems_.Add(absl::StrCat(name, " ", problem));
}

bool Weights::AreSound(const std::string& name, const StoredTensor& tensor, int64_t begin,
                       int64_t end, DType dtype, const ValueRange& range) {
  const bool bounded = std::isfinite(range.above) || range.max < ValueRange().max;
  if (!bounded && AllFinite(tensor, begin, end, dtype)) return true;
  for (int64_t i = begin; i < end; ++i) {
    const float number = NumberAt(tensor, i);
    if (!AllFinite(tensor, i, i + 1, dtype)) {
      Note(name, absl::StrCat("has the value ", number, " at index ", i, ", expected a finite ",
                              DTypeName(dtype)));
      return false;
    }
    if (!(range.above < number && number <= range.max)) {
      Note(name, absl::StrCat("has the value ", number, " at index ", i, ", expected one above ",
                              range.above, " and at most ", range.max));
      return false;
    }
  }
  return true;
}

void Weights::Done(const std::string& name, const StoredTensor& tensor, int64_t begin,
                   int64_t end) {
  const int64_t item_bytes = StoredTypeBytes(tensor.type);
  const auto part = tensor.data.subspan(static_cast<size_t>(begin * item_bytes),
                                        static_cast<size_t>((end - begin) * item_bytes));
  file_.Release(part);
  Asked& asked = asked_[name];
  // What is read twice counts once.
  const int64_t bytes =
      std::min<int64_t>(std::ssize(part), std::ssize(tensor.data) - asked.done_bytes);
  asked.done_bytes += bytes;
  done_bytes_ += bytes;
  if (progress_ && all_bytes_ > 0) progress_(done_bytes_, all_bytes_);
}

void Weights::ForEachPiece(const std::string& name, const StoredTensor& tensor, const Part& rows,
                           int64_t row_bytes, const std::function<bool(const Part&)>& use) {
  constexpr int64_t kStep = Backend::kPackRows;
  const int64_t rows_max =
      std::max(kPieceBytes / std::max(row_bytes, int64_t{1}) / kStep, int64_t{1}) * kStep;
  const int64_t row_size = row_bytes / StoredTypeBytes(tensor.type);
  for (int64_t begin = rows.begin; begin < rows.end; begin += rows_max) {
    const Part piece = {begin, std::min(begin + rows_max, rows.end)};
    if (!use(piece)) return;
    Done(name, tensor, piece.begin * row_size, piece.end * row_size);
  }
}

absl::StatusOr<LoadedWeights> Weights::Finish() {
  for (const auto& [name, tensor] : file_.tensors()) {
    if (asked_.contains(name)) continue;
    problems_.Add(
        absl::StrCat(Quoted(name), " (", Described(tensor), ") has no place in this model"));
  }
  if (!problems_.empty()) {
    return problems_.Told(absl::StrCat(file_.file(), " does not fit its config.json"));
  }
  if (!backend_error_.ok()) return backend_error_;
  for (auto& [name, asked] : asked_) {
    std::sort(asked.parts.begin(), asked.parts.end());
    int64_t end = 0;
    for (const Part& part : asked.parts) {
      EDDY_CHECK_EQ(part.begin, std::exchange(end, part.end)) << "in the parts of " << name;
    }
    EDDY_CHECK_EQ(end, asked.row_count) << "in the parts of " << name;
  }
  if (progress_ && all_bytes_ > 0) progress_(all_bytes_, all_bytes_);  // some may be ignored
  for (MatrixName& matrix : matrices_) matrix.table = asked_[matrix.name].table;
  return std::move(loaded_);
}

// ---- vectors and tables ----

void Weights::KeepError(const std::string& name, const absl::Status& status) {
  backend_error_ =
      absl::Status(status.code(), absl::StrCat(file_.file(), ": ", name, ": ", status.message()));
}

Tensor Weights::Allocate(const std::string& name, DType dtype, const Shape& shape) {
  const int64_t bytes = shape.element_count() * DTypeBytes(dtype);
  absl::StatusOr<Buffer> buffer = backend_.Allocate(bytes);
  if (!buffer.ok()) {
    KeepError(name, buffer.status());
    return Tensor(nullptr, dtype, shape);
  }
  loaded_.weight_bytes += bytes;
  loaded_.buffers.push_back(*std::move(buffer));
  return loaded_.buffers.back().View(dtype, shape);
}

std::vector<float> Weights::Vector(const std::string& name, Use use, const Shape& shape,
                                   const Part& part, const ValueRange& range) {
  MadeTensor made;
  const StoredTensor* tensor = Ask(name, use, shape, part, range, &made);
  if (tensor == nullptr) return {};
  const int64_t begin = part.begin * RowSize(shape), end = part.end * RowSize(shape);
  if (!AreSound(name, *tensor, begin, end, DType::kF32, range)) return {};
  std::vector<float> numbers(static_cast<size_t>(end - begin));
  CopyNumbers(*tensor, begin, numbers);
  Done(name, *tensor, begin, end);
  return numbers;
}

std::vector<float> Weights::ReadNumbers(const std::string& name, const Shape& shape,
                                        const ValueRange& range) {
  return Vector(name, Use::kVector, shape, {0, RowCount(shape)}, range);
}

Tensor Weights::ReadVector(const std::string& name, const Shape& shape, const ValueRange& range) {
  return UploadNumbers(name, ReadNumbers(name, shape, range), shape);
}

Tensor Weights::ReadVectorPart(const std::string& name, const Shape& stored, int64_t begin,
                               int64_t end, const ValueRange& range) {
  const std::vector<float> numbers = Vector(name, Use::kVectorPart, stored, {begin, end}, range);
  return UploadNumbers(name, numbers, WithRows(stored, end - begin));
}

Tensor Weights::ReadVectors(std::span<const std::string> names, int64_t size) {
  std::vector<float> all;
  for (const std::string& name : names) {
    const std::vector<float> numbers = ReadNumbers(name, {size});
    all.insert(all.end(), numbers.begin(), numbers.end());
  }
  return UploadNumbers(names.front(), all, {static_cast<int64_t>(names.size()), size});
}

Tensor Weights::ReadTransposedVectors(const std::string& name, const Shape& shape) {
  const std::vector<float> stored = ReadNumbers(name, shape);
  std::vector<float> turned;
  turned.reserve(stored.size());
  for (int64_t vector = 0; !stored.empty() && vector < shape[1]; ++vector) {
    for (int64_t i = 0; i < shape[0]; ++i) {
      turned.push_back(stored[static_cast<size_t>(i * shape[1] + vector)]);
    }
  }
  return UploadNumbers(name, turned, {shape[1], shape[0]});
}

bool Weights::MadeAreSound(const std::string& name, std::span<const float> numbers,
                           const Shape& shape, DType dtype) {
  if (failed()) return false;
  EDDY_CHECK_EQ(std::ssize(numbers), shape.element_count()) << "for " << name;
  const StoredTensor view = {StoredType::kF32, shape, std::as_bytes(numbers)};
  if (AllFinite(view, 0, std::ssize(numbers), dtype)) return true;
  Note(name, absl::StrCat("leads to a number that is not finite as ", DTypeName(dtype)));
  return false;
}

Tensor Weights::UploadNumbers(const std::string& name, std::span<const float> numbers,
                              const Shape& shape) {
  if (!MadeAreSound(name, numbers, shape, DType::kF32)) return Tensor(nullptr, DType::kF32, shape);
  const Tensor tensor = Allocate(name, DType::kF32, shape);
  if (tensor.present()) backend_.CopyIn(numbers.data(), tensor.data(), tensor.bytes());
  return tensor;
}

Tensor Weights::ReadTable(const std::string& name, const Shape& shape) {
  const DType dtype = dtype_ == DType::kF32 ? DType::kF32 : DType::kBF16;
  MadeTensor made;
  const StoredTensor* tensor = Ask(name, Use::kTable, shape, {0, shape[0]}, {}, &made);
  if (tensor == nullptr) return {};
  const Tensor table = failed() ? Tensor() : Allocate(name, dtype, shape);
  std::vector<float> floats;
  std::vector<uint16_t> halves;
  ForEachPiece(name, *tensor, {0, shape[0]}, RowBytes(*tensor, shape[1]), [&](const Part& piece) {
    const int64_t begin = piece.begin * shape[1], end = piece.end * shape[1];
    if (!AreSound(name, *tensor, begin, end, dtype, {})) return false;
    if (!table.present()) return true;
    const void* host = tensor->data.data() + RowBytes(*tensor, begin);
    if (tensor->type != (dtype == DType::kF32 ? StoredType::kF32 : StoredType::kBF16)) {
      floats.resize(static_cast<size_t>(end - begin));
      CopyNumbers(*tensor, begin, floats);
      host = floats.data();
      if (dtype == DType::kBF16) {
        halves.resize(floats.size());
        std::transform(floats.begin(), floats.end(), halves.begin(), F32ToBf16);
        host = halves.data();
      }
    }
    const int64_t item_bytes = DTypeBytes(dtype);
    backend_.CopyIn(host, static_cast<std::byte*>(table.data()) + begin * item_bytes,
                    (end - begin) * item_bytes);
    return true;
  });
  return failed() ? Tensor() : table;
}

// ---- matrices ----

Matrix Weights::AllocateMatrix(const std::string& name, int64_t out_size, int64_t in_size) {
  absl::StatusOr<Matrix> matrix = backend_.AllocateMatrix(out_size, in_size, dtype_);
  if (!matrix.ok()) {
    KeepError(name, matrix.status());
    return {};
  }
  loaded_.weight_bytes += matrix->buffer.bytes();
  return *std::move(matrix);
}

Matrix Weights::PackNumbers(const std::string& name, std::span<const float> numbers,
                            const Shape& shape) {
  if (!MadeAreSound(name, numbers, shape, dtype_)) return {};
  Matrix matrix = AllocateMatrix(name, shape[0], shape[1]);
  auto* data = const_cast<float*>(numbers.data());
  if (!failed()) backend_.PackRows(Tensor(data, DType::kF32, shape), 0, matrix);
  return matrix;
}

Matrix Weights::ReadRows(const std::string& name, Use use, const Shape& shape, const Part& rows) {
  if (HasQuantised(name)) return ReadQuantisedRows(name, use, shape, rows);
  MadeTensor made;
  const StoredTensor* tensor = Ask(name, use, shape, rows, {}, &made);
  if (tensor == nullptr) return {};
  const int64_t in_size = shape[1];
  Matrix matrix = failed() ? Matrix() : AllocateMatrix(name, rows.end - rows.begin, in_size);
  std::vector<float> floats;
  ForEachPiece(name, *tensor, rows, RowBytes(*tensor, in_size), [&](const Part& piece) {
    const int64_t begin = piece.begin * in_size, end = piece.end * in_size;
    if (!AreSound(name, *tensor, begin, end, dtype_, {})) return false;
    if (failed()) return true;
    const Shape part = {piece.end - piece.begin, in_size};
    Tensor host = InPlace(*tensor, begin, part);
    if (!host.present()) {
      floats.resize(static_cast<size_t>(end - begin));
      CopyNumbers(*tensor, begin, floats);
      host = Tensor(floats.data(), DType::kF32, part);
    }
    backend_.PackRows(host, piece.begin - rows.begin, matrix);
    return true;
  });
  return failed() ? Matrix() : std::move(matrix);
}

Matrix Weights::ReadMatrix(const std::string& name, const Shape& shape) {
  matrices_.push_back({name, /*transposed=*/false, /*table=*/false});
  return ReadRows(name, Use::kMatrix, shape, {0, shape[0]});
}

Matrix Weights::ReadMatrixRows(const std::string& name, const Shape& stored, int64_t begin,
                               int64_t end) {
  const auto asked = asked_.find(name);
  if (asked == asked_.end() || asked->second.parts.empty()) {
    matrices_.push_back({name, /*transposed=*/false, /*table=*/false});
  }
  return ReadRows(name, Use::kMatrixRows, stored, {begin, end});
}

Matrix Weights::ReadTransposedMatrix(const std::string& name, const Shape& shape) {
  matrices_.push_back({name, /*transposed=*/true, /*table=*/false});
  if (HasQuantised(name)) return ReadTransposedQuantised(name, shape);
  MadeTensor made;
  const StoredTensor* tensor = Ask(name, Use::kMatrix, shape, {0, shape[0]}, {}, &made);
  const int64_t count = shape.element_count();
  if (tensor == nullptr || !AreSound(name, *tensor, 0, count, dtype_, {}) || failed()) return {};
  std::vector<float> floats;  // this matrix only, and only until it is packed
  floats.reserve(static_cast<size_t>(count));
  for (int64_t out = 0; out < shape[1]; ++out) {
    for (int64_t in = 0; in < shape[0]; ++in) {
      floats.push_back(NumberAt(*tensor, in * shape[1] + out));
    }
  }
  Done(name, *tensor, 0, count);
  return PackNumbers(name, floats, {shape[1], shape[0]});
}

}  // namespace eddy
