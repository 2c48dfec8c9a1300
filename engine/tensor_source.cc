// SPDX-License-Identifier: Apache-2.0
#include "engine/tensor_source.h"

namespace eddy {

const char* StoredTypeName(StoredType type) {
  switch (type) {
    case StoredType::kF32:
      return "F32";
    case StoredType::kF16:
      return "F16";
    case StoredType::kBF16:
      return "BF16";
  }
  return "?";
}

const StoredTensor* TensorSource::Find(std::string_view name) const {
  const auto found = tensors().find(name);
  return found == tensors().end() ? nullptr : &found->second;
}

const StoredTensor* TensorSource::Provide(std::string_view name, const Shape&, const ValueRange&,
                                          MadeTensor*) const {
  return Find(name);
}

}  // namespace eddy
