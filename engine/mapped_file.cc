// SPDX-License-Identifier: Apache-2.0
#include "engine/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace eddy {

absl::StatusOr<MappedFile> MappedFile::Open(const std::string& path) {
  // Without O_NONBLOCK opening a named pipe would wait for a writer.
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0) return absl::ErrnoToStatus(errno, absl::StrCat(path, " cannot be opened"));
  struct stat status = {};
  if (fstat(file, &status) != 0) {
    const int error = errno;
    close(file);
    return absl::ErrnoToStatus(error, absl::StrCat(path, " cannot be read"));
  }
  if (!S_ISREG(status.st_mode)) {
    close(file);
    return absl::InvalidArgumentError(
        absl::StrCat(path, " is ", S_ISDIR(status.st_mode) ? "a folder" : "not a regular file",
                     ", expected a file"));
  }
  const size_t size = static_cast<size_t>(status.st_size);
  if (size == 0) {
    close(file);
    return MappedFile(std::span<const std::byte>());
  }
  void* data = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file, 0);
  const int error = errno;
  close(file);
  if (data == MAP_FAILED) {
    return absl::ErrnoToStatus(error, absl::StrCat(path, " (", size, " bytes) cannot be mapped"));
  }
  return MappedFile(std::span(static_cast<const std::byte*>(data), size));
}

void MappedFile::Release(std::span<const std::byte> part) const {
  const auto begin = reinterpret_cast<uintptr_t>(part.data()), end = begin + part.size();
  const auto first = reinterpret_cast<uintptr_t>(bytes_.data()), last = first + bytes_.size();
  if (part.empty() || begin < first || end > last) return;
  // Also the pages at the ends, which others may share: the mapping is never written to.
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const uintptr_t from = begin / page * page;
  madvise(reinterpret_cast<void*>(from), end - from, MADV_DONTNEED);
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

}  // namespace eddy
