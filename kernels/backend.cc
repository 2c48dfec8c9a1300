// SPDX-License-Identifier: Apache-2.0
#include "kernels/backend.h"

#include "kernels/cpu/cpu_backend.h"

namespace eddy {

void Buffer::Free() {
  if (data_ != nullptr) backend_->Free(data_, bytes_);
  data_ = nullptr;
  bytes_ = 0;
}

absl::StatusOr<std::unique_ptr<Backend>> MakeBackend(const BackendOptions& options) {
  if (options.backend != "auto" && options.backend != "cpu") {
    return absl::InvalidArgumentError("backend is \"" + options.backend +
                                      "\"; it must be one of auto, cpu");
  }
  return cpu::MakeCpuBackend(options);
}

}  // namespace eddy
