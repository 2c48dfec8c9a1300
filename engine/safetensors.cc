// SPDX-License-Identifier: Apache-2.0
#include "engine/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/json.h"
#include "kernels/status_macros.h"

namespace eddy {
namespace {

static_assert(std::endian::native == std::endian::little, "the numbers are read in place");

constexpr int64_t kLengthBytes = 8;

// The unsigned number in a JSON value, or nothing when it is another kind of value or beyond int64.
std::optional<int64_t> Unsigned(const nlohmann::json& value) {
  if (!value.is_number_unsigned()) return std::nullopt;
  const uint64_t number = value.get<uint64_t>();
  if (number > static_cast<uint64_t>(INT64_MAX)) return std::nullopt;
  return static_cast<int64_t>(number);
}

Shape MakeShape(const std::vector<int64_t>& dims) {
  switch (dims.size()) {
    case 0:
      return {};
    case 1:
      return {dims[0]};
    case 2:
      return {dims[0], dims[1]};
    case 3:
      return {dims[0], dims[1], dims[2]};
    default:
      return {dims[0], dims[1], dims[2], dims[3]};
  }
}

// One header entry, with `context` ("FILE: tensor NAME") before every complaint.
class EntryReader {
 public:
  EntryReader(const nlohmann::json& entry, std::span<const std::byte> data, std::string context)
      : entry_(entry), data_(data), context_(std::move(context)) {}

  absl::StatusOr<StoredTensor> Read() const {
    if (!entry_.is_object()) return Error("is ", Printed(entry_), ", expected an object");
    StoredTensor tensor;
    EDDY_ASSIGN_OR_RETURN(tensor.type, Type());
    EDDY_ASSIGN_OR_RETURN(tensor.shape, ReadShape());
    EDDY_ASSIGN_OR_RETURN(tensor.data, Data(tensor));
    return tensor;
  }

 private:
  template <typename... Parts>
  absl::Status Error(const Parts&... parts) const {
    return absl::InvalidArgumentError(absl::StrCat(context_, " ", parts...));
  }

  absl::StatusOr<StoredType> Type() const {
    const auto dtype = entry_.find("dtype");
    if (dtype == entry_.end()) return Error("has no dtype");
    for (StoredType type : {StoredType::kF32, StoredType::kF16, StoredType::kBF16, StoredType::kI8,
                            StoredType::kU8}) {
      if (*dtype == StoredTypeName(type)) return type;
    }
    return Error("has dtype ", Printed(*dtype), ", expected F32, F16, BF16, I8 or U8");
  }

  absl::StatusOr<Shape> ReadShape() const {
    const auto shape = entry_.find("shape");
    if (shape == entry_.end()) return Error("has no shape");
    if (!shape->is_array()) return Error("has shape ", Printed(*shape), ", expected an array");
    if (shape->size() > static_cast<size_t>(Shape::kRankMax)) {
      return Error("has ", shape->size(), " dimensions, at most ", Shape::kRankMax,
                   " are supported");
    }
    std::vector<int64_t> dims;
    int64_t element_count = 1;
    for (const nlohmann::json& value : *shape) {
      const std::optional<int64_t> dim = Unsigned(value);
      if (!dim)
        return Error("has the dimension ", Printed(value),
                     ", expected a whole number of at least 0");
      // A 0 must not hide the size of its neighbours: their product is computed elsewhere.
      const int64_t factor = std::max<int64_t>(*dim, 1);
      if (factor > Safetensors::kElementCountMax / element_count) {
        return Error("has shape ", Printed(*shape), ", more than ", Safetensors::kElementCountMax,
                     " elements");
      }
      element_count *= factor;
      dims.push_back(*dim);
    }
    return MakeShape(dims);
  }

  absl::StatusOr<std::span<const std::byte>> Data(const StoredTensor& tensor) const {
    const auto offsets = entry_.find("data_offsets");
    if (offsets == entry_.end()) return Error("has no data_offsets");
    std::optional<int64_t> begin, end;
    if (offsets->is_array() && offsets->size() == 2) {
      begin = Unsigned((*offsets)[0]);
      end = Unsigned((*offsets)[1]);
    }
    if (!begin || !end) {
      return Error("has data_offsets ", Printed(*offsets),
                   ", expected two whole numbers of at least 0");
    }
    if (*begin > *end)
      return Error("has data_offsets ", Printed(*offsets), ", which end before they begin");
    if (*end > static_cast<int64_t>(data_.size())) {
      return Error("has data_offsets ", Printed(*offsets), ", but the file holds ", data_.size(),
                   " bytes of data: it is truncated or its header is wrong");
    }
    const int64_t bytes = tensor.shape.element_count() * StoredTypeBytes(tensor.type);
    if (*end - *begin != bytes) {
      return Error("has ", *end - *begin, " bytes of data, expected ", bytes, " for ",
                   StoredTypeName(tensor.type), " ", tensor.shape.ToString());
    }
    return data_.subspan(static_cast<size_t>(*begin), static_cast<size_t>(bytes));
  }

