// SPDX-License-Identifier: Apache-2.0
#include <cstdint>

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/simd.h"

namespace eddy::cpu::EDDY_TARGET {
namespace {

// A tile is R rows times P panels, its sums in registers over all of K: one chain per output in the
// order of k, whatever R and P are. These bound R * P by the registers of the target.
#if EDDY_TARGET_LEVEL == 4
constexpr int kTileRowsMax = 8;
constexpr int kTileSumsMax = 24;
constexpr int kTilePanelsMax = 8;
#else
constexpr int kTileRowsMax = 6;
constexpr int kTileSumsMax = 6;
constexpr int kTilePanelsMax = 4;
#endif
// Rows whose x stays in the L2 cache while the panels pass by.
constexpr int64_t kRowGroup = 96;

// The largest power of two of panels that R rows leave room for.
constexpr int TilePanels(int rows) {
  int panels = 1;
  while (panels * 2 <= kTilePanelsMax && panels * 2 * rows <= kTileSumsMax) panels *= 2;
  return panels;
}

template <int R, int P>
inline void AddStep(const float* x, int64_t x_stride, const F32x16 (&w)[P], F32x16 (&sum)[R][P]) {
  EDDY_UNROLL
  for (int r = 0; r < R; ++r) {
    const F32x16 value = Set(x[r * x_stride]);
    EDDY_UNROLL
    for (int p = 0; p < P; ++p) sum[r][p] = Fma(value, w[p], sum[r][p]);
  }
}

template <int R, int P>
inline void SumF32(const MatMulArgs& args, const float* x, int64_t panel, F32x16 (&sum)[R][P]) {
  const int64_t panel_stride = args.in_size * kLanes;
  const float* weight = static_cast<const float*>(args.weight) + panel * panel_stride;
  for (int64_t k = 0; k < args.in_size; ++k) {
    F32x16 w[P];
    EDDY_UNROLL
    for (int p = 0; p < P; ++p) w[p] = Load(weight + p * panel_stride + k * kLanes);
    AddStep<R, P>(x + k, args.in_size, w, sum);
  }
}

template <int R, int P>
inline void SumBf16(const MatMulArgs& args, const float* x, int64_t panel, F32x16 (&sum)[R][P]) {
  const int64_t panel_stride = (args.in_size + 1) / 2 * kLanes;  // words
  const uint32_t* weight = static_cast<const uint32_t*>(args.weight) + panel * panel_stride;
  const int64_t pair_count = args.in_size / 2;
  for (int64_t pair = 0; pair < pair_count; ++pair) {
    F32x16 w[P];
    Bf16Pairs words[P];
    EDDY_UNROLL
    for (int p = 0; p < P; ++p) {
      words[p] = LoadPairs(weight + p * panel_stride + pair * kLanes);
      w[p] = Low(words[p]);
    }
    AddStep<R, P>(x + 2 * pair, args.in_size, w, sum);
    EDDY_UNROLL
    for (int p = 0; p < P; ++p) w[p] = High(words[p]);
    AddStep<R, P>(x + 2 * pair + 1, args.in_size, w, sum);
  }
  if (args.in_size % 2 != 0) {
    F32x16 w[P];
    EDDY_UNROLL
    for (int p = 0; p < P; ++p) {
      w[p] = Low(LoadPairs(weight + p * panel_stride + pair_count * kLanes));
    }
    AddStep<R, P>(x + 2 * pair_count, args.in_size, w, sum);
  }
}

template <int R, int P>
void Tile(const MatMulArgs& args, int64_t row, int64_t panel) {
  F32x16 sum[R][P];
  EDDY_UNROLL
  for (int r = 0; r < R; ++r) {
    EDDY_UNROLL
    for (int p = 0; p < P; ++p) sum[r][p] = Zero();
  }
  const float* x = args.x + row * args.in_size;
  if (args.dtype == DType::kBF16) {
    SumBf16<R, P>(args, x, panel, sum);
  } else {
    SumF32<R, P>(args, x, panel, sum);
  }
  EDDY_UNROLL
  for (int p = 0; p < P; ++p) {
    const int64_t column = (panel + p) * kLanes;
    const int64_t left = args.out_size - column;
    const int64_t lanes = left < kLanes ? left : kLanes;
    EDDY_UNROLL
    for (int r = 0; r < R; ++r) {
      F32x16 y = sum[r][p];
      if (args.bias != nullptr) y = y + LoadPartial(args.bias + column, lanes);
      StorePartial(args.out + (row + r) * args.out_size + column, y, lanes);
    }
  }
}

template <int R, int P>
void TilesOfRows(const MatMulArgs& args, int64_t row, int64_t panel_begin, int64_t panel_end) {
  int64_t panel = panel_begin;
  for (; panel + P <= panel_end; panel += P) Tile<R, P>(args, row, panel);
  if constexpr (P > 1) {
    if (panel < panel_end) TilesOfRows<R, P / 2>(args, row, panel, panel_end);
  }
}

using TilesFn = void (*)(const MatMulArgs& args, int64_t row, int64_t panel_begin,
                         int64_t panel_end);

template <int R>
constexpr TilesFn kTiles = &TilesOfRows<R, TilePanels(R)>;

// Indexed by the rows of a tile.
constexpr TilesFn kTilesByRows[] = {nullptr,   kTiles<1>, kTiles<2>, kTiles<3>, kTiles<4>,
                                    kTiles<5>, kTiles<6>, kTiles<7>, kTiles<8>};
static_assert(kTileRowsMax < static_cast<int>(sizeof(kTilesByRows) / sizeof(kTilesByRows[0])));

}  // namespace

void MatMul(const MatMulArgs& args, int64_t row_begin, int64_t row_end, int64_t panel_begin,
            int64_t panel_end) {
  for (int64_t group = row_begin; group < row_end; group += kRowGroup) {
    const int64_t group_rows = row_end - group < kRowGroup ? row_end - group : kRowGroup;
    const int64_t tile_count = (group_rows + kTileRowsMax - 1) / kTileRowsMax;
    for (int64_t panel = panel_begin; panel < panel_end; panel += kTilePanelsMax) {
      const int64_t left = panel_end - panel;
      const int64_t end = panel + (left < kTilePanelsMax ? left : kTilePanelsMax);
      int64_t row = 0;
      for (int64_t tile = 0; tile < tile_count; ++tile) {
        const int64_t next = group_rows * (tile + 1) / tile_count;  // even shares
        kTilesByRows[next - row](args, group + row, panel, end);
        row = next;
      }
    }
  }
}

int64_t MatMulPanelBlock(int64_t row_count) {
  return TilePanels(static_cast<int>(row_count < kTileRowsMax ? row_count : kTileRowsMax));
}

}  // namespace eddy::cpu::EDDY_TARGET
