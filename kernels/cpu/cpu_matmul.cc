// SPDX-License-Identifier: Apache-2.0
#include <string>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/pack.h"
#include "kernels/status_macros.h"

namespace eddy::cpu {

template <typename Host>
absl::StatusOr<Matrix> CpuBackend::Pack(const Host& host, DType dtype, int64_t out_size,
                                        int64_t in_size) {
  Matrix matrix;
  matrix.out_size = out_size;
  matrix.in_size = in_size;
  matrix.dtype = dtype;
  const MatMulFormat format = FormatOf(path_, dtype);
  EDDY_ASSIGN_OR_RETURN(matrix.buffer, Allocate(PackedBytes(format, out_size, in_size)));
  pool_.ParallelFor(PanelCount(out_size), [&](int64_t panel, int) {
    PackPanel(host, format, panel, matrix.buffer.data());
  });
  return matrix;
}

absl::StatusOr<Matrix> CpuBackend::PackMatrix(const Tensor& host, DType dtype) {
  EDDY_CHECK(host.present() && host.shape().rank() == 2) << host.shape().ToString();
  EDDY_CHECK(host.dim(0) >= 1 && host.dim(1) >= 1) << host.shape().ToString();
  if (host.dtype() != DType::kF32 && host.dtype() != DType::kBF16) {
    return absl::InvalidArgumentError(std::string("weights to pack are ") +
                                      DTypeName(host.dtype()) + "; they must be f32 or bf16");
  }
  if (dtype == DType::kI32 || dtype == DType::kI64) {
    return absl::InvalidArgumentError(std::string("a weight matrix cannot be ") + DTypeName(dtype) +
                                      "; it must be f32, bf16, int8 or int4");
  }
  return Pack(host, dtype, host.dim(0), host.dim(1));
}

absl::StatusOr<Matrix> CpuBackend::PackQuantised(const QuantisedMatrix& host) {
  EDDY_CHECK(host.out_size >= 1 && host.in_size >= 1) << host.out_size << " by " << host.in_size;
  EDDY_CHECK(host.dtype == DType::kI8 || host.dtype == DType::kI4) << DTypeName(host.dtype);
  return Pack(host, host.dtype, host.out_size, host.in_size);
}

void CpuBackend::MatMulGroup(std::span<const Product> products) {
  matmul_plan_.Make(products);
  pool_.ParallelFor(matmul_plan_.input_chunk_count(),
                    [&](int64_t chunk, int) { matmul_plan_.RunInput(chunk); });
  pool_.ParallelFor(matmul_plan_.chunk_count(),
                    [&](int64_t chunk, int) { matmul_plan_.Run(chunk); });
}

}  // namespace eddy::cpu
