// SPDX-License-Identifier: Apache-2.0
// The packed form of a weight matrix: panels of 16 outputs, each contiguous over all inputs.
//
//   f32:  panel p, input k: 16 floats, weights [16 p + lane][k].
//   bf16: panel p, inputs 2 j and 2 j + 1: 16 words; word `lane` has [16 p + lane][2 j] in its low
//   half and
//         [16 p + lane][2 j + 1] in its high half: two instructions widen it, and a bf16 dot
//         product takes it as is.
// Outputs beyond the last, and the input after an odd last one, are zero. 64-byte steps in a
// 64-byte aligned buffer.
#pragma once

#include <cstdint>

#include "kernels/tensor.h"

namespace eddy::cpu {

int64_t PackedBytes(DType dtype, int64_t out_size, int64_t in_size);
int64_t PanelCount(int64_t out_size);

// Writes one panel of `host` [out, in] (f32 or bf16) into `packed`, which starts out zeroed.
void PackPanel(const Tensor& host, DType dtype, int64_t panel, void* packed);

// To the nearest, ties to even; NaN stays NaN.
uint16_t F32ToBf16(float value);

}  // namespace eddy::cpu
