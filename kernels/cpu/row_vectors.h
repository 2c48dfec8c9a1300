// SPDX-License-Identifier: Apache-2.0
// Walks a row of numbers in vectors. Included by kernel sources only.
#pragma once

#include <cstdint>

#include "kernels/cpu/ops.h"
#include "kernels/cpu/simd.h"

namespace eddy::cpu::EDDY_TARGET {

// In place of a number of lanes: all of them, without a mask.
struct AllSixteen {};
inline F32x16 LoadPartial(const float* p, AllSixteen) { return Load(p); }
inline void StorePartial(float* p, F32x16 x, AllSixteen) { Store(p, x); }
inline F32x16 KeepFirst(F32x16 x, AllSixteen) { return x; }

// Calls fn(index, lanes) for each vector of [begin, end), `lanes` AllSixteen or, in the last one,
// the number that is left.
template <typename Fn>
inline void ForEachVector(int64_t begin, int64_t end, const Fn& fn) {
  int64_t i = begin;
  for (; i + kLanes <= end; i += kLanes) fn(i, AllSixteen());
  if (i < end) fn(i, end - i);
}

}  // namespace eddy::cpu::EDDY_TARGET
