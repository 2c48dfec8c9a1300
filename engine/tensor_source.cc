// SPDX-License-Identifier: Apache-2.0
#include "engine/tensor_source.h"

#include <algorithm>
#include <bit>

namespace eddy {
namespace {

// The loops below are simple enough for a compiler to take several numbers at a time.

template <typename Bits>
Bits BitsAt(const std::byte* data, int64_t i) {
  Bits bits;
  std::memcpy(&bits, data + i * static_cast<int64_t>(sizeof(bits)), sizeof(bits));
  return bits;
}

// The largest of the bits without their sign; finite numbers are ordered like their bits.
template <typename Bits>
Bits LargestMagnitude(const std::byte* data, int64_t begin, int64_t end) {
  constexpr auto kMagnitude = std::numeric_limits<Bits>::max();  // Bits is signed
  Bits largest = 0;
  for (int64_t i = begin; i < end; ++i) {
    largest = std::max(largest, static_cast<Bits>(BitsAt<Bits>(data, i) & kMagnitude));
  }
  return largest;
}

}  // namespace

float F16ToF32(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
  const uint32_t exponent = (half >> 10) & 0x1fu;
  const uint32_t fraction = half & 0x3ffu;
  if (exponent == 0x1f) return std::bit_cast<float>(sign | 0x7f800000u | fraction << 13);
  if (exponent != 0) return std::bit_cast<float>(sign | (exponent + 112) << 23 | fraction << 13);
  const float tiny = static_cast<float>(fraction) * 0x1p-24f;  // subnormal or zero; exact
  return sign != 0 ? -tiny : tiny;
}

void CopyNumbers(const StoredTensor& tensor, int64_t begin, std::span<float> out) {
  const std::byte* data = tensor.data.data();
  const auto count = static_cast<int64_t>(out.size());
  switch (tensor.type) {
    case StoredType::kF32:
      if (count > 0) std::memcpy(out.data(), data + begin * 4, out.size_bytes());
      return;
    case StoredType::kBF16:
      for (int64_t i = 0; i < count; ++i) {
        out[static_cast<size_t>(i)] = Bf16ToF32(BitsAt<uint16_t>(data, begin + i));
      }
      return;
    case StoredType::kF16:
      for (int64_t i = 0; i < count; ++i) {
        out[static_cast<size_t>(i)] = F16ToF32(BitsAt<uint16_t>(data, begin + i));
      }
      return;
    case StoredType::kI8:
    case StoredType::kU8:
      break;
  }
  EDDY_CHECK(false) << StoredTypeName(tensor.type);
}

bool AllFinite(const StoredTensor& tensor, int64_t begin, int64_t end, DType dtype) {
  const std::byte* data = tensor.data.data();
  switch (tensor.type) {
    case StoredType::kF32:
      return LargestMagnitude<int32_t>(data, begin, end) <
             (dtype == DType::kBF16 ? 0x7f7f8000 : 0x7f800000);
    case StoredType::kBF16:
      return LargestMagnitude<int16_t>(data, begin, end) < 0x7f80;
    case StoredType::kF16:
      return LargestMagnitude<int16_t>(data, begin, end) < 0x7c00;
    case StoredType::kI8:
    case StoredType::kU8:
      break;
  }
  EDDY_CHECK(false) << StoredTypeName(tensor.type);
  return false;
}

const char* StoredTypeName(StoredType type) {
  switch (type) {
    case StoredType::kF32:
      return "F32";
    case StoredType::kF16:
      return "F16";
    case StoredType::kBF16:
      return "BF16";
    case StoredType::kI8:
      return "I8";
    case StoredType::kU8:
      return "U8";
  }
  return "?";
}

const StoredTensor* TensorSource::Find(std::string_view name) const {
  const auto found = tensors().find(name);
  return found == tensors().end() ? nullptr : &found->second;
}

const StoredTensor* TensorSource::Provide(std::string_view name, const Shape&, const ValueRange&,
                                          MadeTensor*) const {
  return Find(name);
}

void TensorSource::Release(std::span<const std::byte>) const {}

}  // namespace eddy
