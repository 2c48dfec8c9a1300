// SPDX-License-Identifier: Apache-2.0
#include "engine/safetensors_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <nlohmann/json.hpp>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/status_macros.h"

namespace eddy {
namespace {

static_assert(std::endian::native == std::endian::little, "the length is written as it is");

constexpr int64_t kAlignBytes = 64;  // of the first tensor

std::vector<int64_t> Dims(const Shape& shape) {
  std::vector<int64_t> dims;
  for (int i = 0; i < shape.rank(); ++i) dims.push_back(shape[i]);
  return dims;
}

}  // namespace

absl::StatusOr<SafetensorsWriter> SafetensorsWriter::Create(const std::string& path,
                                                            std::vector<PlannedTensor> tensors) {
  std::vector<size_t> order(tensors.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return StoredTypeBytes(tensors[a].type) > StoredTypeBytes(tensors[b].type);
  });
  nlohmann::ordered_json header;
  std::vector<int64_t> begin(tensors.size()), end(tensors.size());
  int64_t data_bytes = 0;
  for (const size_t i : order) {
    begin[i] = data_bytes;
    data_bytes += tensors[i].bytes();
    end[i] = data_bytes;
    header[tensors[i].name] = {{"dtype", StoredTypeName(tensors[i].type)},
                               {"shape", Dims(tensors[i].shape)},
                               {"data_offsets", {begin[i], end[i]}}};
  }
  EDDY_CHECK_EQ(header.size(), tensors.size());
  // The parser ignores blanks at the end of the header.
  std::string text = header.dump();
  const auto head_bytes = static_cast<int64_t>(text.size()) + 8;
  text.append(static_cast<size_t>((kAlignBytes - head_bytes % kAlignBytes) % kAlignBytes), ' ');
  const uint64_t length = text.size();
  text.insert(0, reinterpret_cast<const char*>(&length), sizeof(length));

  const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (file < 0) return absl::ErrnoToStatus(errno, absl::StrCat(path, " cannot be made"));
  SafetensorsWriter writer(path, file);
  const auto base = static_cast<int64_t>(text.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    writer.at_.push_back(base + begin[i]);
    writer.end_.push_back(base + end[i]);
  }
  writer.file_bytes_ = base + data_bytes;
  EDDY_RETURN_IF_ERROR(writer.WriteAt(0, std::as_bytes(std::span(text))));
  return writer;
}

SafetensorsWriter::SafetensorsWriter(SafetensorsWriter&& other) noexcept
    : path_(other.path_),
      file_(std::exchange(other.file_, -1)),
      file_bytes_(other.file_bytes_),
      at_(std::move(other.at_)),
      end_(std::move(other.end_)) {}

SafetensorsWriter::~SafetensorsWriter() {
  if (file_ >= 0) close(file_);
}

absl::Status SafetensorsWriter::WriteAt(int64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = pwrite(file_, bytes.data(), bytes.size(), offset);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return absl::ErrnoToStatus(errno, absl::StrCat(path_, " cannot be written"));
    bytes = bytes.subspan(static_cast<size_t>(written));
    offset += written;
  }
  return absl::OkStatus();
}

absl::Status SafetensorsWriter::Append(size_t index, std::span<const std::byte> bytes) {
  EDDY_CHECK_LE(at_[index] + std::ssize(bytes), end_[index]);
  const int64_t offset = at_[index];
  at_[index] += std::ssize(bytes);
  return WriteAt(offset, bytes);
}

absl::Status SafetensorsWriter::Finish() {
  for (size_t i = 0; i < at_.size(); ++i) EDDY_CHECK_EQ(at_[i], end_[i]) << "of tensor " << i;
  const int error = fsync(file_) == 0 ? 0 : errno;
  const bool closed = close(std::exchange(file_, -1)) == 0;
  if (error != 0) return absl::ErrnoToStatus(error, absl::StrCat(path_, " cannot be written"));
  if (!closed) return absl::ErrnoToStatus(errno, absl::StrCat(path_, " cannot be written"));
  return absl::OkStatus();
}

}  // namespace eddy
