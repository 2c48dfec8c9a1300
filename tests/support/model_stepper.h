// SPDX-License-Identifier: Apache-2.0
// A model stepped by hand, and the goldens of tests/golden/.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/model.h"
#include "engine/safetensors.h"

namespace eddy {

using Tokens = std::vector<int32_t>;
using Floats = std::vector<float>;

// One row of a step.
struct TestRow {
  int32_t slot = 0;
  int64_t position = 0;
  Tokens tokens;
};

// A model with a pool and a workspace, stepped by hand.
class Stepper {
 public:
  static constexpr int32_t kSlotCount = 6;
  static constexpr int32_t kTokenCountMax = 256;

  Stepper(const std::string& folder, const std::string& target, DType dtype, int thread_count) {
    BackendOptions options;
    options.backend = "cpu";
    options.cpu_target = target;
    options.numeric_path = "fma";  // which all targets have
    options.thread_count = thread_count;
    backend_ = *MakeBackend(options);
    LoadOptions load;
    load.weight_dtype = dtype;
    auto model = LoadModel(folder, *backend_, load);
    EXPECT_TRUE(model.ok()) << model.status();
    model_ = *std::move(model);
    pool_ = *backend_->Allocate(kSlotCount * state_bytes());
    Rows largest;
    largest.row_count = 1;
    largest.token_count = largest.logits_count = kTokenCountMax;
    Workspace measuring;
    model_->Forward(largest, {}, measuring, {});
    workspace_ = Workspace(*backend_->Allocate(measuring.peak_bytes()));
  }

  int64_t state_bytes() const { return model_->state_layout().bytes(); }
  int32_t output_size() const { return model_->info().output_size(); }
  std::string StateBytes(int32_t slot) const {
    std::string bytes(static_cast<size_t>(state_bytes()), '\0');
    backend_->CopyOut(SlotAt(slot), bytes.data(), state_bytes());
    return bytes;
  }
  void Fill(int32_t slot, uint8_t value) {
    backend_->FillBytes(SlotAt(slot), value, state_bytes());
  }

  // The logits of each row's tokens: of all, or of the last one.
  std::vector<Floats> Step(const std::vector<TestRow>& rows, bool all_logits = true) {
    Tokens tokens, token_begin = {0}, slot, logits_token;
    std::vector<int64_t> position;
    for (const TestRow& row : rows) {
      for (size_t i = 0; i < row.tokens.size(); ++i) {
        if (all_logits || i + 1 == row.tokens.size()) {
          logits_token.push_back(static_cast<int32_t>(tokens.size()));
        }
        tokens.push_back(row.tokens[i]);
      }
      token_begin.push_back(static_cast<int32_t>(tokens.size()));
      slot.push_back(row.slot);
      position.push_back(row.position);
    }
    Rows host;
    host.row_count = static_cast<int32_t>(rows.size());
    host.token_count = static_cast<int32_t>(tokens.size());
    host.logits_count = static_cast<int32_t>(logits_token.size());
    host.tokens = tokens.data();
    host.token_begin = token_begin.data();
    host.slot = slot.data();
    host.position = position.data();
    host.logits_token = logits_token.data();
    const Buffer logits = *backend_->Allocate(int64_t{host.logits_count} * output_size() * 4);
    workspace_.Reset();
    model_->Forward(backend_->BeginStep(host),
                    {static_cast<std::byte*>(pool_.data()), state_bytes(), 0}, workspace_,
                    logits.View(DType::kF32, {host.logits_count, output_size()}));
    EXPECT_TRUE(backend_->Synchronize().ok());
    std::vector<Floats> result;
    const auto* at = static_cast<const float*>(logits.data());
    for (const TestRow& row : rows) {
      const size_t count =
          (all_logits ? row.tokens.size() : 1) * static_cast<size_t>(output_size());
      Floats values(count);
      backend_->CopyOut(at, values.data(), static_cast<int64_t>(count) * 4);
      result.push_back(std::move(values));
      at += count;
    }
    return result;
  }

