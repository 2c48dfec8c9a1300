// SPDX-License-Identifier: Apache-2.0
// TensorSource: where a model's tensors come from: a file, or something that makes them as they are
// asked for. Immutable; any thread may read it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/tensor.h"

namespace eddy {

enum class StoredType : uint8_t { kF32, kF16, kBF16 };

constexpr int64_t StoredTypeBytes(StoredType type) { return type == StoredType::kF32 ? 4 : 2; }
const char* StoredTypeName(StoredType type);  // as the safetensors format spells it: "F32"

struct StoredTensor {
  StoredType type = StoredType::kF32;
  Shape shape;                      // a dimension may be 0
  std::span<const std::byte> data;  // of any alignment
};

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
  // What is there before anything is asked for, ordered by name; data lives as long as the source.
  virtual const std::map<std::string, StoredTensor, std::less<>>& tensors() const = 0;
  // nullptr: there is none of that name.
  const StoredTensor* Find(std::string_view name) const;
  // As Find; but a source that makes its tensors makes this one as asked, in `*made`.
  virtual const StoredTensor* Provide(std::string_view name, const Shape& shape,
                                      const ValueRange& range, MadeTensor* made) const;
};

}  // namespace eddy
