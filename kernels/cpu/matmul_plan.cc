// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/matmul_plan.h"

#include <algorithm>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/pack.h"

namespace eddy::cpu {
namespace {

// A chunk has at least this many bytes of weights, fewer where there are more rows.
constexpr int64_t kChunkBytesMin = 64 << 10;
// Words of x that stay in the L2 cache while the panels pass by.
constexpr int64_t kRowGroupWords = 128 << 10;
constexpr int64_t kRowGroupMin = 96;
// Numbers of x whose conversion is not worth waking anyone.
constexpr int64_t kInputForkSize = 1 << 14;

bool IsFloat(MatMulFormat format) {
  return format == MatMulFormat::kF32 || format == MatMulFormat::kBF16;
}

int64_t WordStride(MatMulFormat format, int64_t padded_size) {
  const int64_t inputs_per_word = IsFloat(format) ? 1 : format == MatMulFormat::kInt8Dot ? 4 : 2;
  const int64_t words = CeilDivide(padded_size, kLanes) * kLanes / inputs_per_word;
  // One line more: rows of a power of two would all fall on the same few lines of the L1 cache.
  return CeilDivide(words, kLanes) * kLanes + kLanes;
}

// Inputs whose products are summed as integers.
int64_t BlockSize(MatMulFormat format) {
  if (format == MatMulFormat::kInt8) return kInt8BlockSize;
  return format == MatMulFormat::kInt4 ? kInt4GroupSize : kInt8DotBlockSize;
}

}  // namespace

MatMulFormat FormatOf(NumericPath path, DType dtype) {
  switch (dtype) {
    case DType::kBF16:
      return path == NumericPath::kFma ? MatMulFormat::kBF16 : MatMulFormat::kBF16Dot;
    case DType::kI8:
      return path == NumericPath::kInt8Dot ? MatMulFormat::kInt8Dot : MatMulFormat::kInt8;
    case DType::kI4:
      return MatMulFormat::kInt4;
    default:
      return MatMulFormat::kF32;
  }
}

void MatMulPlan::Make(std::span<const Product> products) {
  inputs_.clear();
  works_.clear();
  input_chunks_.clear();
  chunks_.clear();
  row_count_ = products.empty() ? 0 : products[0].x.dim(0);
  if (row_count_ == 0) return;
  for (const Product& product : products) works_.push_back(WorkOf(product));
  PlaceInputs();
  CutInputs();
  CutWork();
}

MatMulPlan::Work MatMulPlan::WorkOf(const Product& product) {
  const Matrix& weight = *product.weight;
  CheckF32(product.x, {row_count_, weight.in_size}, "x");
  CheckF32(product.out, {row_count_, weight.out_size}, "out");
  EDDY_CHECK(product.out.data() != product.x.data()) << "out must not be x";
  Work work;
  MatMulArgs& args = work.args;
  args.format = FormatOf(path_, weight.dtype);
  const PanelLayout layout = PanelLayoutOf(args.format, weight.in_size);
  args.weight = static_cast<const std::byte*>(weight.buffer.data());
  args.bias = CheckOptional(product.bias.present(), product.bias, {weight.out_size}, "bias");
  args.out = product.out.f32();
  args.out_size = weight.out_size;
  args.panel_bytes = layout.panel_bytes;
  args.header_bytes = layout.header_bytes;
  args.unit_count = layout.unit_count;
  const bool spread = weight.in_size % 512 != 0 || row_count_ < 4;  // see WordStride
  const bool mixes = product.mix.present();
  CheckOptional(mixes, product.difference, product.x.shape(), "difference");
  if (mixes && product.mix.shape().rank() == 1) CheckF32(product.mix, {weight.in_size}, "mix");
  if (mixes && product.mix.shape().rank() != 1) CheckF32(product.mix, product.x.shape(), "mix");
  if (!mixes && IsFloat(args.format) && layout.padded_size() == weight.in_size && spread) {
    args.x = static_cast<const uint32_t*>(product.x.data());
    args.x_stride = weight.in_size;
  } else {
    work.input = InputOf(product, args.format, layout.padded_size());
  }
  return work;
}

int MatMulPlan::InputOf(const Product& product, MatMulFormat format, int64_t padded_size) {
  for (size_t i = 0; i < inputs_.size(); ++i) {
    const MatMulInputArgs& args = inputs_[i].args;
    if (args.x == product.x.data() && args.mix == product.mix.data() &&
        args.difference == product.difference.data() && args.format == format &&
        args.padded_size == padded_size) {
      return static_cast<int>(i);
    }
  }
  Input input;
  input.args.x = product.x.f32();
  if (product.mix.present()) {
    input.args.difference = product.difference.f32();
    input.args.mix = product.mix.f32();
    input.args.mix_stride = product.mix.shape().rank() == 1 ? 0 : product.x.dim(1);
  }
  input.args.in_size = product.x.dim(1);
  input.args.padded_size = padded_size;
  input.args.word_stride = WordStride(format, padded_size);
  input.args.format = format;
  input.args.block_size = BlockSize(format);
  if (!IsFloat(format)) input.args.block_count = CeilDivide(padded_size, BlockSize(format));
  inputs_.push_back(input);
  return static_cast<int>(inputs_.size()) - 1;
}

void MatMulPlan::PlaceInputs() {
  int64_t word_count = 0;
  int64_t row_count = 0;
  int64_t block_count = 0;
  for (Input& input : inputs_) {
    input.first_word = word_count;
    input.first_row = row_count;
    input.first_block = block_count;
    block_count += row_count_ * input.args.block_count;
    word_count += row_count_ * input.args.word_stride;
    row_count += row_count_;
  }
  const auto lines = static_cast<size_t>(word_count / kLanes);
  if (words_.size() < lines) words_.resize(lines);
  if (row_scales_.size() < static_cast<size_t>(row_count)) {
    row_scales_.resize(static_cast<size_t>(row_count));
  }
  if (block_sums_.size() < static_cast<size_t>(block_count)) {
    block_sums_.resize(static_cast<size_t>(block_count));
  }
  for (Input& input : inputs_) {
    input.args.words = words_.data()->words + input.first_word;
    input.args.row_scale = row_scales_.data() + input.first_row;
    input.args.block_sum = block_sums_.data() + input.first_block;
  }
  for (Work& work : works_) {
    if (work.input < 0) continue;
    const MatMulInputArgs& input = inputs_[static_cast<size_t>(work.input)].args;
    work.args.x = input.words;
    work.args.x_stride = input.word_stride;
    work.args.row_scale = input.row_scale;
    work.args.block_sum = input.block_sum;
    work.args.block_count = input.block_count;
  }
}

void MatMulPlan::CutInputs() {
  int64_t size = 0;
  for (const Input& input : inputs_) size += row_count_ * input.args.in_size;
  // A row is the smallest piece.
  const int64_t pieces = size < kInputForkSize ? 1 : 4 * thread_count_;
  const int64_t rows =
      std::max<int64_t>(1, row_count_ * static_cast<int64_t>(inputs_.size()) / pieces);
  for (size_t i = 0; i < inputs_.size(); ++i) {
    for (int64_t row = 0; row < row_count_; row += rows) {
      input_chunks_.push_back({static_cast<int>(i), row, std::min(row_count_, row + rows)});
    }
  }
}

// Each chunk is a share of what is left, so that chunks are large (a thread fetches a chunk's
// weights ahead, but not the next chunk's) and the last ones small (threads end together).
void MatMulPlan::CutWork() {
  int64_t left_bytes = 0;
  for (const Work& work : works_) {
    left_bytes += PanelCount(work.args.out_size) * work.args.panel_bytes;
  }
  const int64_t block = ops_.matmul_panel_block(row_count_);
  const bool fork = thread_count_ > 1 && left_bytes * row_count_ >= 2 * kForkCost;
  const int64_t shares = fork ? thread_count_ * 2 : 1;
  const int64_t chunk_bytes_min = kChunkBytesMin / std::min<int64_t>(row_count_, 8);
  for (size_t i = 0; i < works_.size(); ++i) {
    const MatMulArgs& args = works_[i].args;
    const int64_t panels = PanelCount(args.out_size);
    const int64_t rows =
        std::min(row_count_, std::max(kRowGroupMin, kRowGroupWords / args.x_stride));
    const int64_t groups = CeilDivide(row_count_, rows);
    for (int64_t panel = 0; panel < panels;) {
      const int64_t chunk_bytes = std::max(left_bytes / shares, chunk_bytes_min);
      const int64_t blocks = std::max<int64_t>(1, chunk_bytes / (args.panel_bytes * block));
      const int64_t end = std::min(panels, panel + blocks * block);
      for (int64_t group = 0; group < groups; ++group) {
        chunks_.push_back({static_cast<int>(i), row_count_ * group / groups,
                           row_count_ * (group + 1) / groups, panel, end});
      }
      left_bytes -= (end - panel) * args.panel_bytes;
      panel = end;
    }
  }
}

void MatMulPlan::RunInput(int64_t chunk) const {
  const InputChunk& piece = input_chunks_[static_cast<size_t>(chunk)];
  ops_.matmul_input(inputs_[static_cast<size_t>(piece.input)].args, piece.row_begin, piece.row_end);
}

void MatMulPlan::Run(int64_t chunk) const {
  // The pool takes the last chunk first; memory is better read forwards.
  const Chunk& piece = chunks_[chunks_.size() - 1 - static_cast<size_t>(chunk)];
  ops_.matmul(works_[static_cast<size_t>(piece.work)].args, piece.row_begin, piece.row_end,
              piece.panel_begin, piece.panel_end);
}

}  // namespace eddy::cpu
