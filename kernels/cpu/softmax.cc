// SPDX-License-Identifier: Apache-2.0
#include <cstdint>

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/vector_math.h"

namespace eddy::cpu::EDDY_TARGET {

bool BlockMax(const float* x, int64_t count, float* block_max) {
  const F32x16 infinity = Set(__builtin_inff());
  Mask16 good = AllLanes();
  for (int64_t begin = 0; begin < count; begin += kLogitsBlock) {
    const int64_t end = begin + kLogitsBlock < count ? begin + kLogitsBlock : count;
    F32x16 largest = Set(-__builtin_inff());
    int64_t i = begin;
    for (; i + kLanes <= end; i += kLanes) {
      const F32x16 value = Load(x + i);
      good = good & Less(value, infinity);
      largest = Max(largest, value);
    }
    float tail = -__builtin_inff();
    bool tail_good = true;
    for (; i < end; ++i) {
      tail_good = tail_good && x[i] < __builtin_inff();
      tail = x[i] > tail ? x[i] : tail;
    }
    if (!tail_good) return false;
    const float most = ReduceMax(largest);
    block_max[begin / kLogitsBlock] = most > tail ? most : tail;
  }
  return All(good);
}

namespace {

// The sum of trunc(2^40 e) over the vectors of one block, e in [0, 1]: exact, as 2^20 e is split
// into an integer and a rest, and so is 2^20 times the rest.
class WeightSum {
 public:
  void Add(F32x16 e) {
    const F32x16 scaled = e * Set(kHalf);
    const I32x16 high = TruncToI32(scaled);
    const I32x16 low = TruncToI32((scaled - FromI32(high)) * Set(kHalf));
    high_ = high_ + high;
    low_ = low_ + low;
  }
  uint64_t Total() const {
    alignas(64) float high[kLanes];
    alignas(64) float low[kLanes];
    Store(high, ToF32(high_));
    Store(low, ToF32(low_));
    uint64_t total = 0;
    for (int64_t i = 0; i < kLanes; ++i) {
      total += (uint64_t{__builtin_bit_cast(uint32_t, high[i])} << 20) +
               __builtin_bit_cast(uint32_t, low[i]);
    }
    return total;
  }

 private:
  static constexpr float kHalf = 1048576.0f;  // 2^20
  I32x16 high_ = SetI32(0);
  I32x16 low_ = SetI32(0);
};

}  // namespace

uint64_t ExpWeights(const ExpWeightsArgs& args) {
  // exp(-28) < 2^-40: the weights of such a block are all zero.
  constexpr float kDepth = -28.0f;
  const F32x16 largest = Set(args.max);
  const F32x16 divisor = Set(args.temperature);
  uint64_t total = 0;
  for (int64_t begin = 0, index = 0; begin < args.count; begin += kLogitsBlock, ++index) {
    const int64_t end = begin + kLogitsBlock < args.count ? begin + kLogitsBlock : args.count;
    const bool zero = (args.block_max[index] - args.max) / args.temperature < kDepth;
    WeightSum sum;
    for (int64_t i = begin; i < end; i += kLanes) {
      const int64_t lanes = end - i < kLanes ? end - i : kLanes;
      F32x16 e = Zero();
      if (!zero) {
        e = KeepFirst(Exp((LoadPartial(args.x + i, lanes) - largest) / divisor), lanes);
        sum.Add(e);
      }
      StorePartial(args.exp + i, e, lanes);
    }
    args.block_weight[index] = sum.Total();
    total += args.block_weight[index];
  }
  return total;
}

double ExpSum(const float* x, int64_t count, float max, float temperature, float* out) {
  const F32x16 largest = Set(max);
  const F32x16 divisor = Set(temperature);
  double sum = 0.0;
  for (int64_t begin = 0; begin < count; begin += kLogitsBlock) {
    const int64_t end = begin + kLogitsBlock < count ? begin + kLogitsBlock : count;
    F32x16 block = Zero();
    int64_t i = begin;
    for (; i + kLanes <= end; i += kLanes) {
      const F32x16 value = Exp((Load(x + i) - largest) / divisor);
      Store(out + i, value);
      block = block + value;
    }
    if (i < end) {
      const F32x16 value =
          KeepFirst(Exp((LoadPartial(x + i, end - i) - largest) / divisor), end - i);
      StorePartial(out + i, value, end - i);
      block = block + value;
    }
    sum += static_cast<double>(ReduceAdd(block));
  }
  return sum;
}

}  // namespace eddy::cpu::EDDY_TARGET
