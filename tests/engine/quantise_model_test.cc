// SPDX-License-Identifier: Apache-2.0
#include "engine/quantise_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <tuple>
#include <vector>

#include "engine/model.h"
#include "engine/safetensors.h"
#include "tests/support/model_files.h"
#include "tests/support/model_stepper.h"

namespace eddy {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::UnorderedElementsAre;

std::unique_ptr<Backend> CpuBackend() {
  BackendOptions options;
  options.backend = "cpu";
  options.thread_count = 1;
  return *MakeBackend(options);
}

absl::StatusOr<QuantiseReport> Quantise(const std::string& from, const std::string& to,
                                        DType dtype) {
  const auto backend = CpuBackend();
  QuantiseOptions options;
  options.dtype = dtype;
  return QuantiseModel(from, to, *backend, options);
}

std::vector<std::string> FilesOf(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    names.push_back(entry.path().filename().string());
  }
  return names;
}

class QuantisedFolderTest : public testing::TestWithParam<std::tuple<std::string, DType>> {};

// The new folder gives the bits that the old one gives when it is quantised at load.
TEST_P(QuantisedFolderTest, GivesTheSameBits) {
  const auto& [name, dtype] = GetParam();
  const TestFolder folder;
  const auto report = Quantise(GoldenFolder(name), folder / "out", dtype);
  ASSERT_TRUE(report.ok()) << report.status();
  const Tokens tokens = ReadExpected(name).tokens;
  Stepper at_load(GoldenFolder(name), "auto", dtype, 1);
  Stepper ahead(folder / "out", "auto", dtype, 1);
  EXPECT_TRUE(SameBits(ahead.Read(0, tokens, 7), at_load.Read(0, tokens, 7)));

  // It says itself what it is.
  const auto backend = CpuBackend();
  const auto model = LoadModel(folder / "out", *backend, {});
  const auto original = LoadModel(GoldenFolder(name), *backend, {});
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ((*model)->info().weight_dtype, dtype);
  EXPECT_EQ((*model)->info().parameter_count, (*original)->info().parameter_count);

  const double usual = dtype == DType::kI8 ? 0.02 : 0.2;
  EXPECT_FALSE(report->tensors.empty());
  for (const QuantisedTensor& tensor : report->tensors) {
    EXPECT_GT(tensor.relative_error, 0.0) << tensor.name;
    EXPECT_LT(tensor.relative_error, usual) << tensor.name;
    EXPECT_GT(tensor.error_max, 0.0) << tensor.name;
    EXPECT_LT(tensor.bytes_after, tensor.bytes_before) << tensor.name;
  }
  EXPECT_EQ(report->file_bytes_after,
            static_cast<int64_t>(ReadBytes(folder / "out/model.safetensors").size()));
  EXPECT_EQ(report->file_bytes_before,
            static_cast<int64_t>(ReadBytes(GoldenFolder(name) + "/model.safetensors").size()));
}

INSTANTIATE_TEST_SUITE_P(
    All, QuantisedFolderTest,
    testing::Combine(testing::Values("linear_transformer/decay", "linear_transformer/sinusoid",
                                     "linear_transformer/wide", "gated_deltanet/plain",
                                     "gated_deltanet/grouped", "rwkv7/official", "rwkv7/fla",
                                     "rwkv7/fla_f16", "mamba2/plain"),
                     testing::Values(DType::kI8, DType::kI4)),
    [](const auto& test) {
      std::string name = std::get<0>(test.param) + "_" + DTypeName(std::get<1>(test.param));
      std::replace(name.begin(), name.end(), '/', '_');
      return name;
    });

