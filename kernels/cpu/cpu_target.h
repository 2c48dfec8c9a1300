// SPDX-License-Identifier: Apache-2.0
// CpuTarget: the instruction sets the kernels are compiled for: the x86-64 levels of the psABI, and
// v4 with the dot products of bf16 and of 8 and 16-bit integers (AVX512_BF16, AVX512_VNNI).
#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "kernels/cpu/ops.h"

namespace eddy::cpu {

enum class CpuTarget { kV2, kV3, kV4, kV4Dot };

const char* CpuTargetName(CpuTarget target);
const Ops& OpsOf(CpuTarget target);

// By CPUID, and by what the operating system saves at a context switch.
bool MachineHas(CpuTarget target);

// "auto" is the best the machine has. INVALID_ARGUMENT for an unknown name, FAILED_PRECONDITION for
// one that this machine cannot run.
absl::StatusOr<CpuTarget> PickCpuTarget(std::string_view name);

}  // namespace eddy::cpu
