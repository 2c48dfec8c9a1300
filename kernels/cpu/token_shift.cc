// SPDX-License-Identifier: Apache-2.0
#include <cstdint>

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/row_vectors.h"
#include "kernels/cpu/simd.h"

namespace eddy::cpu::EDDY_TARGET {
namespace {

// One token's columns: all mixes of x and the token before it.
void ShiftToken(const TokenShiftArgs& args, int64_t token, const float* before,
                int64_t column_begin, int64_t column_end) {
  const float* x = args.x + token * args.size;
  float* out = args.out + token * args.size;
  const int64_t out_stride = args.token_count * args.size;
  ForEachVector(column_begin, column_end, [&](int64_t i, auto lanes) {
    const F32x16 now = LoadPartial(x + i, lanes);
    const F32x16 difference = LoadPartial(before + i, lanes) - now;
    for (int64_t mix = 0; mix < args.mix_count; ++mix) {
      const F32x16 factor = LoadPartial(args.mix + mix * args.size + i, lanes);
      StorePartial(out + mix * out_stride + i, Fma(difference, factor, now), lanes);
    }
  });
}

}  // namespace

void TokenShift(const TokenShiftArgs& args, int64_t column_begin, int64_t column_end) {
  for (int64_t row = 0; row < args.row_count; ++row) {
    const int64_t begin = args.token_begin[row];
    const int64_t end = args.token_begin[row + 1];
    if (begin == end) continue;
    auto* state = reinterpret_cast<float*>(args.state + args.slot[row] * args.state_slot_bytes);
    for (int64_t token = begin; token < end; ++token) {
      const float* before = token == begin ? state : args.x + (token - 1) * args.size;
      ShiftToken(args, token, before, column_begin, column_end);
    }
    const float* last = args.x + (end - 1) * args.size;
    ForEachVector(column_begin, column_end, [&](int64_t i, auto lanes) {
      StorePartial(state + i, LoadPartial(last + i, lanes), lanes);
    });
  }
}

}  // namespace eddy::cpu::EDDY_TARGET