TEST(QuantiseModelTest, OnlyMatricesChange) {
  const TestFolder folder;
  const std::string from = GoldenFolder("linear_transformer/decay");
  const auto report = Quantise(from, folder / "out", DType::kI4);
  ASSERT_TRUE(report.ok()) << report.status();
  // Those of [12, 21] and [12, 19]: rows of int4 are whole bytes.
  EXPECT_THAT(report->left, ElementsAre("transformer.layers.0.attention.out_projection.weight",
                                        "transformer.layers.0.linear2.weight",
                                        "transformer.layers.1.attention.out_projection.weight",
                                        "transformer.layers.1.linear2.weight"));
  EXPECT_EQ(report->tensors.size(), 2u * 4 + 1);
  EXPECT_EQ(report->tensors[0].name, "transformer.layers.0.attention.query_projection.weight");
  EXPECT_EQ(report->tensors[0].shape, Shape({15, 12}));
  EXPECT_EQ(report->tensors[0].bytes_after, 15 * 6 + 15 * 2);
  const auto before = Safetensors::Open(from + "/model.safetensors");
  const auto after = Safetensors::Open(folder / "out/model.safetensors");
  ASSERT_TRUE(before.ok() && after.ok());
  EXPECT_EQ(after->tensors().size(), before->tensors().size() + report->tensors.size());
  int same = 0;
  for (const auto& [name, tensor] : before->tensors()) {
    const StoredTensor* now = after->Find(name);
    ASSERT_NE(now, nullptr) << name;
    if (now->type == StoredType::kU8) continue;
    ++same;
    EXPECT_EQ(now->type, tensor.type);
    EXPECT_EQ(now->shape, tensor.shape);
    EXPECT_TRUE(
        std::equal(now->data.begin(), now->data.end(), tensor.data.begin(), tensor.data.end()))
        << name;
  }
  EXPECT_EQ(same, static_cast<int>(before->tensors().size() - report->tensors.size()));
}

TEST(QuantiseModelTest, CopiesWhatTokenizersNeedAndSaysWhatItIs) {
  const TestFolder folder;
  std::filesystem::copy(GoldenFolder("linear_transformer/plain"), folder / "in");
  WriteBytes(folder / "in/tokenizer_config.json", "{}");
  WriteBytes(folder / "in/rwkv_vocab_v20230424.txt", "1 'a' 1");
  WriteBytes(folder / "in/LICENSE", "free");
  WriteBytes(folder / "in/other.safetensors", "large");
  WriteBytes(folder / "in/notes.txt", "mine");
  auto config = nlohmann::ordered_json::parse(ReadBytes(folder / "in/config.json"));
  config["eddy_text"] = "notes.txt";
  config["eddy_text_begin"] = 1;
  config["zebra"] = {{"a", 1e-5}};
  WriteBytes(folder / "in/config.json", config.dump());
  ASSERT_TRUE(Quantise(folder / "in", folder / "out/", DType::kI8).ok());
  EXPECT_THAT(FilesOf(folder / "out"),
              UnorderedElementsAre("config.json", "model.safetensors", "tokenizer_config.json",
                                   "rwkv_vocab_v20230424.txt", "LICENSE"));
  EXPECT_EQ(ReadBytes(folder / "out/LICENSE"), "free");
  config.erase("eddy_text");
  config.erase("eddy_text_begin");
  config["eddy_quantization"] = "int8";
  EXPECT_EQ(ReadBytes(folder / "out/config.json"), config.dump(2) + "\n");
  EXPECT_THAT(FilesOf(folder.path()), UnorderedElementsAre("in", "out"));
}

// The tensors of a golden, with changes to config.json.
void WriteModel(const std::string& golden, const std::string& folder, const nlohmann::json& patch,
                const std::function<void(std::map<std::string, TestTensor>*)>& change) {
  const auto file = Safetensors::Open(GoldenFolder(golden) + "/model.safetensors");
  ASSERT_TRUE(file.ok()) << file.status();
  std::map<std::string, TestTensor> tensors;
  for (const auto& [name, stored] : file->tensors()) {
    TestTensor& tensor = tensors[name];
    for (int i = 0; i < stored.shape.rank(); ++i) tensor.shape.push_back(stored.shape[i]);
    tensor.values.resize(static_cast<size_t>(stored.shape.element_count()));
    CopyNumbers(stored, 0, tensor.values);
  }
  change(&tensors);
  auto config = nlohmann::json::parse(ReadBytes(GoldenFolder(golden) + "/config.json"));
  config.merge_patch(patch);
  std::filesystem::create_directory(folder);
  WriteBytes(folder + "/config.json", config.dump());
  WriteBytes(folder + "/model.safetensors", SafetensorsBytes(tensors));
}