  const nlohmann::json& entry_;
  std::span<const std::byte> data_;
  std::string context_;
};

// The tensors must tile the data: a byte that two tensors share or none has is a wrong offset.
absl::Status CheckTiling(const std::map<std::string, StoredTensor, std::less<>>& tensors,
                         std::span<const std::byte> data, const std::string& file) {
  std::vector<std::pair<std::span<const std::byte>, const std::string*>> parts;
  for (const auto& [name, tensor] : tensors) parts.emplace_back(tensor.data, &name);
  std::sort(parts.begin(), parts.end(), [](const auto& a, const auto& b) {
    return std::pair(a.first.data(), a.first.size()) < std::pair(b.first.data(), b.first.size());
  });
  const std::byte* end = data.data();
  for (const auto& [part, name] : parts) {
    if (part.data() != end) {
      return absl::InvalidArgumentError(absl::StrCat(
          file, ": tensor ", Quoted(*name), " begins at byte ", part.data() - data.data(),
          " of the data, expected ", end - data.data(), ", where the one before it ends"));
    }
    end = part.data() + part.size();
  }
  if (end != data.data() + data.size()) {
    return absl::InvalidArgumentError(absl::StrCat(file, " has ", data.data() + data.size() - end,
                                                   " bytes after its last tensor, expected none"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Safetensors> Safetensors::Open(const std::string& path) {
  EDDY_ASSIGN_OR_RETURN(MappedFile mapping, MappedFile::Open(path));
  EDDY_ASSIGN_OR_RETURN(Safetensors file, Parse(mapping.bytes(), path));
  file.mapping_ = std::move(mapping);
  return file;
}

void Safetensors::Release(std::span<const std::byte> part) const {
  if (mapping_) mapping_->Release(part);
}

absl::StatusOr<Safetensors> Safetensors::Parse(std::span<const std::byte> bytes,
                                               const std::string& file) {
  const int64_t file_bytes = static_cast<int64_t>(bytes.size());
  if (file_bytes < kLengthBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        file, " has ", file_bytes, " bytes, expected a header length of 8 bytes and more"));
  }
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof(length));
  if (length > static_cast<uint64_t>(kHeaderBytesMax)) {
    return absl::InvalidArgumentError(absl::StrCat(file, " says its header has ", length,
                                                   " bytes, at most ", kHeaderBytesMax,
                                                   " are accepted"));
  }
  const int64_t header_bytes = static_cast<int64_t>(length);
  if (header_bytes > file_bytes - kLengthBytes) {
    return absl::InvalidArgumentError(absl::StrCat(file, " says its header has ", header_bytes,
                                                   " bytes, but only ", file_bytes - kLengthBytes,
                                                   " follow: it is truncated"));
  }
  const std::string_view header(reinterpret_cast<const char*>(bytes.data()) + kLengthBytes, length);
  if (!header.starts_with('{')) {
    return absl::InvalidArgumentError(absl::StrCat(
        file, " has a header that does not begin with '{': it is not a safetensors file"));
  }
  EDDY_ASSIGN_OR_RETURN(const nlohmann::json entries, ParseJson(header, file));
  const auto data = bytes.subspan(static_cast<size_t>(kLengthBytes + header_bytes));
  Safetensors result;
  result.file_ = file;
  result.file_bytes_ = file_bytes;
  for (const auto& [name, entry] : entries.items()) {
    if (name == "__metadata__") continue;
    EDDY_ASSIGN_OR_RETURN(
        StoredTensor tensor,
        EntryReader(entry, data, absl::StrCat(file, ": tensor ", Quoted(name))).Read());
    result.tensors_.emplace(name, tensor);
  }
  if (result.tensors_.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(file, " holds no tensor"));
  }
  EDDY_RETURN_IF_ERROR(CheckTiling(result.tensors_, data, file));
  return result;
}

}  // namespace eddy
