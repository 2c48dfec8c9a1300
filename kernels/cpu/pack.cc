// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/pack.h"

#include <algorithm>
#include <bit>

#include "kernels/cpu/ops.h"

namespace eddy::cpu {
namespace {

uint32_t BitsAt(const Tensor& host, int64_t index) {
  if (host.dtype() == DType::kBF16) {
    return static_cast<uint32_t>(static_cast<const uint16_t*>(host.data())[index]) << 16;
  }
  return static_cast<const uint32_t*>(host.data())[index];
}

// Words of one panel.
int64_t PanelWords(DType dtype, int64_t in_size) {
  return kLanes * (dtype == DType::kBF16 ? (in_size + 1) / 2 : in_size);
}

}  // namespace

uint16_t F32ToBf16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>(bits >> 16 | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

int64_t PanelCount(int64_t out_size) { return (out_size + kLanes - 1) / kLanes; }

int64_t PackedBytes(DType dtype, int64_t out_size, int64_t in_size) {
  return PanelCount(out_size) * PanelWords(dtype, in_size) * 4;
}

void PackPanel(const Tensor& host, DType dtype, int64_t panel, void* packed) {
  const int64_t in_size = host.dim(1);
  const int64_t lanes = std::min(kLanes, host.dim(0) - panel * kLanes);
  auto* words = static_cast<uint32_t*>(packed) + panel * PanelWords(dtype, in_size);
  for (int64_t lane = 0; lane < lanes; ++lane) {
    const int64_t row = (panel * kLanes + lane) * in_size;
    for (int64_t k = 0; k < in_size; ++k) {
      const uint32_t bits = BitsAt(host, row + k);
      if (dtype == DType::kF32) {
        words[k * kLanes + lane] = bits;
      } else {
        const uint32_t half = F32ToBf16(std::bit_cast<float>(bits));
        words[k / 2 * kLanes + lane] |= half << (k % 2 * 16);
      }
    }
  }
}

}  // namespace eddy::cpu
