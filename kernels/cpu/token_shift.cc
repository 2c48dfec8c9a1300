// SPDX-License-Identifier: Apache-2.0
#include <cstdint>

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/row_vectors.h"
#include "kernels/cpu/simd.h"

namespace eddy::cpu::EDDY_TARGET {

void TokenShift(const TokenShiftArgs& args, int64_t row_begin, int64_t row_end) {
  for (int64_t row = row_begin; row < row_end; ++row) {
    const int64_t begin = args.token_begin[row];
    const int64_t end = args.token_begin[row + 1];
    if (begin == end) continue;
    auto* state = reinterpret_cast<float*>(args.state + args.slot[row] * args.state_slot_bytes);
    for (int64_t token = begin; token < end; ++token) {
      const float* x = args.x + token * args.size;
      const float* before = token == begin ? state : x - args.size;
      float* out = args.out + token * args.size;
      ForEachVector(0, args.size, [&](int64_t i, auto lanes) {
        StorePartial(out + i, LoadPartial(before + i, lanes) - LoadPartial(x + i, lanes), lanes);
      });
    }
    const float* last = args.x + (end - 1) * args.size;
    ForEachVector(0, args.size, [&](int64_t i, auto lanes) {
      StorePartial(state + i, LoadPartial(last + i, lanes), lanes);
    });
  }
}

}  // namespace eddy::cpu::EDDY_TARGET
