// SPDX-License-Identifier: Apache-2.0
// Mutates the files of a sound model folder, by a fixed seed: every result is read or refused,
// never a crash.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "engine/config.h"
#include "engine/model.h"
#include "engine/quantise_model.h"
#include "engine/safetensors.h"
#include "engine/tokenizer/tokenizer.h"
#include "tests/support/model_files.h"
#include "tests/support/mutator.h"

namespace eddy {
namespace {

constexpr int kIterations = 20000;

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

// Whole folders: the configuration and the tensors' names, shapes and numbers must hold against
// each other.
void LoadMutated(const std::string& config, const std::string& weights, int iterations,
                 size_t reach) {
  BackendOptions options;
  options.backend = "cpu";
  options.thread_count = 1;
  const auto backend = *MakeBackend(options);
  Mutator mutator(3);
  const TestFolder folder;
  int accepted = 0;
  for (int i = 0; i < iterations; ++i) {
    const bool of_config = i % 2 == 0;
    WriteBytes(folder / "config.json", of_config ? mutator.Mutated(config, config.size()) : config);
    WriteBytes(folder / "model.safetensors", of_config ? weights : mutator.Mutated(weights, reach));
    const auto model = LoadModel(folder.path(), *backend, LoadOptions());
    if (model.ok()) {
      ++accepted;
      ASSERT_GT((*model)->state_layout().bytes(), 0);
      ASSERT_LT((*model)->state_layout().bytes(), int64_t{1} << 41);
    } else {
      ASSERT_NE(model.status().code(), absl::StatusCode::kInternal) << model.status();
      ASSERT_LT(model.status().message().size(), 6000u);
    }
  }
  EXPECT_GT(accepted, 0);
}

class LoadModelFuzzTest : public testing::TestWithParam<std::string> {};

TEST_P(LoadModelFuzzTest, IsReadOrRefused) {
  LoadMutated(Golden(GetParam() + "/config.json"), Golden(GetParam() + "/model.safetensors"),
              kIterations / 10, 3000);
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
    LoadMutated(ReadBytes(folder / "out/config.json"), weights, kIterations / 40,
                std::min<size_t>(2 * header_bytes, weights.size()));
  }
}

INSTANTIATE_TEST_SUITE_P(Families, LoadModelFuzzTest,
                         testing::Values("linear_transformer/decay", "rwkv7/official", "rwkv7/fla",
                                         "gated_deltanet/plain"),
                         [](const auto& test) {
                           std::string name = test.param;
                           name[name.find('/')] = '_';
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
