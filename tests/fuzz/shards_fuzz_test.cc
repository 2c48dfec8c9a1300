// SPDX-License-Identifier: Apache-2.0
// Mutates the index and the files of a sharded model, by a fixed seed: every result is read or
// refused, never a crash, and never by a file outside the folder.
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/model.h"
#include "engine/sharded_safetensors.h"
#include "tests/fuzz/mutator.h"
#include "tests/support/model_files.h"

namespace eddy {
namespace {

constexpr int kShardCount = 3;
constexpr char kIndex[] = "model.safetensors.index.json";

std::string Golden(const std::string& file) {
  return ReadBytes(std::string(EDDY_SOURCE_DIR) + "/tests/golden/" + file);
}

std::string ShardName(int i) { return "model-0000" + std::to_string(i + 1) + ".safetensors"; }

// The files of a golden model, cut into shards, and an index.
std::map<std::string, std::string> ShardedFiles(const std::string& golden) {
  const std::string bytes = Golden(golden + "/model.safetensors");
  const auto whole = Safetensors::Parse(Bytes(bytes), golden);
  EXPECT_TRUE(whole.ok()) << whole.status();
  std::vector<nlohmann::json> headers(kShardCount);
  std::vector<std::string> data(kShardCount);
  nlohmann::json index;
  int i = 0;
  for (const auto& [name, tensor] : whole->tensors()) {
    const auto shard = static_cast<size_t>(i++ % kShardCount);
    std::vector<int64_t> shape;
    for (int axis = 0; axis < tensor.shape.rank(); ++axis) shape.push_back(tensor.shape[axis]);
    const size_t begin = data[shard].size();
    data[shard].append(reinterpret_cast<const char*>(tensor.data.data()), tensor.data.size());
    headers[shard][name] = {{"dtype", StoredTypeName(tensor.type)},
                            {"shape", shape},
                            {"data_offsets", {begin, data[shard].size()}}};
    index["weight_map"][name] = ShardName(static_cast<int>(shard));
  }
  std::map<std::string, std::string> files;
  for (int shard = 0; shard < kShardCount; ++shard) {
    const auto at = static_cast<size_t>(shard);
    files[ShardName(shard)] = SafetensorsBytes(headers[at].dump(), data[at]);
  }
  index["metadata"]["total_size"] = bytes.size();
  files[kIndex] = index.dump();
  files["config.json"] = Golden(golden + "/config.json");
  return files;
}

// Reads every byte, so that a sanitizer sees a tensor that lies elsewhere.
void ReadAll(const TensorSource& source) {
  int64_t sum = 0;
  for (const auto& [name, tensor] : source.tensors()) {
    ASSERT_EQ(static_cast<int64_t>(tensor.data.size()),
              tensor.shape.element_count() * StoredTypeBytes(tensor.type));
    for (const std::byte byte : tensor.data) sum += std::to_integer<int>(byte);
    source.Release(tensor.data);
  }
  ASSERT_GE(sum, 0);
}

class ShardsFuzzTest : public testing::TestWithParam<std::string> {};

TEST_P(ShardsFuzzTest, AreReadOrRefused) {
  BackendOptions options;
  options.thread_count = 1;
  const auto backend = *MakeBackend(options);
  const std::map<std::string, std::string> files = ShardedFiles(GetParam());
  const TestFolder folder;
  for (const auto& [name, bytes] : files) WriteBytes(folder / name, bytes);
  ASSERT_TRUE(LoadModel(folder.path(), *backend, {}).ok());

  Mutator mutator(7);
  int read = 0, refused = 0;
  const int iterations = FuzzIterations(400);
  for (int i = 0; i < iterations; ++i) {
    const std::string name =
        i % 2 == 0 ? kIndex : ShardName(static_cast<int>(mutator.Below(kShardCount)));
    const std::string& sound = files.at(name);
    WriteBytes(folder / name, mutator.Mutated(sound, std::min<size_t>(sound.size(), 4000)));
    const std::string other = ShardName(static_cast<int>(mutator.Below(kShardCount)));
    const bool removed = mutator.Below(50) == 0;
    if (removed) std::filesystem::remove(folder / other);
    const auto source = ShardedSafetensors::Open(folder / kIndex);
    if (source.ok()) {
      ++read;
      ReadAll(*source);
    } else {
      ++refused;
      ASSERT_NE(source.status().code(), absl::StatusCode::kInternal) << source.status();
      ASSERT_LT(source.status().message().size(), 6000u);
    }
    const absl::Status loaded = LoadModel(folder.path(), *backend, {}).status();
    ASSERT_TRUE(source.ok() || !loaded.ok());
    ASSERT_LT(loaded.message().size(), 6000u);
    WriteBytes(folder / name, sound);
    if (removed) WriteBytes(folder / other, files.at(other));
  }
  // The mutations are neither all harmless nor all fatal.
  EXPECT_GT(read, iterations / 100);
  EXPECT_GT(refused, iterations / 10);
}

INSTANTIATE_TEST_SUITE_P(Folders, ShardsFuzzTest,
                         testing::Values("linear_transformer/plain", "rwkv7/official_bf16"),
                         [](const auto& test) {
                           std::string name = test.param;
                           name[name.find('/')] = '_';
                           return name;
                         });

}  // namespace
}  // namespace eddy
