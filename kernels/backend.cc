// SPDX-License-Identifier: Apache-2.0
#include "kernels/backend.h"

#include "kernels/cpu/cpu_backend.h"
#include "kernels/status_macros.h"

namespace eddy {

void Buffer::Free() {
  if (data_ != nullptr) backend_->Free(data_, bytes_);
  data_ = nullptr;
  bytes_ = 0;
}

absl::StatusOr<Matrix> Backend::PackMatrix(const Tensor& host, DType dtype) {
  EDDY_CHECK(host.present() && host.shape().rank() == 2) << host.shape().ToString();
  if (host.dtype() != DType::kF32 && host.dtype() != DType::kBF16) {
    return absl::InvalidArgumentError(std::string("weights to pack are ") +
                                      DTypeName(host.dtype()) + "; they must be f32 or bf16");
  }
  EDDY_ASSIGN_OR_RETURN(Matrix matrix, AllocateMatrix(host.dim(0), host.dim(1), dtype));
  PackRows(host, 0, matrix);
  return matrix;
}

absl::StatusOr<Matrix> Backend::PackQuantised(const QuantisedMatrix& host) {
  EDDY_ASSIGN_OR_RETURN(Matrix matrix, AllocateMatrix(host.out_size, host.in_size, host.dtype));
  PackQuantisedRows(host, 0, matrix);
  return matrix;
}

absl::StatusOr<std::unique_ptr<Backend>> MakeBackend(const BackendOptions& options) {
  if (options.backend != "auto" && options.backend != "cpu") {
    return absl::InvalidArgumentError("backend is \"" + options.backend +
                                      "\"; it must be one of auto, cpu");
  }
  return cpu::MakeCpuBackend(options);
}

}  // namespace eddy