// A tied embedding stays a table of floats; as the head it is quantised at load.
TEST(QuantiseModelTest, ATiedEmbeddingStaysReadableBothWays) {
  const TestFolder folder;
  const std::string name = "gated_deltanet/plain";
  WriteModel(name, folder / "tied", {{"tie_word_embeddings", true}},
             [](auto* tensors) { tensors->erase("lm_head.weight"); });
  WriteModel(name, folder / "untied", nlohmann::json::object(), [](auto* tensors) {
    (*tensors)["lm_head.weight"] = tensors->at("model.embeddings.weight");
  });
  const Tokens tokens = ReadExpected(name).tokens;
  for (const DType dtype : {DType::kI8, DType::kI4}) {
    const std::string out = folder / DTypeName(dtype);
    const auto report = Quantise(folder / "tied", out, dtype);
    ASSERT_TRUE(report.ok()) << report.status();
    EXPECT_THAT(report->tables, ElementsAre("model.embeddings.weight"));
    EXPECT_TRUE(report->left.empty());
    for (const QuantisedTensor& tensor : report->tensors) {
      EXPECT_NE(tensor.name, "model.embeddings.weight");
    }
    const Floats want = Stepper(folder / "untied", "auto", dtype, 1).Read(0, tokens, 7);
    EXPECT_TRUE(SameBits(Stepper(folder / "tied", "auto", dtype, 1).Read(0, tokens, 7), want));
    EXPECT_TRUE(SameBits(Stepper(out, "auto", dtype, 1).Read(0, tokens, 7), want));
    const auto backend = CpuBackend();
    const auto tied = LoadModel(out, *backend, {});
    const auto untied = LoadModel(folder / "untied", *backend, {});
    ASSERT_TRUE(tied.ok() && untied.ok());
    EXPECT_LT((*tied)->info().parameter_count, (*untied)->info().parameter_count);
  }
}

TEST(QuantiseModelTest, AMissingHeadIsAnErrorUnlessItIsTied) {
  const TestFolder folder;
  WriteModel("gated_deltanet/plain", folder / "in", nlohmann::json::object(),
             [](auto* tensors) { tensors->erase("lm_head.weight"); });
  const auto backend = CpuBackend();
  const absl::Status status = LoadModel(folder / "in", *backend, {}).status();
  EXPECT_THAT(std::string(status.message()), HasSubstr("lm_head.weight is missing, expected ["));
}

// Shards are read, and one file is written.
TEST(QuantiseModelTest, ReadsShards) {
  const TestFolder folder;
  const std::string from = GoldenFolder("linear_transformer/plain");
  std::filesystem::create_directory(folder / "in");
  std::filesystem::copy_file(from + "/config.json", folder / "in/config.json");
  std::filesystem::copy_file(from + "/model.safetensors", folder / "in/a.safetensors");
  WriteBytes(folder / "in/b.safetensors", SafetensorsBytes({{"pos_embedding.pe", {{1}, {1}}}}));
  nlohmann::json index;
  const auto file = Safetensors::Open(from + "/model.safetensors");
  ASSERT_TRUE(file.ok());
  for (const auto& [name, tensor] : file->tensors()) index["weight_map"][name] = "a.safetensors";
  WriteBytes(folder / "in/model.safetensors.index.json", index.dump());
  ASSERT_TRUE(Quantise(folder / "in", folder / "out", DType::kI8).ok());
  ASSERT_TRUE(Quantise(from, folder / "same", DType::kI8).ok());
  EXPECT_EQ(ReadBytes(folder / "out/model.safetensors"),
            ReadBytes(folder / "same/model.safetensors"));
  index["weight_map"]["pos_embedding.pe"] = "b.safetensors";
  WriteBytes(folder / "in/model.safetensors.index.json", index.dump());
  EXPECT_THAT(std::string(Quantise(folder / "in", folder / "other", DType::kI8).status().message()),
              AllOf(HasSubstr("index.json does not fit its config.json (1 problem)"),
                    HasSubstr("\"pos_embedding.pe\" (F32 [1]) has no place")));
}

