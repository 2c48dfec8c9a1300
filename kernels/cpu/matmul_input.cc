// SPDX-License-Identifier: Apache-2.0
#include <cstdint>

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/simd.h"

namespace eddy::cpu::EDDY_TARGET {
namespace {

// Calls fn(index, vector) for the vectors of a row from `begin` on, zeros behind its end up to
// `end`.
template <typename Fn>
inline void ForEachInput(const MatMulInputArgs& args, int64_t row, int64_t begin, int64_t end,
                         const Fn& fn) {
  const float* x = args.x + row * args.in_size;
  const int64_t size = end < args.in_size ? end : args.in_size;
  int64_t i = begin;
  if (args.difference == nullptr) {
    for (; i + kLanes <= size; i += kLanes) fn(i, Load(x + i));
    if (i < size) fn(i, LoadPartial(x + i, size - i));
  } else {
    const float* difference = args.difference + row * args.in_size;
    const float* mix = args.mix + row * args.mix_stride;
    for (; i + kLanes <= size; i += kLanes) {
      fn(i, Fma(Load(difference + i), Load(mix + i), Load(x + i)));
    }
    if (i < size) {
      const int64_t left = size - i;
      fn(i, Fma(LoadPartial(difference + i, left), LoadPartial(mix + i, left),
                LoadPartial(x + i, left)));
    }
  }
  if (i < size) i += kLanes;
  for (; i < end; i += kLanes) fn(i, Zero());
}

struct RowRange {
  float max;    // of the magnitudes
  float taint;  // 0, or NaN when a number is not finite
};

RowRange RangeOf(const MatMulInputArgs& args, int64_t row) {
  F32x16 max = Zero();
  F32x16 taint = Zero();
  ForEachInput(args, row, 0, args.in_size, [&](int64_t, F32x16 v) {
    max = Max(Abs(v), max);
    taint = Fma(v, Zero(), taint);
  });
  return {ReduceMax(max), ReduceAdd(taint)};
}

int32_t SumOf(I32x16 x) {
  alignas(64) float lanes[kLanes];
  Store(lanes, ToF32(x));
  uint32_t sum = 0;  // wraps around where a row is not finite
  for (const float lane : lanes) sum += __builtin_bit_cast(uint32_t, lane);
  return static_cast<int32_t>(sum);
}

// One scale for the row: its largest magnitude becomes `limit`.  store(index, integers)
template <typename StoreFn>
void Quantise(const MatMulInputArgs& args, int64_t row, float limit, const StoreFn& store) {
  constexpr float kTiny = 1e-30f;  // the inverse must be finite; such a row counts as zero
  const RowRange range = RangeOf(args, row);
  const bool zero = !(range.max >= kTiny) || range.taint != 0.0f;
  const F32x16 inverse = Set(zero ? 0.0f : limit / range.max);
  int32_t* block_sum = args.block_sum + row * args.block_count;
  for (int64_t begin = 0; begin < args.padded_size; begin += args.block_size) {
    const int64_t end =
        begin + args.block_size < args.padded_size ? begin + args.block_size : args.padded_size;
    I32x16 sum = SetI32(0);
    ForEachInput(args, row, begin, end, [&](int64_t i, F32x16 v) {
      const I32x16 integers = RoundToI32(v * inverse);
      store(i, integers);
      sum = sum + integers;
    });
    *block_sum++ = SumOf(sum);
  }
  args.row_scale[row] = (zero ? 0.0f : range.max / limit) + range.taint;
}

}  // namespace

void MatMulInput(const MatMulInputArgs& args, int64_t row_begin, int64_t row_end) {
  for (int64_t row = row_begin; row < row_end; ++row) {
    uint32_t* words = args.words + row * args.word_stride;
    switch (args.format) {
      case MatMulFormat::kInt8:
      case MatMulFormat::kInt4: {
        auto* out = reinterpret_cast<int16_t*>(words);
        Quantise(args, row, 32767.0f, [&](int64_t i, I32x16 v) { StoreI16(out + i, v); });
        break;
      }
#if EDDY_TARGET_LEVEL >= 5
      case MatMulFormat::kInt8Dot: {
        auto* out = reinterpret_cast<int8_t*>(words);
        Quantise(args, row, 127.0f, [&](int64_t i, I32x16 v) { StoreI8(out + i, v); });
        break;
      }
      case MatMulFormat::kBF16Dot: {
        auto* out = reinterpret_cast<uint16_t*>(words);
        ForEachInput(args, row, 0, args.padded_size,
                     [&](int64_t i, F32x16 v) { StoreBf16(out + i, v); });
        break;
      }
#endif
      default: {
        auto* out = reinterpret_cast<float*>(words);
        ForEachInput(args, row, 0, args.padded_size,
                     [&](int64_t i, F32x16 v) { Store(out + i, v); });
        break;
      }
    }
  }
}

}  // namespace eddy::cpu::EDDY_TARGET
