// SPDX-License-Identifier: Apache-2.0
// Mutates the files of a sound model folder, by a fixed seed: every result is read or refused,
// never a crash.
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "engine/config.h"
#include "engine/model.h"
#include "engine/quantise_model.h"
#include "engine/safetensors.h"
#include "engine/tokenizer/tokenizer.h"
#include "tests/fuzz/mutator.h"
#include "tests/support/model_files.h"

namespace eddy {
namespace {

// Of one format.
const int kIterations = FuzzIterations(20000);

std::string Golden(const std::string& file) {
  return ReadBytes(std::string(EDDY_SOURCE_DIR) + "/tests/golden/" + file);
}

TEST(ModelFilesFuzzTest, Safetensors) {
  const std::string bytes = SafetensorsBytes({{"embedding.weight", {{3, 2}, {1, 2, 3, 4, 5, 6}}},
                                              {"norm.bias", {{2}, {1, 2}}},
                                              {"scalar", {{}, {1}}},
                                              {"cube", {{2, 1, 2}, {1, 2, 3, 4}}}});
  Mutator mutator(1);
  int accepted = 0;
  for (int i = 0; i < kIterations; ++i) {
    std::string mutated = mutator.Mutated(bytes, bytes.size());
    // Half of the time the length fits again, so that the header itself is reached.
    if (mutated.size() >= 8 && i % 2 == 0) {
      const uint64_t length = mutated.rfind('}') == std::string::npos ? 0 : mutated.rfind('}') - 7;
      std::memcpy(mutated.data(), &length, sizeof(length));
    }
    const std::vector<char> own(mutated.begin(), mutated.end());  // its end is watched
    const auto file = Safetensors::Parse(Bytes({own.data(), own.size()}), "m");
    if (!file.ok()) {
      ASSERT_EQ(file.status().code(), absl::StatusCode::kInvalidArgument);
      ASSERT_LT(file.status().message().size(), 1000u);
      continue;
    }
    ++accepted;
    int64_t sum = 0;
    for (const auto& [name, tensor] : file->tensors()) {
      ASSERT_EQ(static_cast<int64_t>(tensor.data.size()),
                tensor.shape.element_count() * StoredTypeBytes(tensor.type));
      for (const std::byte byte : tensor.data) sum += std::to_integer<int>(byte);
    }
    ASSERT_GE(sum, 0);
  }
  // The mutations are neither all harmless nor all fatal.
  EXPECT_GT(accepted, kIterations / 100);
  EXPECT_LT(accepted, kIterations * 9 / 10);
}

TEST(ModelFilesFuzzTest, Config) {
  const std::string text = Golden("linear_transformer/sinusoid/config.json");
  constexpr std::string_view kChoices[] = {"none", "sinusoid"};
  Mutator mutator(2);
  int accepted = 0;
  for (int i = 0; i < kIterations; ++i) {
    const auto config = Config::Parse(mutator.Mutated(text, text.size()), "c");
    if (!config.ok()) {
      ASSERT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument);
      ASSERT_LT(config.status().message().size(), 1000u);
      continue;
    }
    ++accepted;
    for (const char* key : {"vocab_size", "num_heads", "norm_eps", "position_embedding",
                            "final_normalization", "max_position_embeddings"}) {
      const auto number = config->Int(key, 1, 100);
      if (number.ok()) ASSERT_TRUE(1 <= *number && *number <= 100);
      const auto real = config->Float(key, 0.0f, 1.0f);
      if (real.ok()) ASSERT_TRUE(0.0f < *real && *real <= 1.0f);
      const auto choice = config->Choice(key, kChoices);
      if (choice.ok()) ASSERT_LT(*choice, 2u);
      const auto ids = config->TokenIds(key, 50);
      if (ids.ok()) {
        for (const int32_t id : *ids) ASSERT_TRUE(0 <= id && id < 50);
      }
      ASSERT_LT(config->Bool(key).status().message().size(), 300u);
    }
  }
  EXPECT_GT(accepted, kIterations / 100);
  EXPECT_LT(accepted, kIterations * 9 / 10);
}

// Of all tests of folders together, without EDDY_FUZZ_ITERATIONS.
constexpr std::chrono::milliseconds kFoldersTime{9000};

// "FAMILY/VARIANT" of every golden model, of whatever family.
std::vector<std::string> GoldenModels() {
  std::vector<std::string> names;
  const std::filesystem::path goldens = std::string(EDDY_SOURCE_DIR) + "/tests/golden";
  for (const auto& entry : std::filesystem::recursive_directory_iterator(goldens)) {
    const std::filesystem::path& path = entry.path();
    if (path.filename() == "model.safetensors" &&
        std::filesystem::exists(path.parent_path() / "config.json")) {
      names.push_back(path.parent_path().lexically_relative(goldens).string());
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

// The original first; then the configuration and the tensors' names, shapes and numbers in turn
// must hold against each other. Changes of the weights begin within `reach` bytes.
void LoadMutated(const std::string& config, const std::string& weights, size_t reach, int share) {
  BackendOptions options;
  options.backend = "cpu";
  options.thread_count = 1;
  const auto backend = *MakeBackend(options);
  Mutator mutator(3);
  const TestFolder folder;
  const FuzzBudget budget(kFoldersTime / (share * static_cast<int>(GoldenModels().size())));
  for (int i = 0; budget.Allows(i); ++i) {
    const bool of_config = i % 2 == 1, of_weights = i > 0 && !of_config;
    WriteBytes(folder / "config.json", of_config ? mutator.Mutated(config, config.size()) : config);
    WriteBytes(folder / "model.safetensors",
               of_weights ? mutator.Mutated(weights, reach) : weights);
    const auto model = LoadModel(folder.path(), *backend, LoadOptions());
    if (model.ok()) {
      ASSERT_GT((*model)->state_layout().bytes(), 0);
      ASSERT_LT((*model)->state_layout().bytes(), int64_t{1} << 41);
    } else {
      ASSERT_GT(i, 0) << model.status();
      ASSERT_NE(model.status().code(), absl::StatusCode::kInternal) << model.status();
      ASSERT_LT(model.status().message().size(), 6000u);
    }
  }
}

class LoadModelFuzzTest : public testing::TestWithParam<std::string> {};

TEST_P(LoadModelFuzzTest, IsReadOrRefused) {
  const std::string weights = Golden(GetParam() + "/model.safetensors");
  LoadMutated(Golden(GetParam() + "/config.json"), weights, std::min<size_t>(3000, weights.size()),
              2);
}

// Integers, scales and the key that names them; half of the changes begin in the numbers.
TEST_P(LoadModelFuzzTest, IsReadOrRefusedWhenQuantised) {
  BackendOptions options;
  options.thread_count = 1;
  const auto backend = *MakeBackend(options);
  for (const DType dtype : {DType::kI8, DType::kI4}) {
    const TestFolder folder;
    ASSERT_TRUE(QuantiseModel(std::string(EDDY_SOURCE_DIR) + "/tests/golden/" + GetParam(),
                              folder / "out", *backend, {dtype, nullptr})
                    .ok());
    const std::string weights = ReadBytes(folder / "out/model.safetensors");
    uint64_t header_bytes = 0;
    std::memcpy(&header_bytes, weights.data(), sizeof(header_bytes));
    LoadMutated(ReadBytes(folder / "out/config.json"), weights,
                std::min<size_t>(2 * header_bytes, weights.size()), 4);
  }
}

INSTANTIATE_TEST_SUITE_P(Families, LoadModelFuzzTest, testing::ValuesIn(GoldenModels()),
                         [](const auto& test) {
                           std::string name = test.param;
                           std::replace_if(
                               name.begin(), name.end(),
                               [](unsigned char c) { return std::isalnum(c) == 0; }, '_');
                           return name;
                         });

TEST(ModelFilesFuzzTest, Utf8Stream) {
  const std::string text = "A caf\u00e9, \u20ac 5 \U0001F600\n";
  Mutator mutator(4);
  for (int i = 0; i < kIterations; ++i) {
    const std::string bytes = mutator.Mutated(text, text.size());
    Utf8Stream whole, cut;
    std::string expected, given;
    whole.Feed(bytes, &expected);
    whole.Finish(&expected);
    for (size_t at = 0; at < bytes.size();) {
      const size_t count = std::min(mutator.Below(4), bytes.size() - at);
      const std::vector<char> part(bytes.begin() + static_cast<std::ptrdiff_t>(at),
                                   bytes.begin() + static_cast<std::ptrdiff_t>(at + count));
      cut.Feed({part.data(), part.size()}, &given);
      at += count;
    }
    cut.Finish(&given);
    ASSERT_EQ(given, expected);
    Utf8Stream again;
    std::string same;
    again.Feed(expected, &same);
    ASSERT_EQ(same, expected);  // already valid, nothing held back
  }
}

}  // namespace
}  // namespace eddy
