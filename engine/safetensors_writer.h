// SPDX-License-Identifier: Apache-2.0
// SafetensorsWriter: makes one file of that format (engine/safetensors.h) whose tensors are known
// beforehand and whose numbers come piece by piece. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/tensor_source.h"

namespace eddy {

struct PlannedTensor {
  std::string name;  // of each tensor another one
  StoredType type = StoredType::kF32;
  Shape shape;

  int64_t bytes() const { return shape.element_count() * StoredTypeBytes(type); }
};

class SafetensorsWriter {
 public:
  // Makes `path`, which must not exist yet, with its header. In the file the wider types come
  // first, so that all numbers are aligned. The system's error when it cannot be written, here and
  // below.
  static absl::StatusOr<SafetensorsWriter> Create(const std::string& path,
                                                  std::vector<PlannedTensor> tensors);

  SafetensorsWriter(SafetensorsWriter&& other) noexcept;
  SafetensorsWriter& operator=(SafetensorsWriter&&) = delete;
  ~SafetensorsWriter();  // without Finish: the file is left as it is

  int64_t file_bytes() const { return file_bytes_; }
  // The next numbers of tensor `index` of the plan, as they lie in the file.
  absl::Status Append(size_t index, std::span<const std::byte> bytes);
  // After the last number of every tensor: returns when the file is on the disk.
  absl::Status Finish();

 private:
  SafetensorsWriter(std::string path, int file) : path_(std::move(path)), file_(file) {}
  absl::Status WriteAt(int64_t offset, std::span<const std::byte> bytes);

  const std::string path_;
  int file_;  // descriptor; -1 once closed
  int64_t file_bytes_ = 0;
  std::vector<int64_t> at_;   // [tensor], where its next numbers go
  std::vector<int64_t> end_;  // [tensor]
};

}  // namespace eddy
