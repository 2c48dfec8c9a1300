// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/pack.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>

#include "kernels/check.h"

namespace eddy::cpu {
namespace {

constexpr int64_t kUnitBytes = 64;

int64_t UnitInputs(MatMulFormat format) {
  switch (format) {
    case MatMulFormat::kF32:
      return 1;
    case MatMulFormat::kBF16:
    case MatMulFormat::kBF16Dot:
      return 2;
    case MatMulFormat::kInt8:
    case MatMulFormat::kInt8Dot:
      return 4;
    case MatMulFormat::kInt4:
      return 8;
  }
  return 1;
}

int64_t GroupCount(int64_t in_size) { return (in_size + kInt4GroupSize - 1) / kInt4GroupSize; }

float ValueAt(const Tensor& host, int64_t index) {
  if (host.dtype() == DType::kBF16) {
    const uint16_t half = static_cast<const uint16_t*>(host.data())[index];
    return std::bit_cast<float>(static_cast<uint32_t>(half) << 16);
  }
  return static_cast<const float*>(host.data())[index];
}

float ValueOfBf16(uint16_t half) { return std::bit_cast<float>(static_cast<uint32_t>(half) << 16); }

// The weights of one output, from `begin` on.
struct OutputRow {
  const Tensor& host;
  int64_t begin;
  int64_t size;

  float operator[](int64_t k) const { return ValueAt(host, begin + k); }
};

void PackF32(const OutputRow& row, int64_t lane, std::byte* units) {
  auto* out = reinterpret_cast<float*>(units);
  for (int64_t k = 0; k < row.size; ++k) out[k * kLanes + lane] = row[k];
}

void PackBf16(const OutputRow& row, int64_t lane, std::byte* units) {
  auto* out = reinterpret_cast<uint16_t*>(units);
  for (int64_t k = 0; k < row.size; ++k) {
    out[(k / 2 * kLanes + lane) * 2 + k % 2] = F32ToBf16(row[k]);
  }
}

int Quantised(float value, float scale, int low, int high) {
  if (scale == 0.0f) return 0;
  return std::clamp(static_cast<int>(std::nearbyint(value / scale)), low, high);
}

void PackInt8(const OutputRow& row, bool dot, int64_t lane, std::byte* panel, std::byte* units) {
  float max = 0.0f;
  for (int64_t k = 0; k < row.size; ++k) max = std::max(max, std::abs(row[k]));
  const float scale = max / 127.0f;
  reinterpret_cast<float*>(panel)[lane] = scale;
  for (int64_t k = 0; k < row.size; ++k) {
    const int q = Quantised(row[k], scale, -127, 127);
    const int64_t place = dot ? lane * 4 + k % 4 : k % 4 / 2 * 32 + lane * 2 + k % 2;
    units[k / 4 * kUnitBytes + place] = static_cast<std::byte>(dot ? q + 128 : q);
  }
}

void PackInt4Group(const OutputRow& row, int64_t group, int64_t lane, std::byte* panel,
                   std::byte* units) {
  const int64_t begin = group * kInt4GroupSize;
  const int64_t end = std::min(row.size, begin + kInt4GroupSize);
  float extreme = 0.0f;
  for (int64_t k = begin; k < end; ++k) {
    if (std::abs(row[k]) > std::abs(extreme)) extreme = row[k];
  }
  // The extreme becomes -8: the range is -8 .. 7, and nothing is larger.
  const uint16_t half = F32ToBf16(extreme / -8.0f);
  const float scale = ValueOfBf16(half);
  reinterpret_cast<uint16_t*>(panel)[(group / 2 * kLanes + lane) * 2 + group % 2] = half;
  auto* halves = reinterpret_cast<uint16_t*>(units);
  for (int64_t k = begin; k < end; ++k) {
    const auto nibble = static_cast<uint16_t>(Quantised(row[k], scale, -8, 7) & 0xf);
    uint16_t& out = halves[k / 8 * (kUnitBytes / 2) + lane * 2 + k % 2];
    out = static_cast<uint16_t>(out | nibble << (k % 8 / 2 * 4));
  }
}

}  // namespace

uint16_t F32ToBf16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>(bits >> 16 | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

PanelLayout PanelLayoutOf(MatMulFormat format, int64_t in_size) {
  PanelLayout layout;
  layout.unit_inputs = UnitInputs(format);
  layout.unit_count = (in_size + layout.unit_inputs - 1) / layout.unit_inputs;
  if (format == MatMulFormat::kInt8 || format == MatMulFormat::kInt8Dot) layout.header_bytes = 64;
  if (format == MatMulFormat::kInt4) layout.header_bytes = (GroupCount(in_size) + 1) / 2 * 64;
  layout.panel_bytes = layout.header_bytes + layout.unit_count * kUnitBytes;
  return layout;
}

int64_t PanelCount(int64_t out_size) { return (out_size + kLanes - 1) / kLanes; }

int64_t PackedBytes(MatMulFormat format, int64_t out_size, int64_t in_size) {
  return PanelCount(out_size) * PanelLayoutOf(format, in_size).panel_bytes;
}

void PackPanel(const Tensor& host, MatMulFormat format, int64_t panel, void* packed) {
  const int64_t in_size = host.dim(1);
  const int64_t lanes = std::min(kLanes, host.dim(0) - panel * kLanes);
  const PanelLayout layout = PanelLayoutOf(format, in_size);
  auto* begin = static_cast<std::byte*>(packed) + panel * layout.panel_bytes;
  std::byte* units = begin + layout.header_bytes;
  for (int64_t lane = 0; lane < lanes; ++lane) {
    const OutputRow row = {host, (panel * kLanes + lane) * in_size, in_size};
    switch (format) {
      case MatMulFormat::kF32:
        PackF32(row, lane, units);
        break;
      case MatMulFormat::kBF16:
      case MatMulFormat::kBF16Dot:
        PackBf16(row, lane, units);
        break;
      case MatMulFormat::kInt8:
      case MatMulFormat::kInt8Dot:
        PackInt8(row, format == MatMulFormat::kInt8Dot, lane, begin, units);
        break;
      case MatMulFormat::kInt4:
        for (int64_t group = 0; group < GroupCount(in_size); ++group) {
          PackInt4Group(row, group, lane, begin, units);
        }
        break;
    }
  }
}

}  // namespace eddy::cpu
