// SPDX-License-Identifier: Apache-2.0
// ShardedSafetensors: the tensors of several safetensors files that an index file in the same
// folder lists, as one source.
//
// The index is JSON: {"weight_map": {TENSOR: FILE, ...}}, with other keys that nobody needs. Every
// tensor it names must be in the file it says, and the files hold no others. Immutable; any thread
// may read it.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/safetensors.h"
#include "engine/tensor_source.h"

namespace eddy {

class ShardedSafetensors : public TensorSource {
 public:
  static constexpr size_t kShardCountMax = 1024;
  static constexpr size_t kIndexBytesMax = size_t{16} << 20;

  // Maps the index's files and checks everything but the numbers themselves. INVALID_ARGUMENT,
  // naming what is wrong with the index, or all that does not fit between it and its files, or
  // what is wrong with one of them; the system's code when one cannot be read.
  static absl::StatusOr<ShardedSafetensors> Open(const std::string& index_path);

  // That of the index.
  const std::string& file() const override { return index_path_; }
  int64_t file_bytes() const override;
  const std::map<std::string, StoredTensor, std::less<>>& tensors() const override {
    return tensors_;
  }
  void Release(std::span<const std::byte> part) const override;

 private:
  std::string index_path_;
  std::vector<Safetensors> shards_;
  std::map<std::string, StoredTensor, std::less<>> tensors_;  // of all shards
};

// The weights of a model folder: model.safetensors, or, without one, what
// model.safetensors.index.json lists. Where both are there the single file is taken, as other
// readers of such folders do. NOT_FOUND when there is neither.
absl::StatusOr<std::unique_ptr<TensorSource>> OpenModelTensors(const std::string& folder);

}  // namespace eddy
