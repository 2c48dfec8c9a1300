// SPDX-License-Identifier: Apache-2.0
// CpuTarget: the instruction sets the kernels are compiled for, the x86-64 levels of the psABI.
#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "kernels/cpu/ops.h"

namespace eddy::cpu {

enum class CpuTarget { kV2 = 2, kV3 = 3, kV4 = 4 };

const char* CpuTargetName(CpuTarget target);
const Ops& OpsOf(CpuTarget target);

// By CPUID, and by what the operating system saves at a context switch.
bool MachineHas(CpuTarget target);

// "auto" is the best the machine has. INVALID_ARGUMENT for an unknown name, FAILED_PRECONDITION for
// one that this machine cannot run.
absl::StatusOr<CpuTarget> PickCpuTarget(std::string_view name);

}  // namespace eddy::cpu
