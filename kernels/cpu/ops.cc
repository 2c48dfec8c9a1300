// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/ops.h"

#include "kernels/cpu/kernels.h"

namespace eddy::cpu::EDDY_TARGET {

const Ops kOps = {
    .matmul = &MatMul,
    .matmul_input = &MatMulInput,
    .matmul_panel_block = &MatMulPanelBlock,
    .normalise = &Normalise,
    .activate = &Activate,
    .gate = &Gate,
    .token_matmul = &TokenMatMul,
    .embed_row = &EmbedRow,
    .sinusoid_row = &SinusoidRow,
    .token_shift = &TokenShift,
    .short_convolution = &ShortConvolution,
    .make_decay = &MakeDecay,
    .hgrn2_prepare = &Hgrn2Prepare,
    .mamba2_prepare = &Mamba2Prepare,
    .rotate = &Rotate,
    .signed_softmax = &SignedSoftmax,
    .rwkv7_prepare = &Rwkv7Prepare,
    .rwkv7_finish = &Rwkv7Finish,
    .recurrence = &Recurrence,
    .block_max = &BlockMax,
    .exp_weights = &ExpWeights,
    .exp_sum = &ExpSum,
};

}  // namespace eddy::cpu::EDDY_TARGET
