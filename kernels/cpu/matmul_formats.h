// SPDX-License-Identifier: Apache-2.0
// How a tile of the matrix product reads each MatMulFormat. Included by matmul.cc only.
//
// A format says how one unit of a panel (64 bytes: 16 outputs and some inputs) becomes kWords
// vectors, and how such a vector and one word of x, broadcast, add to the sums of 16 outputs.
// Integer sums are exact and become floats after every kBlockUnits units, where the scale of the
// weights may change; those few additions have one order, too.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/ops.h"
#include "kernels/cpu/simd.h"

namespace eddy::cpu::EDDY_TARGET {

struct F32Format {
  static constexpr int kWords = 1;
  static constexpr bool kInteger = false;
  using Unit = F32x16;
  static Unit Read(const std::byte* p) { return Load(reinterpret_cast<const float*>(p)); }
  template <int kWord>
  static F32x16 Word(Unit unit) {
    return unit;
  }
  static F32x16 Broadcast(uint32_t x) { return Set(__builtin_bit_cast(float, x)); }
  static F32x16 Add(F32x16 sum, F32x16 weight, F32x16 x) { return Fma(x, weight, sum); }
};

// bf16 widened to f32: two inputs a unit.
struct Bf16Format : F32Format {
  static constexpr int kWords = 2;
  using Unit = const uint32_t*;  // loaded for each half anew: v3 has no registers for all of them
  static Unit Read(const std::byte* p) { return reinterpret_cast<const uint32_t*>(p); }
  template <int kWord>
  static F32x16 Word(Unit unit) {
    return kWord == 0 ? Low(LoadPairs(unit)) : High(LoadPairs(unit));
  }
};

// 16-bit integers of x: pairs of inputs in a word, two pairs a unit: the low and the high bytes of
// its 16-bit halves. Quantised weights are stored plus kOffset, without sign, which is quicker to
// unpack; a block starts from what that adds, kOffset times the sum of x, taken away. Sums of 32
// bits may wrap on the way: the last one fits.
struct Int8Format {
  static constexpr int kWords = 2;
  static constexpr bool kInteger = true;
  static constexpr int32_t kOffset = 128;
  static constexpr int64_t kBlockUnits = kInt8BlockSize / 4;
  using Unit = I32x16;
  static Unit Read(const std::byte* p) { return LoadI32(p); }
  template <int kWord>
  static I32x16 Word(Unit unit) {
    return kWord == 0 ? unit & SetI32(0x00ff00ff) : ShiftRightLogical16<8>(unit);
  }
  static I32x16 Broadcast(uint32_t x) { return SetI32(static_cast<int32_t>(x)); }
  static I32x16 Add(I32x16 sum, I32x16 weight, I32x16 x) { return DotI16(sum, weight, x); }
  static F32x16 AddBlock(F32x16 sum, I32x16 block, const std::byte* /*header*/, int64_t /*index*/) {
    return sum + FromI32(block);
  }
  static F32x16 PanelScale(const std::byte* header) {
    return Load(reinterpret_cast<const float*>(header));
  }
};

// As Int8Format, four pairs a unit: 16-bit halves of four nibbles, the pairs from the lowest up. A
// block has one scale for each output; the header has those of two blocks in a word, as bf16.
struct Int4Format {
  static constexpr int kWords = 4;
  static constexpr bool kInteger = true;
  static constexpr int32_t kOffset = 8;
  static constexpr int64_t kBlockUnits = kInt4GroupSize / 8;
  using Unit = I32x16;
  static Unit Read(const std::byte* p) { return LoadI32(p); }
  template <int kWord>
  static I32x16 Word(Unit unit) {
    if constexpr (kWord > 0) unit = ShiftRightLogical16<4 * kWord>(unit);
    return kWord < 3 ? unit & SetI32(0x000f000f) : unit;
  }
  static I32x16 Broadcast(uint32_t x) { return SetI32(static_cast<int32_t>(x)); }
  static I32x16 Add(I32x16 sum, I32x16 weight, I32x16 x) { return DotI16(sum, weight, x); }
  static F32x16 AddBlock(F32x16 sum, I32x16 block, const std::byte* header, int64_t index) {
    const auto* words = reinterpret_cast<const uint32_t*>(header) + index / 2 * kLanes;
    const Bf16Pairs scales = LoadPairs(words);
    return Fma(FromI32(block), index % 2 == 0 ? Low(scales) : High(scales), sum);
  }
  static F32x16 PanelScale(const std::byte* /*header*/) { return Set(1.0f); }
};

#if EDDY_TARGET_LEVEL >= 5
// bf16 of x: a pair of inputs in a word, one pair a unit.
struct Bf16DotFormat {
  static constexpr int kWords = 1;
  static constexpr bool kInteger = false;
  using Unit = I32x16;
  static Unit Read(const std::byte* p) { return LoadI32(p); }
  template <int kWord>
  static I32x16 Word(Unit unit) {
    return unit;
  }
  static I32x16 Broadcast(uint32_t x) { return SetI32(static_cast<int32_t>(x)); }
  static F32x16 Add(F32x16 sum, I32x16 weight, I32x16 x) { return DotBf16(sum, weight, x); }
};

// 8-bit integers of x, four inputs a word.
struct Int8DotFormat : Int8Format {
  static constexpr int kWords = 1;
  static constexpr int64_t kBlockUnits = kInt8DotBlockSize / 4;
  template <int kWord>
  static I32x16 Word(Unit unit) {
    return unit;
  }
  static I32x16 Add(I32x16 sum, I32x16 weight, I32x16 x) { return DotU8I8(sum, weight, x); }
};
#endif

}  // namespace eddy::cpu::EDDY_TARGET
