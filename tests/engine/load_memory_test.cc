// SPDX-License-Identifier: Apache-2.0
// What loading costs beside the loaded weights: the process's peak memory, as the system counts it.
#include <gtest/gtest.h>

#include <cstdint>
#include <fstream>
#include <memory>
#include <string>

#include "engine/safetensors.h"
#include "engine/weights.h"
#include "tests/support/model_files.h"

namespace eddy {
namespace {

constexpr int64_t kFileBytes = int64_t{64} << 20;
constexpr int64_t kInSize = 1024;

// Of "VmRSS:" (now) or "VmHWM:" (the peak), in bytes.
int64_t ProcessBytes(const std::string& key) {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    int64_t kibibytes = 0;
    if (word == key && status >> kibibytes) return kibibytes << 10;
  }
  ADD_FAILURE() << "/proc/self/status has no " << key;
  return 0;
}
void ForgetPeak() {
  std::ofstream("/proc/self/clear_refs") << "5";
  ASSERT_LE(ProcessBytes("VmHWM:"), ProcessBytes("VmRSS:") + (int64_t{8} << 20));
}

// One tensor: where a single one is most of a model, dropping it afterwards would be too late.
std::string OneTensorFile(const std::string& type, int64_t item_bytes) {
  const int64_t out_size = kFileBytes / item_bytes / kInSize;
  const std::string header = R"({"w":{"dtype":")" + type + R"(","shape":[)" +
                             std::to_string(out_size) + "," + std::to_string(kInSize) +
                             R"(],"data_offsets":[0,)" + std::to_string(kFileBytes) + "]}}";
  // 64 bytes with the length, so that the numbers are aligned.
  return SafetensorsBytes(header + std::string(64 - (header.size() + 8) % 64, ' '), "");
}

class LoadMemoryTest : public testing::Test {
 protected:
  // The peak over what it was before and beside what is loaded, over the latter.
  double Share(const std::string& type, int64_t item_bytes, DType dtype, bool table) {
    const TestFolder folder;
    WriteBytes(folder / "m.safetensors", OneTensorFile(type, item_bytes));
    {
      std::ofstream file(folder / "m.safetensors", std::ios::binary | std::ios::app);
      const std::string mebibyte(1 << 20, '\0');
      for (int64_t i = 0; i < kFileBytes >> 20; ++i) file << mebibyte;
    }
    BackendOptions options;
    options.backend = "cpu";
    options.thread_count = 2;
    const auto backend = *MakeBackend(options);
    ForgetPeak();
    const int64_t before = ProcessBytes("VmRSS:");
    const auto file = Safetensors::Open(folder / "m.safetensors");
    EXPECT_TRUE(file.ok()) << file.status();
    Weights weights(*file, *backend, dtype);
    const Shape shape = {kFileBytes / item_bytes / kInSize, kInSize};
    Matrix matrix;
    if (table) {
      weights.ReadTable("w", shape);
    } else {
      matrix = weights.ReadMatrix("w", shape);
    }
    const auto loaded = weights.Finish();
    EXPECT_TRUE(loaded.ok()) << loaded.status();
    EXPECT_GE(loaded->weight_bytes, kFileBytes / 2);
    const int64_t peak = ProcessBytes("VmHWM:") - before;
    EXPECT_GE(peak, loaded->weight_bytes);  // the measurement sees them
    return static_cast<double>(peak) / static_cast<double>(loaded->weight_bytes);
  }
};

TEST_F(LoadMemoryTest, PeaksAtLittleMoreThanTheWeights) {
  EXPECT_LT(Share("BF16", 2, DType::kBF16, false), 1.3);
  EXPECT_LT(Share("F32", 4, DType::kF32, false), 1.3);
  EXPECT_LT(Share("BF16", 2, DType::kBF16, true), 1.3);
  EXPECT_LT(Share("F32", 4, DType::kBF16, false), 1.3);
  EXPECT_LT(Share("F16", 2, DType::kBF16, false), 1.3);
  EXPECT_LT(Share("F16", 2, DType::kBF16, true), 1.4);  // floats on the way from one to the other
}

}  // namespace
}  // namespace eddy
