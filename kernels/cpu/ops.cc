// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/ops.h"

#include "kernels/cpu/kernels.h"

namespace eddy::cpu::EDDY_TARGET {

const Ops kOps = {
    .matmul = &MatMul,
    .matmul_panel_block = &MatMulPanelBlock,
    .layer_norm = &LayerNorm,
    .activate = &Activate,
    .embed_row = &EmbedRow,
    .sinusoid_row = &SinusoidRow,
    .recurrence = &Recurrence,
    .block_max = &BlockMax,
    .exp_sum = &ExpSum,
};

}  // namespace eddy::cpu::EDDY_TARGET