  // All logits of `tokens`, read from an empty state in chunks.
  Floats Read(int32_t slot, const Tokens& tokens, size_t chunk) {
    Fill(slot, 0);
    Floats all;
    for (size_t at = 0; at < tokens.size(); at += chunk) {
      const size_t end = std::min(at + chunk, tokens.size());
      const auto begin = tokens.begin() + static_cast<std::ptrdiff_t>(at);
      const TestRow row = {slot, static_cast<int64_t>(at),
                           Tokens(begin, begin + static_cast<std::ptrdiff_t>(end - at))};
      const Floats part = Step({row})[0];
      all.insert(all.end(), part.begin(), part.end());
    }
    return all;
  }

 private:
  std::byte* SlotAt(int32_t slot) const {
    return static_cast<std::byte*>(pool_.data()) + slot * state_bytes();
  }

  std::unique_ptr<Backend> backend_;  // first: the rest lies on it
  std::unique_ptr<Model> model_;
  Buffer pool_;
  Workspace workspace_;
};

// All of them that have a model of their own, "FAMILY/CASE".
inline std::vector<std::string> GoldenNames() {
  std::vector<std::string> names;
  const std::filesystem::path root = std::string(EDDY_SOURCE_DIR) + "/tests/golden";
  for (const auto& entry : std::filesystem::recursive_directory_iterator(root)) {
    if (entry.path().filename() != "expected.safetensors") continue;
    const std::filesystem::path folder = entry.path().parent_path();
    if (std::filesystem::exists(folder / "config.json")) {
      names.push_back(folder.lexically_relative(root).string());
    }
  }
  std::sort(names.begin(), names.end());
  EDDY_CHECK(!names.empty()) << root.string();
  return names;
}

// As a test's name may be.
inline std::string Underscored(std::string name) {
  std::replace(name.begin(), name.end(), '/', '_');
  return name;
}

// `name` is "FAMILY/CASE".
inline std::string GoldenFolder(const std::string& name) {
  return std::string(EDDY_SOURCE_DIR) + "/tests/golden/" + name;
}

struct Expected {
  Tokens tokens;
  Floats logits;  // [token, vocabulary]
};

inline Floats Values(const Safetensors& file, const std::string& name) {
  const StoredTensor* tensor = file.Find(name);
  EXPECT_TRUE(tensor != nullptr && tensor->type == StoredType::kF32) << name;
  Floats values(tensor->data.size() / 4);
  std::memcpy(values.data(), tensor->data.data(), tensor->data.size());
  return values;
}

inline Expected ReadExpected(const std::string& name) {
  const auto file = Safetensors::Open(GoldenFolder(name) + "/expected.safetensors");
  EXPECT_TRUE(file.ok()) << file.status();
  Expected expected;
  for (const float token : Values(*file, "tokens")) {
    expected.tokens.push_back(static_cast<int32_t>(token));
  }
  expected.logits = Values(*file, "logits");
  return expected;
}

inline float MaxDifference(const Floats& a, const Floats& b) {
  EXPECT_EQ(a.size(), b.size());
  float most = 0.0f;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    if (!std::isfinite(a[i]) || !std::isfinite(b[i])) return INFINITY;
    most = std::max(most, std::abs(a[i] - b[i]));
  }
  return most;
}

// The largest less the smallest.
inline float Range(const Floats& values) {
  const auto [least, most] = std::minmax_element(values.begin(), values.end());
  return *most - *least;
}

inline bool SameBits(const Floats& a, const Floats& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// The instruction sets that this machine has.
inline std::vector<std::string> Targets() {
  std::vector<std::string> targets;
  for (const char* target : {"v2", "v3", "v4"}) {
    BackendOptions options;
    options.backend = "cpu";
    options.cpu_target = target;
    const absl::Status status = MakeBackend(options).status();
    if (status.ok()) targets.push_back(target);
    EDDY_CHECK(status.ok() || status.code() == absl::StatusCode::kFailedPrecondition) << status;
  }
  return targets;
}

}  // namespace eddy
