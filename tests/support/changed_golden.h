// SPDX-License-Identifier: Apache-2.0
// Loads goldens of tests/golden/ with changes that a model must notice.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>

#include "engine/model.h"
#include "tests/support/model_files.h"
#include "tests/support/model_stepper.h"

namespace eddy {

// A configuration that is refused, and why.
struct Refusal {
  const char* name;
  const char* patch;    // merged into config.json; null removes a key
  const char* message;  // part of it
  absl::StatusCode code = absl::StatusCode::kInvalidArgument;
};

class ChangedGoldenTest : public testing::Test {
 protected:
  using Change = std::function<void(std::string* model_file)>;

  ChangedGoldenTest() {
    BackendOptions options;
    options.backend = "cpu";
    options.thread_count = 1;
    backend_ = *MakeBackend(options);
  }

  absl::StatusOr<std::unique_ptr<Model>> Load(const std::string& folder) {
    return LoadModel(folder, *backend_, LoadOptions());
  }
  // `golden` is "FAMILY/CASE".
  absl::Status LoadChanged(const std::string& golden, const std::string& patch,
                           const Change& change = nullptr) {
    const TestFolder folder;
    const std::string from = GoldenFolder(golden);
    nlohmann::json config = nlohmann::json::parse(ReadBytes(from + "/config.json"));
    config.merge_patch(nlohmann::json::parse(patch));
    WriteBytes(folder / "config.json", config.dump());
    std::string bytes = ReadBytes(from + "/model.safetensors");
    if (change) change(&bytes);
    WriteBytes(folder / "model.safetensors", bytes);
    return Load(folder.path()).status();
  }
  void ExpectRefusals(const std::string& golden, std::span<const Refusal> refusals) {
    for (const Refusal& refusal : refusals) {
      const absl::Status status = LoadChanged(golden, refusal.patch);
      EXPECT_EQ(status.code(), refusal.code) << refusal.name << ": " << status;
      EXPECT_NE(std::string(status.message()).find(refusal.message), std::string::npos)
          << refusal.name << ": " << status << "\nexpected: " << refusal.message;
    }
  }
  // Of a name in the safetensors header, by one of the same length.
  static Change Replace(const std::string& from, const std::string& to) {
    return [from, to](std::string* bytes) {
      const size_t at = bytes->find(from);
      ASSERT_NE(at, std::string::npos) << from;
      ASSERT_EQ(from.size(), to.size());
      bytes->replace(at, from.size(), to);
    };
  }

  std::unique_ptr<Backend> backend_;
};

}  // namespace eddy
