// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <string>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/pack.h"
#include "kernels/status_macros.h"

namespace eddy::cpu {

absl::StatusOr<Matrix> CpuBackend::PackMatrix(const Tensor& host, DType dtype) {
  EDDY_CHECK(host.present() && host.shape().rank() == 2) << host.shape().ToString();
  EDDY_CHECK(host.dim(0) >= 1 && host.dim(1) >= 1) << host.shape().ToString();
  for (const DType type : {host.dtype(), dtype}) {
    if (type == DType::kF32 || type == DType::kBF16) continue;
    return absl::InvalidArgumentError(std::string("a weight matrix cannot be ") + DTypeName(type) +
                                      "; it must be f32 or bf16");
  }
  Matrix matrix;
  matrix.out_size = host.dim(0);
  matrix.in_size = host.dim(1);
  matrix.dtype = dtype;
  EDDY_ASSIGN_OR_RETURN(matrix.buffer,
                        Allocate(PackedBytes(dtype, matrix.out_size, matrix.in_size)));
  pool_.ParallelFor(PanelCount(matrix.out_size), [&](int64_t panel, int) {
    PackPanel(host, dtype, panel, matrix.buffer.data());
  });
  return matrix;
}

void CpuBackend::MatMulOne(const Product& product) {
  const auto& [x, packed, bias, out] = product;
  const Matrix& weight = *packed;
  const int64_t row_count = x.dim(0);
  CheckF32(x, {row_count, weight.in_size}, "x");
  CheckF32(out, {row_count, weight.out_size}, "out");
  EDDY_CHECK(out.data() != x.data()) << "out must not be x";
  MatMulArgs args;
  args.x = x.f32();
  args.weight = weight.buffer.data();
  args.bias = CheckOptional(bias.present(), bias, {weight.out_size}, "bias");
  args.out = out.f32();
  args.in_size = weight.in_size;
  args.out_size = weight.out_size;
  args.dtype = weight.dtype;
  if (row_count == 0) return;
  const int64_t panel_count = PanelCount(weight.out_size);
  const int64_t cost = row_count * panel_count * weight.in_size;  // vectors of multiply-adds
  const int64_t panel_chunk =
      ChunkSize(panel_count, ops_.matmul_panel_block(row_count), cost * kLanes / 4);
  const int64_t panel_chunks = CeilDivide(panel_count, panel_chunk);
  int64_t row_chunk = row_count;
  if (panel_chunks < info_.thread_count && cost * kLanes / 4 >= 2 * kForkCost) {
    constexpr int64_t kRowsMin = 8;
    row_chunk = CeilDivide(row_count, CeilDivide(info_.thread_count, panel_chunks) * 2);
    row_chunk = std::max(kRowsMin, row_chunk);
  }
  const int64_t row_chunks = CeilDivide(row_count, row_chunk);
  pool_.ParallelFor(panel_chunks * row_chunks, [&](int64_t chunk, int) {
    const int64_t panel = chunk / row_chunks * panel_chunk;
    const int64_t row = chunk % row_chunks * row_chunk;
    ops_.matmul(args, row, std::min(row_count, row + row_chunk), panel,
                std::min(panel_count, panel + panel_chunk));
  });
}

void CpuBackend::MatMulGroup(std::span<const Product> products) {
  for (const Product& product : products) MatMulOne(product);
}

}  // namespace eddy::cpu
