// SPDX-License-Identifier: Apache-2.0
// What each kernel source defines in its target's namespace; the contracts are those of Ops. Kernel
// sources only.
#pragma once

#include <cstdint>

#include "kernels/cpu/ops.h"

namespace eddy::cpu::EDDY_TARGET {

void MatMul(const MatMulArgs& args, int64_t row_begin, int64_t row_end, int64_t panel_begin,
            int64_t panel_end);
void MatMulInput(const MatMulInputArgs& args, int64_t row_begin, int64_t row_end);
int64_t MatMulPanelBlock(int64_t row_count);
void Normalise(const NormArgs& args, int64_t row_begin, int64_t row_end);
void Activate(Activation f, const float* x, float* out, int64_t count);
void Gate(Activation f, const float* x, const float* y, float* out, int64_t count);
void TokenMatMul(const TokenMatMulArgs& args, int64_t token_begin, int64_t token_end);
void EmbedRow(const void* table_row, DType dtype, float* out, int64_t size);
void SinusoidRow(int64_t position, float* out, int64_t size);
void TokenShift(const TokenShiftArgs& args, int64_t row_begin, int64_t row_end);
void ShortConvolution(const ShortConvolutionArgs& args, int64_t column_begin, int64_t column_end);
void MakeDecay(const MakeDecayArgs& args, int64_t token_begin, int64_t token_end);
void Hgrn2Prepare(const Hgrn2PrepareArgs& args, int64_t token_begin, int64_t token_end);
void Mamba2Prepare(const Mamba2PrepareArgs& args, int64_t token_begin, int64_t token_end);
void Rotate(const RotateArgs& args, int64_t token_begin, int64_t token_end);
void SignedSoftmax(const float* x, float* out, int64_t row_count, int64_t size);
void Rwkv7Prepare(const Rwkv7PrepareArgs& args, int64_t item_begin, int64_t item_end);
void Rwkv7Finish(const Rwkv7FinishArgs& args, int64_t item_begin, int64_t item_end);
void Recurrence(const RecurrenceArgs& args, int64_t item_begin, int64_t item_end, float* tile);
bool BlockMax(const float* x, int64_t count, float* block_max);
uint64_t ExpWeights(const ExpWeightsArgs& args);
double ExpSum(const float* x, int64_t count, float max, float temperature, float* out);

}  // namespace eddy::cpu::EDDY_TARGET
