// SPDX-License-Identifier: Apache-2.0
// The gated feed-forward layer (2002.05202): change = W_down (silu(W_gate x) (W_up x)).
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "engine/sublayers/stack.h"
#include "engine/weights.h"

namespace eddy {

// PREFIX gate_proj.weight and up_proj.weight [inner, D], or both in one gate_proj.weight
// [2 inner, D] (fla until 2025), and down_proj.weight [D, inner].
std::unique_ptr<Sublayer> ReadSwiGlu(Weights& weights, const std::string& prefix,
                                     int64_t hidden_size, int64_t inner_size);

}  // namespace eddy
