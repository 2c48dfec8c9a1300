// SPDX-License-Identifier: Apache-2.0
// CpuBackend: the Backend on this machine's processor. Its ops are done when they return.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "kernels/backend.h"

namespace eddy::cpu {

// Numeric path `fma`: the same bits on every target and with every thread count.
absl::StatusOr<std::unique_ptr<Backend>> MakeCpuBackend(const BackendOptions& options);

}  // namespace eddy::cpu
