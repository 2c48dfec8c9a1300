// SPDX-License-Identifier: Apache-2.0
#include "engine/sharded_safetensors.h"

#include <filesystem>
#include <set>
#include <system_error>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/json.h"
#include "engine/mapped_file.h"
#include "engine/problems.h"
#include "kernels/status_macros.h"

namespace eddy {
namespace {

constexpr std::string_view kExtension = ".safetensors";
constexpr size_t kNameBytesMax = 255;  // of a file in a folder

// A file beside the index: the index must not lead anywhere else.
bool IsShardName(std::string_view name) {
  return name.size() > kExtension.size() && name.size() <= kNameBytesMax &&
         name.ends_with(kExtension) && name.find('/') == std::string_view::npos &&
         name.find('\0') == std::string_view::npos;
}

using Names = std::set<std::string>;

// The tensors of each file.
absl::StatusOr<std::map<std::string, Names>> ReadIndex(const std::string& path) {
  EDDY_ASSIGN_OR_RETURN(const MappedFile mapping, MappedFile::Open(path));
  const auto bytes = mapping.bytes();
  if (bytes.size() > ShardedSafetensors::kIndexBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat(path, " has ", bytes.size(), " bytes, at most ",
                                                   ShardedSafetensors::kIndexBytesMax,
                                                   " are accepted"));
  }
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  EDDY_ASSIGN_OR_RETURN(const nlohmann::json index, ParseJson(text, path));
  const auto weight_map = index.is_object() ? index.find("weight_map") : index.end();
  if (weight_map == index.end() || !weight_map->is_object() || weight_map->empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " has no weight_map, expected an object of tensor names and files"));
  }
  std::map<std::string, Names> shards;
  for (const auto& [tensor, value] : weight_map->items()) {
    const std::string file = value.is_string() ? value.get<std::string>() : std::string();
    if (!IsShardName(file)) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, " says that tensor ", Quoted(tensor), " is in ", Printed(value),
                       ", expected the name of a .safetensors file in the same folder"));
    }
    shards[file].insert(tensor);
    if (shards.size() > ShardedSafetensors::kShardCountMax) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, " lists more than ", ShardedSafetensors::kShardCountMax, " files"));
    }
  }
  return shards;
}

// What the index and one of its files do not agree on.
void Compare(const Safetensors& shard, const std::string& name, const Names& expected,
             Problems* problems) {
  for (const std::string& tensor : expected) {
    if (shard.Find(tensor) == nullptr) {
      problems->Add(absl::StrCat(Quoted(tensor), " is not in ", name));
    }
  }
  for (const auto& [tensor, stored] : shard.tensors()) {
    if (expected.contains(tensor)) continue;
    problems->Add(absl::StrCat(Quoted(tensor), " (", StoredTypeName(stored.type), " ",
                               stored.shape.ToString(), ") is in ", name,
                               ", where the index does not have it"));
  }
}

bool IsThere(const std::string& path) {
  std::error_code error;
  return std::filesystem::exists(std::filesystem::symlink_status(path, error));
}

// A file of `folder` as PyTorch writes them; empty when there is none.
std::string PyTorchFile(const std::string& folder) {
  std::error_code error;
  std::filesystem::directory_iterator entries(folder, error);
  for (; !error && entries != std::filesystem::directory_iterator(); entries.increment(error)) {
    const std::filesystem::path& path = entries->path();
    if (path.extension() == ".bin" || path.extension() == ".pth" || path.extension() == ".pt") {
      return path.filename().string();
    }
  }
  return {};
}

}  // namespace

absl::StatusOr<ShardedSafetensors> ShardedSafetensors::Open(const std::string& index_path) {
  using NamesOfFiles = std::map<std::string, Names>;
  EDDY_ASSIGN_OR_RETURN(const NamesOfFiles files, ReadIndex(index_path));
  const std::string folder = std::filesystem::path(index_path).parent_path().string();
  ShardedSafetensors result;
  result.index_path_ = index_path;
  Problems problems;
  for (const auto& [name, expected] : files) {
    const std::string path = folder.empty() ? name : absl::StrCat(folder, "/", name);
    EDDY_ASSIGN_OR_RETURN(Safetensors shard, Safetensors::Open(path));
    Compare(shard, Quoted(name), expected, &problems);
    for (const auto& [tensor, stored] : shard.tensors()) result.tensors_.emplace(tensor, stored);
    result.shards_.push_back(std::move(shard));
  }
  if (!problems.empty()) return problems.Told(absl::StrCat(index_path, " does not fit its files"));
  return result;
}

void ShardedSafetensors::Release(std::span<const std::byte> part) const {
  for (const Safetensors& shard : shards_) shard.Release(part);  // the one that it lies in
}

int64_t ShardedSafetensors::file_bytes() const {
  int64_t bytes = 0;
  for (const Safetensors& shard : shards_) bytes += shard.file_bytes();
  return bytes;
}

absl::StatusOr<std::unique_ptr<TensorSource>> OpenModelTensors(const std::string& folder) {
  const std::string single = folder + "/model.safetensors";
  const std::string index = folder + "/model.safetensors.index.json";
  if (IsThere(single)) {
    EDDY_ASSIGN_OR_RETURN(Safetensors file, Safetensors::Open(single));
    return std::make_unique<Safetensors>(std::move(file));
  }
  if (IsThere(index)) {
    EDDY_ASSIGN_OR_RETURN(ShardedSafetensors files, ShardedSafetensors::Open(index));
    return std::make_unique<ShardedSafetensors>(std::move(files));
  }
  std::string message =
      absl::StrCat(folder, " has neither model.safetensors nor model.safetensors.index.json");
  if (const std::string file = PyTorchFile(folder); !file.empty()) {
    absl::StrAppend(&message, "; models/convert.py makes the first of PyTorch's files, like ",
                    Quoted(file));
  }
  return absl::NotFoundError(message);
}

}  // namespace eddy
