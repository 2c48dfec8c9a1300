// SPDX-License-Identifier: Apache-2.0
// TensorSource: where a model's tensors come from: a file, or something that makes them as they are
// asked for. Immutable; any thread may read it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/bf16.h"
#include "kernels/tensor.h"

namespace eddy {

// Integers are those of quantised matrices only (engine/weights.h).
enum class StoredType : uint8_t { kF32, kF16, kBF16, kI8, kU8 };

constexpr int64_t StoredTypeBytes(StoredType type) {
  switch (type) {
    case StoredType::kF32:
      return 4;
    case StoredType::kF16:
    case StoredType::kBF16:
      return 2;
    case StoredType::kI8:
    case StoredType::kU8:
      break;
  }
  return 1;
}
constexpr bool IsInteger(StoredType type) {
  return type == StoredType::kI8 || type == StoredType::kU8;
}
const char* StoredTypeName(StoredType type);  // as the safetensors format spells it: "F32"

struct StoredTensor {
  StoredType type = StoredType::kF32;
  Shape shape;                      // a dimension may be 0
  std::span<const std::byte> data;  // of any alignment
};

float F16ToF32(uint16_t half);
// Number `i` of a tensor that is not of integers, exact in f32.
inline float NumberAt(const StoredTensor& tensor, int64_t i) {
  const std::byte* at = tensor.data.data() + i * StoredTypeBytes(tensor.type);
  if (tensor.type == StoredType::kF32) {
    float number = 0.0f;
    std::memcpy(&number, at, sizeof(number));
    return number;
  }
  EDDY_CHECK(!IsInteger(tensor.type)) << StoredTypeName(tensor.type);
  uint16_t bits = 0;
  std::memcpy(&bits, at, sizeof(bits));
  if (tensor.type == StoredType::kF16) return F16ToF32(bits);
  return Bf16ToF32(bits);
}

// Numbers [begin, begin + out.size()) of a tensor that is not of integers, exact in f32.
void CopyNumbers(const StoredTensor& tensor, int64_t begin, std::span<float> out);
// Whether numbers [begin, end) of such a tensor are finite and stay so as `dtype`: the largest
// floats round to infinity as bf16. Much faster than looking at each with NumberAt.
bool AllFinite(const StoredTensor& tensor, int64_t begin, int64_t end, DType dtype);

// Values must be above one bound and at most the other.
struct ValueRange {
  float above = -std::numeric_limits<float>::infinity();
  float max = std::numeric_limits<float>::max();
};

// A tensor that a source has made, with its numbers.
struct MadeTensor {
  StoredTensor tensor;
  std::vector<std::byte> storage;
};

class TensorSource {
 public:
  virtual ~TensorSource() = default;

  // For messages.
  virtual const std::string& file() const = 0;
  // Of all its files; 0 when there are none.
  virtual int64_t file_bytes() const { return 0; }
  // What is there before anything is asked for, ordered by name; data lives as long as the source.
  virtual const std::map<std::string, StoredTensor, std::less<>>& tensors() const = 0;
  // nullptr: there is none of that name.
  const StoredTensor* Find(std::string_view name) const;
  // As Find; but a source that makes its tensors makes this one as asked, in `*made`.
  virtual const StoredTensor* Provide(std::string_view name, const Shape& shape,
                                      const ValueRange& range, MadeTensor* made) const;
  // The memory behind this part of a tensor's data may be given back: it is not needed soon. What
  // may be read afterwards is the same as before.
  virtual void Release(std::span<const std::byte> part) const;
};

}  // namespace eddy
