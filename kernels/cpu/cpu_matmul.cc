// SPDX-License-Identifier: Apache-2.0
#include <cstddef>
#include <string>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/pack.h"
#include "kernels/status_macros.h"

namespace eddy::cpu {

absl::StatusOr<Matrix> CpuBackend::AllocateMatrix(int64_t out_size, int64_t in_size, DType dtype) {
  EDDY_CHECK(out_size >= 1 && in_size >= 1) << out_size << " by " << in_size;
  if (dtype == DType::kI32 || dtype == DType::kI64) {
    return absl::InvalidArgumentError(std::string("a weight matrix cannot be ") + DTypeName(dtype) +
                                      "; it must be f32, bf16, int8 or int4");
  }
  Matrix matrix;
  matrix.out_size = out_size;
  matrix.in_size = in_size;
  matrix.dtype = dtype;
  const int64_t bytes = PackedBytes(FormatOf(path_, dtype), out_size, in_size);
  EDDY_ASSIGN_OR_RETURN(matrix.buffer, Allocate(bytes));
  return matrix;
}

template <typename Host>
void CpuBackend::Pack(const Host& host, int64_t rows, int64_t in_size, int64_t out_begin,
                      const Matrix& matrix) {
  static_assert(kPackRows == kLanes);  // whole panels
  EDDY_CHECK_EQ(in_size, matrix.in_size);
  EDDY_CHECK(rows >= 1 && out_begin >= 0 && rows <= matrix.out_size - out_begin &&
             out_begin % kPackRows == 0 &&
             (rows % kPackRows == 0 || out_begin + rows == matrix.out_size))
      << rows << " rows from " << out_begin << " of " << matrix.out_size;
  const MatMulFormat format = FormatOf(path_, matrix.dtype);
  const int64_t panel_bytes = PanelLayoutOf(format, in_size).panel_bytes;
  auto* packed = static_cast<std::byte*>(matrix.buffer.data()) + out_begin / kLanes * panel_bytes;
  pool_.ParallelFor(PanelCount(rows),
                    [&](int64_t panel, int) { PackPanel(host, format, panel, packed); });
}

void CpuBackend::PackRows(const Tensor& host, int64_t out_begin, const Matrix& matrix) {
  EDDY_CHECK(host.present() && host.shape().rank() == 2) << host.shape().ToString();
  EDDY_CHECK(host.dtype() == DType::kF32 || host.dtype() == DType::kBF16)
      << DTypeName(host.dtype());
  Pack(host, host.dim(0), host.dim(1), out_begin, matrix);
}

void CpuBackend::PackQuantisedRows(const QuantisedMatrix& host, int64_t out_begin,
                                   const Matrix& matrix) {
  EDDY_CHECK(host.dtype == DType::kI8 || host.dtype == DType::kI4) << DTypeName(host.dtype);
  EDDY_CHECK(host.dtype == matrix.dtype) << DTypeName(matrix.dtype);
  Pack(host, host.out_size, host.in_size, out_begin, matrix);
}

void CpuBackend::MatMulGroup(std::span<const Product> products) {
  matmul_plan_.Make(products);
  pool_.ParallelFor(matmul_plan_.input_chunk_count(),
                    [&](int64_t chunk, int) { matmul_plan_.RunInput(chunk); });
  pool_.ParallelFor(matmul_plan_.chunk_count(),
                    [&](int64_t chunk, int) { matmul_plan_.Run(chunk); });
}

}  // namespace eddy::cpu
