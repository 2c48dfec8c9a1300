// SPDX-License-Identifier: Apache-2.0
#include "engine/sharded_safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "tests/support/model_files.h"

namespace eddy {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

constexpr char kIndex[] = "model.safetensors.index.json";
constexpr char kFirst[] = "model-00001-of-00002.safetensors";
constexpr char kSecond[] = "model-00002-of-00002.safetensors";

// A folder of two shards with a and b in the first one and c in the second.
class ShardedSafetensorsTest : public testing::Test {
 protected:
  ShardedSafetensorsTest() {
    WriteBytes(folder_ / kFirst,
               SafetensorsBytes({{"a", {{2}, {1.0f, 2.0f}}}, {"b", {{1}, {3.0f}}}}));
    WriteBytes(folder_ / kSecond, SafetensorsBytes({{"c", {{1, 2}, {4.0f, 5.0f}}}}));
    WriteIndex({{"a", kFirst}, {"b", kFirst}, {"c", kSecond}});
  }

  void WriteIndex(const nlohmann::json& weight_map) {
    const nlohmann::json index = {{"metadata", {{"total_size", 20}}}, {"weight_map", weight_map}};
    WriteBytes(folder_ / kIndex, index.dump());
  }
  std::string Problem(absl::StatusCode code = absl::StatusCode::kInvalidArgument) {
    const absl::Status status = ShardedSafetensors::Open(folder_ / kIndex).status();
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_LT(status.message().size(), 6000u);
    return std::string(status.message());
  }
  std::string ProblemOf(const nlohmann::json& weight_map) {
    WriteIndex(weight_map);
    return Problem();
  }

  const TestFolder folder_;
};

float Number(const TensorSource& source, const std::string& name, int64_t i) {
  const StoredTensor* tensor = source.Find(name);
  EXPECT_NE(tensor, nullptr) << name;
  return tensor == nullptr ? 0.0f : NumberAt(*tensor, i);
}

TEST_F(ShardedSafetensorsTest, IsOneSourceOfAllShards) {
  auto opened = ShardedSafetensors::Open(folder_ / kIndex);
  ASSERT_TRUE(opened.ok()) << opened.status();
  const ShardedSafetensors source = *std::move(opened);  // the numbers stay where they are
  EXPECT_EQ(source.file(), folder_ / kIndex);
  EXPECT_EQ(source.tensors().size(), 3u);
  EXPECT_EQ(Number(source, "a", 1), 2.0f);
  EXPECT_EQ(Number(source, "b", 0), 3.0f);
  EXPECT_EQ(Number(source, "c", 1), 5.0f);
  EXPECT_EQ(source.Find("c")->shape, Shape({1, 2}));
  EXPECT_EQ(source.Find("d"), nullptr);
  EXPECT_EQ(source.file_bytes(), static_cast<int64_t>(ReadBytes(folder_ / kFirst).size() +
                                                      ReadBytes(folder_ / kSecond).size()));
}

// ---- what does not fit ----

TEST_F(ShardedSafetensorsTest, NamesEveryTensorThatIsInTheWrongPlace) {
  EXPECT_THAT(ProblemOf({{"a", kFirst}, {"b", kSecond}, {"x", kFirst}, {"y\n", kSecond}}),
              AllOf(HasSubstr(std::string(kIndex) + " does not fit its files (5 problems): "),
                    HasSubstr(std::string("\"x\" is not in \"") + kFirst + "\""),
                    HasSubstr(std::string("\"b\" (F32 [1]) is in \"") + kFirst +
                              "\", where the index does not have it"),
                    HasSubstr(std::string("\"b\" is not in \"") + kSecond + "\""),
                    HasSubstr(std::string("\"y\\n\" is not in \"") + kSecond + "\""),
                    HasSubstr(std::string("\"c\" (F32 [1, 2]) is in \"") + kSecond + "\"")));
}

TEST_F(ShardedSafetensorsTest, ATensorInTwoShardsIsOneTooMany) {
  WriteBytes(folder_ / kSecond,
             SafetensorsBytes({{"b", {{1}, {7.0f}}}, {"c", {{1, 2}, {4.0f, 5.0f}}}}));
  EXPECT_THAT(Problem(), HasSubstr(std::string("(1 problem): \"b\" (F32 [1]) is in \"") + kSecond +
                                   "\", where the index does not have it"));
}

TEST_F(ShardedSafetensorsTest, ALongListIsCut) {
  nlohmann::json weight_map = {{"a", kFirst}, {"b", kFirst}, {"c", kSecond}};
  for (int i = 0; i < 3000; ++i) weight_map["more." + std::to_string(i)] = kSecond;
  EXPECT_THAT(ProblemOf(weight_map),
              AllOf(HasSubstr("(3000 problems)"), HasSubstr("and 2980 more")));
}

TEST_F(ShardedSafetensorsTest, AMissingOrBrokenShardIsNamed) {
  std::filesystem::remove(folder_ / kSecond);
  EXPECT_THAT(Problem(absl::StatusCode::kNotFound), HasSubstr(kSecond));
  WriteBytes(folder_ / kSecond, "1234567");
  EXPECT_THAT(Problem(), AllOf(HasSubstr(kSecond), HasSubstr("has 7 bytes")));
  std::filesystem::remove(folder_ / kSecond);
  std::filesystem::create_directory(folder_ / kSecond);
  EXPECT_THAT(Problem(), AllOf(HasSubstr(kSecond), HasSubstr("is a folder")));
}

TEST_F(ShardedSafetensorsTest, TheIndexMustNotLeadElsewhere) {
  WriteBytes(folder_ / "hidden.safetensors", ReadBytes(folder_ / kFirst));
  const std::string folder = std::filesystem::path(folder_.path()).filename().string();
  for (const std::string& file :
       {std::string("../") + folder + "/" + kFirst, folder_ / kFirst, "./" + std::string(kFirst),
        std::string(""), std::string(".safetensors"), std::string(".."), std::string("model.bin"),
        std::string("a\0.safetensors", 14), std::string(250, 'a') + ".safetensors",
        "sub/" + std::string(kFirst)}) {
    EXPECT_THAT(ProblemOf({{"a", file}, {"b", kFirst}}),
                HasSubstr("expected the name of a .safetensors file in the same folder"))
        << file;
  }
  for (const nlohmann::json& file : {nlohmann::json(7), nlohmann::json(nullptr),
                                     nlohmann::json::array({kFirst}), nlohmann::json::object()}) {
    EXPECT_THAT(ProblemOf({{"a", file}}), HasSubstr("tensor \"a\" is in " + file.dump()));
  }
}

TEST_F(ShardedSafetensorsTest, AnIndexThatIsNoneIsRefused) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "is not valid JSON"},
      {"[]", "has no weight_map"},
      {"7", "has no weight_map"},
      {"{}", "has no weight_map"},
      {R"({"weight_map": []})", "has no weight_map"},
      {R"({"weight_map": {}})", "has no weight_map"},
      {R"({"weight_map": null})", "has no weight_map"},
      {R"({"weight_map": {"a": "x.safetensors", "a": "y.safetensors"}})", "occurs twice"}};
  for (const auto& [text, message] : cases) {
    WriteBytes(folder_ / kIndex, text);
    EXPECT_THAT(Problem(), HasSubstr(message)) << text;
  }
  WriteBytes(folder_ / kIndex, std::string(ShardedSafetensors::kIndexBytesMax + 1, ' '));
  EXPECT_THAT(Problem(), HasSubstr("at most 16777216 are accepted"));
  std::filesystem::remove(folder_ / kIndex);
  EXPECT_THAT(Problem(absl::StatusCode::kNotFound), HasSubstr(kIndex));
}

