// SPDX-License-Identifier: Apache-2.0
#include "engine/mapped_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <string>

#include "tests/support/model_files.h"

namespace eddy {
namespace {

std::string Text(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

TEST(MappedFileTest, ShowsTheBytesAlsoAfterMoves) {
  const TestFolder folder;
  WriteBytes(folder / "a", "first");
  WriteBytes(folder / "b", "second one");
  auto a = MappedFile::Open(folder / "a");
  auto b = MappedFile::Open(folder / "b");
  ASSERT_TRUE(a.ok() && b.ok());
  MappedFile file = *std::move(a);
  EXPECT_EQ(Text(file), "first");
  file = *std::move(b);
  EXPECT_EQ(Text(file), "second one");
}

TEST(MappedFileTest, AnEmptyFileIsEmpty) {
  const TestFolder folder;
  WriteBytes(folder / "empty", "");
  const auto file = MappedFile::Open(folder / "empty");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_TRUE(file->bytes().empty());
}

TEST(MappedFileTest, NamesThePathAndTheReason) {
  const TestFolder folder;
  const auto missing = MappedFile::Open(folder / "missing");
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(missing.status().message()),
              testing::HasSubstr("/missing cannot be opened"));
  const auto is_folder = MappedFile::Open(folder.path());
  EXPECT_EQ(is_folder.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(is_folder.status().message()), testing::HasSubstr("is a folder"));
}

TEST(MappedFileTest, DoesNotWaitForAPipe) {
  const TestFolder folder;
  ASSERT_EQ(mkfifo((folder / "pipe").c_str(), 0600), 0);
  const auto pipe = MappedFile::Open(folder / "pipe");
  EXPECT_EQ(pipe.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(pipe.status().message()), testing::HasSubstr("not a regular file"));
}

}  // namespace
}  // namespace eddy
