// SPDX-License-Identifier: Apache-2.0
#include "engine/weights.h"

#include <array>
#include <bit>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/json.h"
#include "kernels/bf16.h"

namespace eddy {
namespace {

constexpr size_t kProblemsShownMax = 20;

// Whether a float of these bits is finite as `dtype`: the largest ones round to infinity as bf16.
bool FiniteAs(DType dtype, uint32_t bits) {
  return (bits & 0x7fffffffu) < (dtype == DType::kBF16 ? 0x7f7f8000u : 0x7f800000u);
}

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

}  // namespace

std::optional<Shape> Weights::StoredShape(const std::string& name) const {
  const StoredTensor* tensor = file_.Find(name);
  if (tensor == nullptr) return std::nullopt;
  if (dtype_ == DType::kI4 && HasQuantised(name)) return {{tensor->shape[0], 2 * tensor->shape[1]}};
  return tensor->shape;
}

void Weights::Expect(const std::string& name) {
  EDDY_CHECK(asked_.insert(name).second) << name << " is read twice";
}

const StoredTensor* Weights::Ask(const std::string& name, const Shape& shape,
                                 const ValueRange& range, MadeTensor* made, bool ones_count) {
  Expect(name);
  const StoredTensor* tensor = file_.Provide(name, shape, range, made);
  if (tensor == nullptr) {
    problems_.push_back(absl::StrCat(name, " is missing, expected ", shape.ToString()));
    return nullptr;
  }
  const bool fits =
      ones_count ? tensor->shape == shape : WithoutOnes(tensor->shape) == WithoutOnes(shape);
  if (!fits) {
    problems_.push_back(
        absl::StrCat(name, " is ", Described(*tensor), ", expected ", shape.ToString()));
    return nullptr;
  }
  if (IsInteger(tensor->type)) {
    problems_.push_back(absl::StrCat(name, " is ", Described(*tensor),
                                     ", expected F32, F16 or BF16 ", shape.ToString()));
    return nullptr;
  }
  loaded_.parameter_count += shape.element_count();
  return tensor;
}

bool Weights::NumbersAreSound(const std::string& name, const StoredTensor& tensor, DType dtype,
                              const ValueRange& range) {
  const int64_t count = tensor.shape.element_count();
  for (int64_t i = 0; i < count; ++i) {
    const float number = NumberAt(tensor, i);
    if (!FiniteAs(dtype, std::bit_cast<uint32_t>(number))) {
      problems_.push_back(absl::StrCat(name, " has the value ", number, " at index ", i,
                                       ", expected a finite ", DTypeName(dtype)));
      return false;
    }
    if (!(range.above < number && number <= range.max)) {
      problems_.push_back(absl::StrCat(name, " has the value ", number, " at index ", i,
                                       ", expected one above ", range.above, " and at most ",
                                       range.max));
      return false;
    }
  }
  return true;
}

Tensor Weights::Upload(const std::string& name, const void* host, DType dtype, const Shape& shape) {
  const int64_t bytes = shape.element_count() * DTypeBytes(dtype);
  absl::StatusOr<Buffer> buffer = backend_.Allocate(bytes);
  if (!buffer.ok()) {
    backend_error_ =
        absl::Status(buffer.status().code(),
                     absl::StrCat(file_.file(), ": ", name, ": ", buffer.status().message()));
    return Tensor(nullptr, dtype, shape);
  }
  backend_.CopyIn(host, buffer->data(), bytes);
  loaded_.weight_bytes += bytes;
  loaded_.buffers.push_back(*std::move(buffer));
  return loaded_.buffers.back().View(dtype, shape);
}

bool Weights::AppendVector(const std::string& name, const Shape& shape, const ValueRange& range,
                           std::vector<float>* floats) {
  MadeTensor made;
  const StoredTensor* tensor = Ask(name, shape, range, &made, /*ones_count=*/false);
  if (tensor == nullptr || !NumbersAreSound(name, *tensor, DType::kF32, range)) return false;
  const int64_t count = shape.element_count();
  for (int64_t i = 0; i < count; ++i) floats->push_back(NumberAt(*tensor, i));
  return true;
}

Tensor Weights::ReadVector(const std::string& name, const Shape& shape, const ValueRange& range) {
  std::vector<float> floats;
  if (!AppendVector(name, shape, range, &floats) || failed()) {
    return Tensor(nullptr, DType::kF32, shape);
  }
  return Upload(name, floats.data(), DType::kF32, shape);
}

Tensor Weights::ReadVectors(std::span<const std::string> names, int64_t size) {
  const Shape shape = {static_cast<int64_t>(names.size()), size};
  std::vector<float> floats;
  for (const std::string& name : names) AppendVector(name, {size}, {}, &floats);
  if (failed()) return Tensor(nullptr, DType::kF32, shape);
  return Upload(names.front(), floats.data(), DType::kF32, shape);
}

Tensor Weights::ReadTransposedVectors(const std::string& name, const Shape& shape) {
  const Shape turned = {shape[1], shape[0]};
  std::vector<float> stored;
  if (!AppendVector(name, shape, {}, &stored) || failed()) {
    return Tensor(nullptr, DType::kF32, turned);
  }
  std::vector<float> floats;
  floats.reserve(stored.size());
  for (int64_t vector = 0; vector < shape[1]; ++vector) {
    for (int64_t i = 0; i < shape[0]; ++i) {
      floats.push_back(stored[static_cast<size_t>(i * shape[1] + vector)]);
    }
  }
  return Upload(name, floats.data(), DType::kF32, turned);
}

Tensor Weights::ReadTable(const std::string& name, const Shape& shape) {
  const DType dtype = dtype_ == DType::kF32 ? DType::kF32 : DType::kBF16;
  MadeTensor made;
  const StoredTensor* tensor = Ask(name, shape, {}, &made);
  if (tensor == nullptr || !NumbersAreSound(name, *tensor, dtype, {}) || failed()) return {};
  const int64_t count = shape.element_count();
  if (dtype == DType::kF32) {
    std::vector<float> floats;
    floats.reserve(static_cast<size_t>(count));
    for (int64_t i = 0; i < count; ++i) floats.push_back(NumberAt(*tensor, i));
    return Upload(name, floats.data(), dtype, shape);
  }
  std::vector<uint16_t> halves;
  halves.reserve(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) halves.push_back(F32ToBf16(NumberAt(*tensor, i)));
  return Upload(name, halves.data(), dtype, shape);
}

Matrix Weights::Keep(const std::string& name, absl::StatusOr<Matrix> matrix) {
  if (!matrix.ok()) {
    backend_error_ =
        absl::Status(matrix.status().code(),
                     absl::StrCat(file_.file(), ": ", name, ": ", matrix.status().message()));
    return {};
  }
  loaded_.weight_bytes += matrix->buffer.bytes();
  return *std::move(matrix);
}

Matrix Weights::Pack(const std::string& name, const Tensor& host) {
  return Keep(name, backend_.PackMatrix(host, dtype_));
}

Matrix Weights::ReadMatrix(const std::string& name, const Shape& shape) {
  matrices_.push_back({name, /*transposed=*/false});
  if (HasQuantised(name)) return ReadQuantised(name, shape, /*transposed=*/false);
  MadeTensor made;
  const StoredTensor* tensor = Ask(name, shape, {}, &made);
  if (tensor == nullptr || !NumbersAreSound(name, *tensor, dtype_, {}) || failed()) return {};
  // Converted in place where the file is unaligned or f16; else packed straight from it.
  const bool aligned = reinterpret_cast<uintptr_t>(tensor->data.data()) %
                           static_cast<uintptr_t>(StoredTypeBytes(tensor->type)) ==
                       0;
  if (aligned && tensor->type != StoredType::kF16) {
    return Pack(name,
                Tensor(const_cast<std::byte*>(tensor->data.data()),
                       tensor->type == StoredType::kBF16 ? DType::kBF16 : DType::kF32, shape));
  }
  const int64_t count = shape.element_count();
  std::vector<float> floats;
  floats.reserve(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) floats.push_back(NumberAt(*tensor, i));
  return Pack(name, Tensor(floats.data(), DType::kF32, shape));
}

Matrix Weights::ReadTransposedMatrix(const std::string& name, const Shape& shape) {
  matrices_.push_back({name, /*transposed=*/true});
  if (HasQuantised(name)) return ReadQuantised(name, shape, /*transposed=*/true);
  MadeTensor made;
  const StoredTensor* tensor = Ask(name, shape, {}, &made);
  if (tensor == nullptr || !NumbersAreSound(name, *tensor, dtype_, {}) || failed()) return {};
  std::vector<float> floats;  // this matrix only, and only until it is packed
  floats.reserve(static_cast<size_t>(shape.element_count()));
  for (int64_t out = 0; out < shape[1]; ++out) {
    for (int64_t in = 0; in < shape[0]; ++in) {
      floats.push_back(NumberAt(*tensor, in * shape[1] + out));
    }
  }
  return Pack(name, Tensor(floats.data(), DType::kF32, {shape[1], shape[0]}));
}

absl::StatusOr<LoadedWeights> Weights::Finish() {
  for (const auto& [name, tensor] : file_.tensors()) {
    if (asked_.contains(name)) continue;
    problems_.push_back(
        absl::StrCat(Quoted(name), " (", Described(tensor), ") has no place in this model"));
  }
  if (!problems_.empty()) {
    std::string message =
        absl::StrCat(file_.file(), " does not fit its config.json (", problems_.size(),
                     problems_.size() == 1 ? " problem): " : " problems): ");
    for (size_t i = 0; i < problems_.size() && i < kProblemsShownMax; ++i) {
      absl::StrAppend(&message, i == 0 ? "" : "; ", problems_[i]);
    }
    if (problems_.size() > kProblemsShownMax) {
      absl::StrAppend(&message, "; and ", problems_.size() - kProblemsShownMax, " more");
    }
    return absl::InvalidArgumentError(message);
  }
  if (!backend_error_.ok()) return backend_error_;
  return std::move(loaded_);
}

}  // namespace eddy