TEST_F(ShardedSafetensorsTest, CountsShards) {
  nlohmann::json weight_map;
  for (size_t i = 0; i <= ShardedSafetensors::kShardCountMax; ++i) {
    weight_map["t" + std::to_string(i)] = std::to_string(i) + ".safetensors";
  }
  EXPECT_THAT(ProblemOf(weight_map), HasSubstr("lists more than 1024 files"));
}

// ---- a model folder ----

TEST_F(ShardedSafetensorsTest, AModelFolderHasOneFileOrShards) {
  auto source = OpenModelTensors(folder_.path());
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_EQ((*source)->tensors().size(), 3u);
  // The single file is taken where both are there.
  WriteBytes(folder_ / "model.safetensors", SafetensorsBytes({{"a", {{1}, {9.0f}}}}));
  source = OpenModelTensors(folder_.path());
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_EQ((*source)->file(), folder_ / "model.safetensors");
  EXPECT_EQ(Number(**source, "a", 0), 9.0f);
  // Even where it is broken: what is served must not depend on that.
  WriteBytes(folder_ / "model.safetensors", "1234567");
  EXPECT_EQ(OpenModelTensors(folder_.path()).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(OpenModelTensorsTest, SaysWhatIsMissing) {
  const TestFolder folder;
  const auto message = [&] {
    const absl::Status status = OpenModelTensors(folder.path()).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
    return std::string(status.message());
  };
  EXPECT_THAT(message(),
              AllOf(HasSubstr("has neither model.safetensors nor model.safetensors.index.json"),
                    Not(HasSubstr("PyTorch"))));
  WriteBytes(folder / "pytorch_model.bin", "x");
  EXPECT_THAT(message(), HasSubstr("models/convert.py makes the first of PyTorch's files, like "
                                   "\"pytorch_model.bin\""));
}

}  // namespace
}  // namespace eddy
