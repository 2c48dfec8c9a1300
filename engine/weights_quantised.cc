// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/weights.h"
#include "kernels/quantise.h"

namespace eddy {
namespace {

StoredType IntegerType(DType dtype) {
  return dtype == DType::kI8 ? StoredType::kI8 : StoredType::kU8;
}

Shape ScaleShape(DType dtype, int64_t out_size, int64_t in_size) {
  if (dtype == DType::kI8) return {out_size};
  return {out_size, ScaleCount(dtype, in_size)};
}

// [in, out] to [out, in].
std::vector<int8_t> Transposed(const std::vector<int8_t>& integers, size_t in_size,
                               size_t out_size) {
  std::vector<int8_t> turned(integers.size());
  for (size_t in = 0; in < in_size; ++in) {
    for (size_t out = 0; out < out_size; ++out) {
      turned[out * in_size + in] = integers[in * out_size + out];
    }
  }
  return turned;
}

}  // namespace

bool Weights::HasQuantised(const std::string& name) const {
  if (dtype_ != DType::kI8 && dtype_ != DType::kI4) return false;
  const StoredTensor* tensor = file_.Find(name);
  return tensor != nullptr && tensor->type == IntegerType(dtype_) && tensor->shape.rank() == 2;
}

const StoredTensor* Weights::AskQuantised(const std::string& name, Use use, const Shape& shape,
                                          const Part& rows) {
  Asked& asked = Expect(name, use, rows, shape[0]);
  if (!asked.sound) return nullptr;
  const StoredTensor& tensor = *file_.Find(name);
  if (*StoredShape(name) != shape) {
    Note(name, absl::StrCat("is ", StoredTypeName(tensor.type), " ", tensor.shape.ToString(),
                            ", expected ", DTypeName(dtype_), " numbers of ", shape.ToString(),
                            dtype_ == DType::kI4 ? ", two to a byte" : ""));
    return nullptr;
  }
  Count(shape, &asked);
  return &tensor;
}

Matrix Weights::ReadQuantisedRows(const std::string& name, Use use, const Shape& shape,
                                  const Part& rows) {
  const StoredTensor* tensor = AskQuantised(name, use, shape, rows);
  const std::vector<float> scales = QuantisedScales(name + ".scale", use, shape[0], shape[1], rows);
  if (tensor == nullptr || failed()) return {};
  Matrix matrix = AllocateMatrix(name, rows.end - rows.begin, shape[1]);
  if (failed()) return {};
  const int64_t row_bytes = IntegerBytes(dtype_, shape[1]);
  const int64_t scale_count = ScaleCount(dtype_, shape[1]);
  ForEachPiece(name, *tensor, rows, row_bytes, [&](const Part& piece) {
    const int64_t begin = piece.begin * row_bytes, count = piece.end - piece.begin;
    const auto integers =
        tensor->data.subspan(static_cast<size_t>(begin), static_cast<size_t>(count * row_bytes));
    if (!IntegersAreSound(name, integers, begin)) return false;
    const int64_t out_begin = piece.begin - rows.begin;
    backend_.PackQuantisedRows(
        {dtype_, count, shape[1], integers.data(), scales.data() + out_begin * scale_count},
        out_begin, matrix);
    return true;
  });
  return failed() ? Matrix() : std::move(matrix);
}

Matrix Weights::ReadTransposedQuantised(const std::string& name, const Shape& shape) {
  const int64_t in_size = shape[0], out_size = shape[1];
  const StoredTensor* tensor = AskQuantised(name, Use::kMatrix, shape, {0, in_size});
  const std::vector<float> scales =
      QuantisedScales(name + ".scale", Use::kMatrix, out_size, in_size, {0, out_size});
  if (tensor == nullptr || failed() || !IntegersAreSound(name, tensor->data, 0)) return {};
  // This matrix only, and only until it is packed. The numbers of int4 go on from row to row: their
  // count in one is even.
  std::vector<int8_t> integers(static_cast<size_t>(shape.element_count()));
  LoadIntegers(dtype_, tensor->data.data(), integers);
  const auto inputs = static_cast<size_t>(in_size), outputs = static_cast<size_t>(out_size);
  integers = Transposed(integers, inputs, outputs);
  const auto row_bytes = static_cast<size_t>(IntegerBytes(dtype_, in_size));
  std::vector<std::byte> bytes(outputs * row_bytes);
  for (size_t out = 0; out < outputs; ++out) {
    StoreIntegers(dtype_, std::span(integers).subspan(out * inputs, inputs),
                  bytes.data() + out * row_bytes);
  }
  Done(name, *tensor, 0, std::ssize(tensor->data));
  Matrix matrix = AllocateMatrix(name, out_size, in_size);
  if (failed()) return {};
  backend_.PackQuantisedRows({dtype_, out_size, in_size, bytes.data(), scales.data()}, 0, matrix);
  return matrix;
}

// `begin` is the first one's index.
bool Weights::IntegersAreSound(const std::string& name, std::span<const std::byte> integers,
                               int64_t begin) {
  if (dtype_ != DType::kI8) return true;  // any four bits are
  const auto bad = std::find(integers.begin(), integers.end(), std::byte{0x80});
  if (bad == integers.end()) return true;
  Note(name, absl::StrCat("has the integer -128 at index ", begin + (bad - integers.begin()),
                          ", expected one from -127 to 127"));
  return false;
}

std::vector<float> Weights::QuantisedScales(const std::string& name, Use use, int64_t out_size,
                                            int64_t in_size, const Part& rows) {
  if (!Expect(name, use, rows, out_size).sound) return {};
  const Shape shape = ScaleShape(dtype_, out_size, in_size);
  const StoredType type = dtype_ == DType::kI8 ? StoredType::kF32 : StoredType::kBF16;
  const StoredTensor* tensor = file_.Find(name);
  if (tensor == nullptr || tensor->type != type || tensor->shape != shape) {
    Note(name, absl::StrCat("is ",
                            tensor == nullptr ? "missing"
                                              : absl::StrCat(StoredTypeName(tensor->type), " ",
                                                             tensor->shape.ToString()),
                            ", expected ", StoredTypeName(type), " ", shape.ToString()));
    return {};
  }
  const float max = dtype_ == DType::kI8 ? kInt8ScaleMax : kInt4ScaleMax;
  const float min = dtype_ == DType::kI8 ? 0.0f : -max;
  const int64_t row_size = ScaleCount(dtype_, in_size);
  std::vector<float> scales(static_cast<size_t>((rows.end - rows.begin) * row_size));
  CopyNumbers(*tensor, rows.begin * row_size, scales);
  for (size_t i = 0; i < scales.size(); ++i) {
    if (min <= scales[i] && scales[i] <= max) continue;
    Note(name, absl::StrCat("has the value ", scales[i], " at index ",
                            rows.begin * row_size + static_cast<int64_t>(i), ", expected one from ",
                            min, " to ", max));
    return {};
  }
  return scales;
}

}  // namespace eddy
