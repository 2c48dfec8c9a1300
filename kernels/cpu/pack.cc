// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/pack.h"

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <vector>

#include "kernels/check.h"

namespace eddy::cpu {
namespace {

constexpr int64_t kUnitBytes = 64;

static_assert(kInt4GroupSize == kInt4GroupInputs);

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

float ValueAt(const Tensor& host, int64_t index) {
  if (host.dtype() == DType::kBF16) {
    return Bf16ToF32(static_cast<const uint16_t*>(host.data())[index]);
  }
  return static_cast<const float*>(host.data())[index];
}

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

// One output, quantised.
struct QuantisedRow {
  std::vector<int8_t> integers;  // [in]
  std::vector<float> scales;     // [ScaleCount]
};

void PlaceInt8(const QuantisedRow& row, bool dot, int64_t lane, std::byte* panel,
               std::byte* units) {
  reinterpret_cast<float*>(panel)[lane] = row.scales[0];
  for (int64_t k = 0; k < std::ssize(row.integers); ++k) {
    const int q = row.integers[static_cast<size_t>(k)];
    const int64_t place = lane * 4 + (dot ? k % 4 : k % 2 * 2 + k % 4 / 2);
    units[k / 4 * kUnitBytes + place] = static_cast<std::byte>(q + 128);
  }
}

void PlaceInt4(const QuantisedRow& row, int64_t lane, std::byte* panel, std::byte* units) {
  auto* scales = reinterpret_cast<uint16_t*>(panel);
  for (int64_t group = 0; group < std::ssize(row.scales); ++group) {
    scales[(group / 2 * kLanes + lane) * 2 + group % 2] =
        F32ToBf16(row.scales[static_cast<size_t>(group)]);
  }
  auto* halves = reinterpret_cast<uint16_t*>(units);
  for (int64_t k = 0; k < std::ssize(row.integers); ++k) {
    const auto nibble = static_cast<uint16_t>(row.integers[static_cast<size_t>(k)] + 8);
    uint16_t& out = halves[k / 8 * (kUnitBytes / 2) + lane * 2 + k % 2];
    out = static_cast<uint16_t>(out | nibble << (k % 8 / 2 * 4));
  }
}

void Place(const QuantisedRow& row, MatMulFormat format, int64_t lane, std::byte* panel,
           std::byte* units) {
  if (format == MatMulFormat::kInt4) {
    PlaceInt4(row, lane, panel, units);
  } else {
    PlaceInt8(row, format == MatMulFormat::kInt8Dot, lane, panel, units);
  }
}

QuantisedRow EmptyRow(DType dtype, int64_t in_size) {
  return {std::vector<int8_t>(static_cast<size_t>(in_size)),
          std::vector<float>(static_cast<size_t>(ScaleCount(dtype, in_size)))};
}

DType DTypeOf(MatMulFormat format) {
  return format == MatMulFormat::kInt4 ? DType::kI4 : DType::kI8;
}

void PackQuantised(const OutputRow& row, MatMulFormat format, int64_t lane, std::byte* panel,
                   std::byte* units) {
  std::vector<float> weights;
  weights.reserve(static_cast<size_t>(row.size));
  for (int64_t k = 0; k < row.size; ++k) weights.push_back(row[k]);
  QuantisedRow quantised = EmptyRow(DTypeOf(format), row.size);
  QuantiseOutput(DTypeOf(format), weights, quantised.integers, quantised.scales);
  Place(quantised, format, lane, panel, units);
}

}  // namespace

PanelLayout PanelLayoutOf(MatMulFormat format, int64_t in_size) {
  PanelLayout layout;
  layout.unit_inputs = UnitInputs(format);
  layout.unit_count = (in_size + layout.unit_inputs - 1) / layout.unit_inputs;
  if (format == MatMulFormat::kInt8 || format == MatMulFormat::kInt8Dot) layout.header_bytes = 64;
  if (format == MatMulFormat::kInt4) {
    layout.header_bytes = (ScaleCount(DType::kI4, in_size) + 1) / 2 * 64;
  }
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
      case MatMulFormat::kInt4:
        PackQuantised(row, format, lane, begin, units);
        break;
    }
  }
}

void PackPanel(const QuantisedMatrix& host, MatMulFormat format, int64_t panel, void* packed) {
  EDDY_CHECK(host.dtype == DTypeOf(format)) << DTypeName(host.dtype);
  const int64_t lanes = std::min(kLanes, host.out_size - panel * kLanes);
  const PanelLayout layout = PanelLayoutOf(format, host.in_size);
  auto* begin = static_cast<std::byte*>(packed) + panel * layout.panel_bytes;
  QuantisedRow row = EmptyRow(host.dtype, host.in_size);
  for (int64_t lane = 0; lane < lanes; ++lane) {
    const int64_t out = panel * kLanes + lane;
    LoadIntegers(host.dtype, host.integers + out * IntegerBytes(host.dtype, host.in_size),
                 row.integers);
    const float* scales = host.scales + out * std::ssize(row.scales);
    std::copy(scales, scales + row.scales.size(), row.scales.begin());
    Place(row, format, lane, begin, begin + layout.header_bytes);
  }
}

}  // namespace eddy::cpu
