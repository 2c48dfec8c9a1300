// SPDX-License-Identifier: Apache-2.0
#include "engine/safetensors_writer.h"

#include <gtest/gtest.h>

#include <string>

#include "engine/safetensors.h"
#include "tests/support/model_files.h"

namespace eddy {
namespace {

std::string Text(const StoredTensor& tensor) {
  return {reinterpret_cast<const char*>(tensor.data.data()), tensor.data.size()};
}

TEST(SafetensorsWriterTest, IsReadBackAsItWasWritten) {
  const TestFolder folder;
  const std::string path = folder / "m.safetensors";
  auto writer = SafetensorsWriter::Create(path, {{"bytes", StoredType::kI8, {3}},
                                                 {"floats\n\"", StoredType::kF32, {1, 2}},
                                                 {"halves", StoredType::kBF16, {1}},
                                                 {"none", StoredType::kU8, {0, 2}},
                                                 {"scalar", StoredType::kF16, {}}});
  ASSERT_TRUE(writer.ok()) << writer.status();
  // In any order and in pieces.
  ASSERT_TRUE(writer->Append(4, Bytes("\x01\x02")).ok());
  ASSERT_TRUE(writer->Append(1, Bytes("abc")).ok());
  ASSERT_TRUE(writer->Append(0, Bytes("xyz")).ok());
  ASSERT_TRUE(writer->Append(1, Bytes("defgh")).ok());
  ASSERT_TRUE(writer->Append(2, Bytes("hi")).ok());
  ASSERT_TRUE(writer->Finish().ok());
  const auto file = Safetensors::Open(path);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->tensors().size(), 5u);
  EXPECT_EQ(Text(*file->Find("bytes")), "xyz");
  EXPECT_EQ(file->Find("bytes")->type, StoredType::kI8);
  EXPECT_EQ(Text(*file->Find("floats\n\"")), "abcdefgh");
  EXPECT_EQ(file->Find("floats\n\"")->shape, Shape({1, 2}));
  EXPECT_EQ(Text(*file->Find("halves")), "hi");
  EXPECT_EQ(file->Find("none")->shape, Shape({0, 2}));
  EXPECT_EQ(Text(*file->Find("scalar")), "\x01\x02");
  EXPECT_EQ(static_cast<int64_t>(ReadBytes(path).size()), writer->file_bytes());
  // Wider types come first and begin at a multiple of 64.
  const auto address = [&](const char* name) {
    return reinterpret_cast<uintptr_t>(file->Find(name)->data.data());
  };
  EXPECT_EQ(address("floats\n\"") % 64, 0u);
  EXPECT_LT(address("scalar"), address("bytes"));
}

TEST(SafetensorsWriterTest, NeverWritesOverAFile) {
  const TestFolder folder;
  WriteBytes(folder / "m", "precious");
  const auto writer = SafetensorsWriter::Create(folder / "m", {{"a", StoredType::kI8, {1}}});
  EXPECT_EQ(writer.status().code(), absl::StatusCode::kAlreadyExists) << writer.status();
  EXPECT_EQ(ReadBytes(folder / "m"), "precious");
}

TEST(SafetensorsWriterTest, TellsThatAFileCannotBeMade) {
  const auto writer = SafetensorsWriter::Create("/proc/nothing/m", {{"a", StoredType::kI8, {1}}});
  EXPECT_EQ(writer.status().code(), absl::StatusCode::kNotFound) << writer.status();
}

TEST(SafetensorsWriterDeathTest, MissingOrTooManyBytesAreBugs) {
  const TestFolder folder;
  auto writer = SafetensorsWriter::Create(folder / "m", {{"a", StoredType::kF32, {1}}});
  ASSERT_TRUE(writer.ok()) << writer.status();
  EXPECT_DEATH((void)writer->Append(0, Bytes("12345")), " vs ");
  EXPECT_DEATH((void)writer->Finish(), "of tensor 0");
}

}  // namespace
}  // namespace eddy
