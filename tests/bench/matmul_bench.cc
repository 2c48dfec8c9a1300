// SPDX-License-Identifier: Apache-2.0
#include <string>
#include <vector>

#include "tests/bench/op_bench.h"

namespace eddy {
namespace {

struct MatMulShape {
  int64_t out_size;
  int64_t in_size;
};

void MatMul(OpBench& bench, benchmark::State& state, DType dtype, const MatMulShape& shape,
            int64_t row_count) {
  const std::vector<Matrix>& matrices = bench.Copies(shape.out_size, shape.in_size, dtype);
  std::vector<float> x = RandomValues(row_count * shape.in_size);
  std::vector<float> out(static_cast<size_t>(row_count * shape.out_size));
  const OpWork work = {
      .bytes = static_cast<double>(matrices[0].buffer.bytes()),
      .operations = 2.0 * static_cast<double>(row_count * shape.in_size * shape.out_size),
      .weights = dtype};
  size_t next = 0;
  bench.Measure(state, work, [&] {
    bench.backend().MatMul(View(x, {row_count, shape.in_size}), matrices[next], Tensor(),
                           View(out, {row_count, shape.out_size}));
    next = (next + 1) % matrices.size();
  });
}

}  // namespace

void RegisterMatMul(OpBench& bench) {
  constexpr MatMulShape kShapes[] = {
      {192, 192},   {768, 192},                                 // the shipped model's
      {256, 256},   {1024, 256},  {256, 1024},                  // the paper's image models'
      {768, 768},   {3072, 768},  {768, 3072},  {65536, 768},   // RWKV-7 0.19B
      {128, 768},   {768, 128},                                 // its low ranks
      {2048, 2048}, {8192, 2048}, {2048, 8192}, {65536, 2048},  // RWKV-7 1.5B
      {3072, 2048}, {2048, 3072}, {5632, 2048}, {2048, 5632}};  // Gated DeltaNet 1.3B
  for (const MatMulShape& shape : kShapes) {
    for (const DType dtype : {DType::kBF16, DType::kF32, DType::kI8, DType::kI4}) {
      for (const int64_t rows : {1, 2, 4, 8, 16, 64, 512}) {
        Register("MatMul/" + std::string(DTypeName(dtype)) + "/" + std::to_string(shape.out_size) +
                     "x" + std::to_string(shape.in_size) + "/rows:" + std::to_string(rows),
                 [&bench, dtype, shape, rows](benchmark::State& state) {
                   MatMul(bench, state, dtype, shape, rows);
                 });
      }
    }
  }
}

}  // namespace eddy
