// SPDX-License-Identifier: Apache-2.0
#include <cstdint>

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/matmul_formats.h"
#include "kernels/cpu/simd.h"

namespace eddy::cpu::EDDY_TARGET {
namespace {

// A tile is R rows times P panels, its sums in registers over all inputs: one chain per output in
// the order of the inputs, whatever R and P are. R is one of 1, 2, 4 and kTileRowsMax; the sums of
// a tile must fit the registers of the target.
#if EDDY_TARGET_LEVEL >= 4
constexpr int kTileRowsMax = 8;
constexpr int TilePanels(int rows) { return rows <= 2 ? 8 : rows == 4 ? 4 : 3; }
#else
constexpr int kTileRowsMax = 6;
constexpr int TilePanels(int rows) { return rows == 1 ? 4 : rows == 2 ? 3 : 1; }
#endif
constexpr int64_t kUnitBytes = 64;

// Lines of the next panels to fetch while this tile is worked on: `count` for each of its units.
struct Ahead {
  const std::byte* lines = nullptr;
  int64_t count = 0;
};

template <class F, int R, int P, int kWord = 0, typename Sum>
inline void AddUnit(const typename F::Unit (&unit)[P], const uint32_t* const (&x)[R], int64_t word,
                    Sum (&sum)[R][P]) {
  decltype(F::template Word<kWord>(unit[0])) weight[P];
  EDDY_UNROLL
  for (int p = 0; p < P; ++p) weight[p] = F::template Word<kWord>(unit[p]);
  EDDY_UNROLL
  for (int r = 0; r < R; ++r) {
    const auto value = F::Broadcast(x[r][word + kWord]);
    EDDY_UNROLL
    for (int p = 0; p < P; ++p) sum[r][p] = F::Add(sum[r][p], weight[p], value);
  }
  if constexpr (kWord + 1 < F::kWords) AddUnit<F, R, P, kWord + 1>(unit, x, word, sum);
}

// Adds units [begin, end) of P panels to the sums.
template <class F, int R, int P, typename Sum>
inline void AddUnits(const MatMulArgs& args, const std::byte* units, const uint32_t* const (&x)[R],
                     const Ahead& ahead, int64_t begin, int64_t end, Sum (&sum)[R][P]) {
  for (int64_t u = begin; u < end; ++u) {
    typename F::Unit unit[P];
    EDDY_UNROLL
    for (int p = 0; p < P; ++p) unit[p] = F::Read(units + p * args.panel_bytes + u * kUnitBytes);
    for (int64_t i = 0; i < ahead.count; ++i) {
      __builtin_prefetch(ahead.lines + (u * ahead.count + i) * kUnitBytes, 0, 2);
    }
    AddUnit<F, R, P>(unit, x, u * F::kWords, sum);
  }
}

// Integer sums of units [begin, end), which are block `index`, scaled into float sums. A function
// of its own: with another loop around it, gcc 12 stores the sums at every step.
template <class F, int R, int P>
__attribute__((noinline)) void AddBlock(const MatMulArgs& args, const std::byte* panels,
                                        const uint32_t* const (&x)[R], int64_t row,
                                        const Ahead& ahead, int64_t index, F32x16 (&sum)[R][P]) {
  const int64_t begin = index * F::kBlockUnits;
  const int64_t left = args.unit_count - begin;
  const int64_t end = begin + (left < F::kBlockUnits ? left : F::kBlockUnits);
  I32x16 block[R][P];
  EDDY_UNROLL
  for (int r = 0; r < R; ++r) {
    // Without sign: the sums of a row that is not finite are anything.
    const auto x_sum = static_cast<uint32_t>(args.block_sum[(row + r) * args.block_count + index]);
    const auto start = static_cast<int32_t>(0u - uint32_t{F::kOffset} * x_sum);
    EDDY_UNROLL
    for (int p = 0; p < P; ++p) block[r][p] = SetI32(start);
  }
  AddUnits<F, R, P>(args, panels + args.header_bytes, x, ahead, begin, end, block);
  EDDY_UNROLL
  for (int r = 0; r < R; ++r) {
    EDDY_UNROLL
    for (int p = 0; p < P; ++p) {
      sum[r][p] = F::AddBlock(sum[r][p], block[r][p], panels + p * args.panel_bytes, index);
    }
  }
}

template <class F, int R, int P>
void Tile(const MatMulArgs& args, int64_t row, int64_t panel, const Ahead& ahead) {
  const std::byte* panels = args.weight + panel * args.panel_bytes;
  const uint32_t* x[R];
  F32x16 sum[R][P];
  EDDY_UNROLL
  for (int r = 0; r < R; ++r) {
    x[r] = args.x + (row + r) * args.x_stride;
    EDDY_UNROLL
    for (int p = 0; p < P; ++p) sum[r][p] = Zero();
  }
  if constexpr (F::kInteger) {
    for (int64_t i = 0; i < args.block_count; ++i)
      AddBlock<F, R, P>(args, panels, x, row, ahead, i, sum);
  } else {
    AddUnits<F, R, P>(args, panels, x, ahead, 0, args.unit_count, sum);
  }
  EDDY_UNROLL
  for (int p = 0; p < P; ++p) {
    const int64_t column = (panel + p) * kLanes;
    const int64_t left = args.out_size - column;
    const int64_t lanes = left < kLanes ? left : kLanes;
    EDDY_UNROLL
    for (int r = 0; r < R; ++r) {
      F32x16 y = sum[r][p];
      if constexpr (F::kInteger) {
        y = (y * F::PanelScale(panels + p * args.panel_bytes)) * Set(args.row_scale[row + r]);
      }
      if (args.bias != nullptr) y = y + LoadPartial(args.bias + column, lanes);
      StorePartial(args.out + (row + r) * args.out_size + column, y, lanes);
    }
  }
}

// Panels [begin, end), at most TilePanels(R) of them.
template <class F, int R, int P>
void TilesOfRows(const MatMulArgs& args, int64_t row, int64_t begin, int64_t end,
                 const Ahead& ahead) {
  int64_t panel = begin;
  for (; panel + P <= end; panel += P) Tile<F, R, P>(args, row, panel, ahead);
  if constexpr (P > 1) {
    if (panel < end) TilesOfRows<F, R, P / 2>(args, row, panel, end, ahead);
  }
}

constexpr int64_t TileRows(int64_t rows) {
  if (kTileRowsMax < 8 && rows == 8) return 4;  // not 6 and 2: a tile of 2 has too few chains
  if (rows >= kTileRowsMax) return kTileRowsMax;
  return rows >= 4 ? 4 : rows >= 2 ? 2 : 1;
}

template <class F>
void TilesOfBlock(const MatMulArgs& args, int64_t row, int64_t row_count, int64_t panel,
                  int64_t panel_end, const Ahead& ahead) {
  switch (row_count) {
    case 1:
      return TilesOfRows<F, 1, TilePanels(1)>(args, row, panel, panel_end, ahead);
    case 2:
      return TilesOfRows<F, 2, TilePanels(2)>(args, row, panel, panel_end, ahead);
    case 4:
      return TilesOfRows<F, 4, TilePanels(4)>(args, row, panel, panel_end, ahead);
    default:
      return TilesOfRows<F, kTileRowsMax, TilePanels(kTileRowsMax)>(args, row, panel, panel_end,
                                                                    ahead);
  }
}

// Blocks of panels outside, rows inside: a block comes from memory once and from the cache for the
// other rows, which meanwhile fetch the next block.
template <class F>
void MultiplyAs(const MatMulArgs& args, int64_t row_begin, int64_t row_end, int64_t panel_begin,
                int64_t panel_end) {
  const int64_t block = TilePanels(static_cast<int>(TileRows(row_end - row_begin)));
  const int64_t block_bytes = block * args.panel_bytes;
  // The last tiles are smaller: counting them in would fetch too little.
  const int64_t tiles = (row_end - row_begin + kTileRowsMax - 1) / kTileRowsMax;
  // With many panels side by side the processor's own prefetching does better.
  const bool fetches = block < 4;
  for (int64_t panel = panel_begin; panel < panel_end; panel += block) {
    const int64_t end = panel + block < panel_end ? panel + block : panel_end;
    const std::byte* next = args.weight + panel * args.panel_bytes + block_bytes;
    int64_t left = fetches && panel + 2 * block <= panel_end ? block : 0;  // panels to be fetched
    for (int64_t row = row_begin; row < row_end;) {
      const int64_t rows = TileRows(row_end - row);
      Ahead ahead;
      if (left > 0) {
        const int64_t share = (block + tiles - 1) / tiles;
        ahead = {next, share < left ? share : left};
        next += ahead.count * args.panel_bytes;
        left -= ahead.count;
      }
      TilesOfBlock<F>(args, row, rows, panel, end, ahead);
      row += rows;
    }
  }
}

}  // namespace

void MatMul(const MatMulArgs& args, int64_t row_begin, int64_t row_end, int64_t panel_begin,
            int64_t panel_end) {
  switch (args.format) {
    case MatMulFormat::kF32:
      return MultiplyAs<F32Format>(args, row_begin, row_end, panel_begin, panel_end);
    case MatMulFormat::kBF16:
      return MultiplyAs<Bf16Format>(args, row_begin, row_end, panel_begin, panel_end);
    case MatMulFormat::kInt8:
      return MultiplyAs<Int8Format>(args, row_begin, row_end, panel_begin, panel_end);
    case MatMulFormat::kInt4:
      return MultiplyAs<Int4Format>(args, row_begin, row_end, panel_begin, panel_end);
#if EDDY_TARGET_LEVEL >= 5
    case MatMulFormat::kBF16Dot:
      return MultiplyAs<Bf16DotFormat>(args, row_begin, row_end, panel_begin, panel_end);
    case MatMulFormat::kInt8Dot:
      return MultiplyAs<Int8DotFormat>(args, row_begin, row_end, panel_begin, panel_end);
#endif
    default:
      __builtin_trap();
  }
}

int64_t MatMulPanelBlock(int64_t row_count) {
  return TilePanels(static_cast<int>(TileRows(row_count)));
}

}  // namespace eddy::cpu::EDDY_TARGET
