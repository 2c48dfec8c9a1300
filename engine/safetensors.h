// SPDX-License-Identifier: Apache-2.0
// Safetensors: the tensors of one file in the safetensors format, read in place.
//
// The format: a little-endian u64 header length, the header (a JSON object: name -> dtype, shape,
// data_offsets relative to the end of the header), then the numbers, little-endian and row-major,
// without gaps or overlaps. Immutable; any thread may read it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "engine/mapped_file.h"
#include "engine/tensor_source.h"

namespace eddy {

class Safetensors : public TensorSource {
 public:
  static constexpr int64_t kHeaderBytesMax = int64_t{16} << 20;
  static constexpr int64_t kElementCountMax = int64_t{1} << 48;  // of one tensor

  // Maps the file and checks everything but the numbers themselves. Errors name the file and the
  // tensor, what was found and what was expected: INVALID_ARGUMENT for a broken file, the system's
  // code when it cannot be read.
  static absl::StatusOr<Safetensors> Open(const std::string& path);
  // The same of bytes in memory, which must outlive the result; `file` is for messages.
  static absl::StatusOr<Safetensors> Parse(std::span<const std::byte> bytes,
                                           const std::string& file);

  const std::string& file() const override { return file_; }
  int64_t file_bytes() const override { return file_bytes_; }
  // At least one.
  const std::map<std::string, StoredTensor, std::less<>>& tensors() const override {
    return tensors_;
  }
  void Release(std::span<const std::byte> part) const override;

 private:
  std::string file_;
  int64_t file_bytes_ = 0;
  std::optional<MappedFile> mapping_;  // absent after Parse
  std::map<std::string, StoredTensor, std::less<>> tensors_;
};

}  // namespace eddy
