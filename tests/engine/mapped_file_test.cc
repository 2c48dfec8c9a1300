// SPDX-License-Identifier: Apache-2.0
#include "engine/mapped_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

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

// Bytes of the mapping of `path` that this process holds in memory.
int64_t ResidentBytes(const std::string& path) {
  std::ifstream maps("/proc/self/smaps");
  const std::string canonical = std::filesystem::canonical(path).string();
  bool inside = false;
  for (std::string line; std::getline(maps, line);) {
    if (line.find(canonical) != std::string::npos) inside = true;
    if (inside && line.starts_with("Rss:")) return std::stoll(line.substr(4)) << 10;
  }
  ADD_FAILURE() << path << " is not mapped";
  return 0;
}

TEST(MappedFileTest, GivesPagesBackAndReadsThemAgain) {
  const TestFolder folder;
  std::string text(int64_t{1} << 20, 'x');
  text[600000] = 'y';
  WriteBytes(folder / "large", text);
  const auto file = MappedFile::Open(folder / "large");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(Text(*file), text);
  EXPECT_EQ(ResidentBytes(folder / "large"), 1 << 20);
  file->Release(file->bytes().subspan(300000, 400000));
  EXPECT_LE(ResidentBytes(folder / "large"), (1 << 20) - 400000);
  EXPECT_EQ(Text(*file), text);
  file->Release(file->bytes());
  EXPECT_EQ(ResidentBytes(folder / "large"), 0);
  EXPECT_EQ(Text(*file), text);
}

TEST(MappedFileTest, GivesBackNothingElse) {
  const TestFolder folder;
  WriteBytes(folder / "a", std::string(10000, 'a'));
  const auto file = MappedFile::Open(folder / "a");
  ASSERT_TRUE(file.ok()) << file.status();
  const std::vector<std::byte> other(1 << 16, std::byte{7});
  file->Release(other);
  file->Release({});
  file->Release({file->bytes().data(), file->bytes().size() + (1 << 16)});
  EXPECT_EQ(std::count(other.begin(), other.end(), std::byte{7}), 1 << 16);
  EXPECT_EQ(Text(*file), std::string(10000, 'a'));
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
