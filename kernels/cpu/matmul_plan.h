// SPDX-License-Identifier: Apache-2.0
// MatMulPlan: how one MatMulGroup is cut into pieces for the threads, and the scratch it needs.
//
// Owned by CpuBackend; the step thread makes a plan, then the workers run its pieces, in two
// rounds: first x is turned into the words that the formats want (once for products that share it),
// then the products are made, block by block of panels and rows. How it is cut changes no bit.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cpu/ops.h"

namespace eddy::cpu {

enum class NumericPath : uint8_t {
  kFma,      // the same bits on every target
  kBF16Dot,  // bf16 weights by the dot product of bf16
  kInt8Dot,  // and int8 weights by that of 8-bit integers
};

// How a matrix of that storage is packed and multiplied.
MatMulFormat FormatOf(NumericPath path, DType dtype);

class MatMulPlan {
 public:
  MatMulPlan(const Ops& ops, NumericPath path, int thread_count)
      : ops_(ops), path_(path), thread_count_(thread_count) {}

  // Checks shapes (a wrong one aborts) and plans; what was planned before is forgotten. Allocates
  // only when it needs more room than ever before.
  void Make(std::span<const Product> products);

  int64_t input_chunk_count() const { return static_cast<int64_t>(input_chunks_.size()); }
  void RunInput(int64_t chunk) const;
  int64_t chunk_count() const { return static_cast<int64_t>(chunks_.size()); }
  void Run(int64_t chunk) const;

 private:
  struct Input {
    MatMulInputArgs args;
    int64_t first_word = 0;   // in words_
    int64_t first_row = 0;    // in row_scales_
    int64_t first_block = 0;  // in block_sums_
  };
  struct Work {
    MatMulArgs args;
    int input = -1;  // -1: x is read where it is
  };
  struct InputChunk {
    int input;
    int64_t row_begin, row_end;
  };
  struct Chunk {
    int work;
    int64_t row_begin, row_end, panel_begin, panel_end;
  };
  struct alignas(64) Line {
    uint32_t words[16];
  };

  Work WorkOf(const Product& product);
  // The input that has `x` in that format already, or a new one.
  int InputOf(const Product& product, MatMulFormat format, int64_t padded_size);
  void PlaceInputs();
  void CutInputs();
  void CutWork();

  const Ops& ops_;
  const NumericPath path_;
  const int thread_count_;
  int64_t row_count_ = 0;  // of every product
  std::vector<Input> inputs_;
  std::vector<Work> works_;
  std::vector<InputChunk> input_chunks_;
  std::vector<Chunk> chunks_;
  std::vector<Line> words_;
  std::vector<float> row_scales_;
  std::vector<int32_t> block_sums_;
};

}  // namespace eddy::cpu
