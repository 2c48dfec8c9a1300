// SPDX-License-Identifier: Apache-2.0
// MappedFile: the move-only owner of a read-only mapping of one regular file. Any thread may read
// it. The file must not shrink while it is mapped: a read past its new end kills the process
// (SIGBUS).
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <utility>

#include "absl/status/statusor.h"

namespace eddy {

class MappedFile {
 public:
  // NOT_FOUND, PERMISSION_DENIED and so on as the system says; INVALID_ARGUMENT when it is not a
  // regular file.
  static absl::StatusOr<MappedFile> Open(const std::string& path);

  MappedFile(MappedFile&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
  MappedFile& operator=(MappedFile&& other) noexcept {
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  // Empty for an empty file.
  std::span<const std::byte> bytes() const { return bytes_; }
  // Gives back the memory of those pages of the file that `part` touches, if it lies in the mapping
  // (else nothing happens): they are read again when they are needed again.
  void Release(std::span<const std::byte> part) const;

 private:
  explicit MappedFile(std::span<const std::byte> bytes) : bytes_(bytes) {}

  std::span<const std::byte> bytes_;
};

}  // namespace eddy
