// SPDX-License-Identifier: Apache-2.0
// The packed form of a weight matrix: panels of 16 outputs, each contiguous over all inputs.
//
// A panel is a header (the scales of quantised formats) and units of 64 bytes. One unit u holds,
// for output `lane` of the panel:
//   kF32      1 input: float `lane`
//   kBF16, kBF16Dot  2 inputs: word `lane` has input 2u in its low half, 2u + 1 in its high half
//   kInt8     4 inputs: byte i of 16-bit half 2 lane + j has input 4u + 2i + j, plus 128
//   kInt4     8 inputs: nibble i of 16-bit half 2 lane + j has input 8u + 2i + j, plus 8
//   kInt8Dot  4 inputs: byte 4 lane + j has input 4u + j, plus 128
// Header of kInt8 and kInt8Dot: 16 floats, the scale of each output. Of kInt4: the words of groups
// 2g and 2g + 1 have the scale of `lane` as bf16 in their low and high half.
// Outputs and inputs beyond the last are zero. Buffers are 64-byte aligned.
#pragma once

#include <cstdint>

#include "kernels/bf16.h"
#include "kernels/cpu/ops.h"
#include "kernels/quantise.h"
#include "kernels/tensor.h"

namespace eddy::cpu {

struct PanelLayout {
  int64_t unit_inputs = 0;  // inputs of a unit
  int64_t unit_count = 0;
  int64_t header_bytes = 0;
  int64_t panel_bytes = 0;

  int64_t padded_size() const { return unit_inputs * unit_count; }
};
PanelLayout PanelLayoutOf(MatMulFormat format, int64_t in_size);
int64_t PanelCount(int64_t out_size);
int64_t PackedBytes(MatMulFormat format, int64_t out_size, int64_t in_size);

// Writes one panel of `host` [out, in] (f32 or bf16, finite) into `packed`, which starts out
// zeroed; int8 and int4 by the rule of kernels/quantise.h.
void PackPanel(const Tensor& host, MatMulFormat format, int64_t panel, void* packed);
// The same of weights that are quantised already; `format` is one of their type.
void PackPanel(const QuantisedMatrix& host, MatMulFormat format, int64_t panel, void* packed);

}  // namespace eddy::cpu
