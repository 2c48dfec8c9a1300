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
