// SPDX-License-Identifier: Apache-2.0
#include <cstdint>

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/row_vectors.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/vector_math.h"

namespace eddy::cpu::EDDY_TARGET {
namespace {

// The inputs of one row: the W - 1 of the state, then those of its tokens.
struct RowInputs {
  const float* state;  // [W - 1, C]
  const float* x;      // [token, C]
  int64_t before;      // W - 1
  int64_t stride;      // C

  const float* At(int64_t i) const {
    return i < before ? state + i * stride : x + (i - before) * stride;
  }
};

}  // namespace

void ShortConvolution(const ShortConvolutionArgs& args, int64_t column_begin, int64_t column_end) {
  const int64_t stride = args.channel_count;
  for (int64_t row = 0; row < args.row_count; ++row) {
    const int64_t begin = args.token_begin[row];
    const int64_t count = args.token_begin[row + 1] - begin;
    if (count == 0) continue;
    auto* state = reinterpret_cast<float*>(args.state + args.slot[row] * args.state_slot_bytes);
    const RowInputs inputs = {state, args.x + begin * stride, args.width - 1, stride};
    for (int64_t t = 0; t < count; ++t) {
      float* out = args.out + (begin + t) * stride;
      ForEachVector(column_begin, column_end, [&](int64_t c, auto lanes) {
        F32x16 sum = args.bias == nullptr ? Zero() : LoadPartial(args.bias + c, lanes);
        for (int64_t i = 0; i < args.width; ++i) {
          const F32x16 weight = LoadPartial(args.weight + i * stride + c, lanes);
          sum = Fma(weight, LoadPartial(inputs.At(t + i) + c, lanes), sum);
        }
        StorePartial(out + c, sum * Sigmoid(sum), lanes);
      });
    }
    for (int64_t i = 0; i < inputs.before; ++i) {
      const float* from = inputs.At(count + i);  // at or behind what is written
      ForEachVector(column_begin, column_end, [&](int64_t c, auto lanes) {
        StorePartial(state + i * stride + c, LoadPartial(from + c, lanes), lanes);
      });
    }
  }
}

}  // namespace eddy::cpu::EDDY_TARGET