TEST(QuantiseModelTest, AQuantisedFolderIsServedAsItIsOnly) {
  const TestFolder folder;
  ASSERT_TRUE(Quantise(GoldenFolder("rwkv7/fla"), folder / "out", DType::kI8).ok());
  const auto backend = CpuBackend();
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kI4}) {
    LoadOptions options;
    options.weight_dtype = dtype;
    const absl::Status status = LoadModel(folder / "out", *backend, options).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(status.message()),
                AllOf(HasSubstr("config.json: eddy_quantization is \"int8\""),
                      HasSubstr(std::string("cannot become ") + DTypeName(dtype))));
  }
  const auto again = Quantise(folder / "out", folder / "again", DType::kI8);
  EXPECT_EQ(again.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(again.status().message()), HasSubstr("is quantised already"));
  EXPECT_THAT(FilesOf(folder.path()), ElementsAre("out"));

  auto config = nlohmann::json::parse(ReadBytes(folder / "out/config.json"));
  config["eddy_quantization"] = "int2";
  WriteBytes(folder / "out/config.json", config.dump());
  EXPECT_THAT(std::string(LoadModel(folder / "out", *backend, {}).status().message()),
              HasSubstr("eddy_quantization is \"int2\", expected one of \"int8\", \"int4\""));
  // The integers without the word for them.
  config.erase("eddy_quantization");
  WriteBytes(folder / "out/config.json", config.dump());
  EXPECT_THAT(std::string(LoadModel(folder / "out", *backend, {}).status().message()),
              HasSubstr("expected F32, F16 or BF16"));
}

TEST(QuantiseModelTest, LeavesNothingBehindWhenItFails) {
  const TestFolder folder;
  const std::string from = GoldenFolder("linear_transformer/plain");
  EXPECT_EQ(Quantise(folder / "none", folder / "out", DType::kI8).status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(Quantise("synthetic:mnist", folder / "out", DType::kI8).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Quantise(from, folder / "none/out", DType::kI8).status().code(),
            absl::StatusCode::kNotFound);
  std::filesystem::create_directory(folder / "there");
  const auto there = Quantise(from, folder / "there", DType::kI8);
  EXPECT_EQ(there.status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(std::string(there.status().message()), HasSubstr("there is there already"));
  EXPECT_THAT(FilesOf(folder.path()), ElementsAre("there"));
  EXPECT_TRUE(FilesOf(folder / "there").empty());
}

TEST(QuantiseModelTest, TellsHowFarItIsAndStopsWhenTold) {
  const TestFolder folder;
  const auto backend = CpuBackend();
  const std::string from = GoldenFolder("linear_transformer/wide");
  std::vector<int64_t> done;
  QuantiseOptions options;
  options.progress = [&](int64_t now, int64_t all) {
    EXPECT_LE(now, all);
    done.push_back(now);
    return true;
  };
  ASSERT_TRUE(QuantiseModel(from, folder / "out", *backend, options).ok());
  ASSERT_FALSE(done.empty());
  EXPECT_TRUE(std::is_sorted(done.begin(), done.end()));
  EXPECT_LE(done.back(), static_cast<int64_t>(ReadBytes(from + "/model.safetensors").size()));
  options.progress = [](int64_t, int64_t) { return false; };
  EXPECT_EQ(QuantiseModel(from, folder / "stopped", *backend, options).status().code(),
            absl::StatusCode::kCancelled);
  EXPECT_THAT(FilesOf(folder.path()), ElementsAre("out"));
}

}  // namespace
}  // namespace eddy
