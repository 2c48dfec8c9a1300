// SPDX-License-Identifier: Apache-2.0
// The CPU kernels: free functions on raw pointers, one table of them per instruction set.
//
// The kernel sources are compiled once per target, each in its own namespace (EDDY_TARGET), and
// take only plain structs: code that the linker merges between translation units (templates and
// inline functions of std) must not be compiled there, or it would carry AVX-512 into the rest of
// the program. Sizes are checked by CpuBackend; a kernel takes a range of the work and its result
// does not depend on how the ranges are cut.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/dtype.h"
#include "kernels/op_options.h"

namespace eddy::cpu {

// Outputs of a packed panel; also the lanes of every reduction (numeric path `fma`).
inline constexpr int64_t kLanes = 16;
// Logits per entry of Ops::block_max.
inline constexpr int64_t kLogitsBlock = 64;

// What a packed matrix holds and what x becomes for it (pack.h has the layouts).
enum class MatMulFormat : uint8_t {
  kF32,      // f32 by f32, FMA
  kBF16,     // bf16 widened, by f32, FMA
  kInt8,     // int8 by 16-bit integers
  kInt4,     // int4 in groups, by 16-bit integers
  kBF16Dot,  // bf16 by bf16, the dot product instruction; v4dot only
  kInt8Dot,  // int8 by 8-bit integers, the dot product instruction; v4dot only
};

// Inputs that share a scale in kInt4.
inline constexpr int64_t kInt4GroupSize = 64;
// Inputs whose products are summed as integers: 127 * 32767 * 512 and 127 * 127 * 2^16 fit 32 bits.
inline constexpr int64_t kInt8BlockSize = 512;
inline constexpr int64_t kInt8DotBlockSize = 1 << 16;

struct MatMulArgs {
  const uint32_t* x = nullptr;         // [row, x_stride], words as MatMulInput makes them
  const float* row_scale = nullptr;    // [row], of integer formats
  const int32_t* block_sum = nullptr;  // [row, block], of integer formats: the sums of x
  const std::byte* weight = nullptr;   // packed
  const float* bias = nullptr;         // [out] or null
  float* out = nullptr;                // [row, out]
  int64_t x_stride = 0;
  int64_t out_size = 0;
  int64_t panel_bytes = 0;
  int64_t header_bytes = 0;  // in front of a panel's units
  int64_t unit_count = 0;    // of a panel, 64 bytes each
  int64_t block_count = 0;   // of a row, of integer formats
  MatMulFormat format = MatMulFormat::kF32;
};

struct MatMulInputArgs {
  const float* x = nullptr;           // [row, in]
  const float* difference = nullptr;  // [row, in] or null: x + difference mix is meant
  const float* mix = nullptr;         // [in] or [row, in], or null
  uint32_t* words = nullptr;          // [row, word_stride], 64-byte aligned
  float* row_scale = nullptr;         // [row]
  int32_t* block_sum = nullptr;       // [row, block]: the sums of block_size integers each
  int64_t mix_stride = 0;             // from row to row
  int64_t in_size = 0;
  int64_t padded_size = 0;  // inputs up to the last unit's end; behind in_size they become zeros
  int64_t word_stride = 0;  // room for padded_size rounded up to 16 inputs
  int64_t block_size = 0;   // a multiple of 16
  int64_t block_count = 0;
  MatMulFormat format = MatMulFormat::kF32;
};

// Shapes as in the Backend's ops of these names.
struct NormArgs {
  NormOptions options;
  const float* x = nullptr;
  const float* residual = nullptr;  // or null, as weight, bias, gate and sum
  const float* weight = nullptr;
  const float* bias = nullptr;
  const float* gate = nullptr;
  float* sum = nullptr;
  float* out = nullptr;
  int64_t size = 0;
  int64_t weight_count = 1;  // G where each group has its own weight, else 1
};

struct TokenMatMulArgs {
  const float* x = nullptr;
  const float* a = nullptr;
  const float* b = nullptr;
  float* out = nullptr;
  int64_t in_size = 0;   // N
  int64_t out_size = 0;  // M
};

struct TokenShiftArgs {
  const float* x = nullptr;
  float* out = nullptr;
  const int32_t* token_begin = nullptr;
  const int32_t* slot = nullptr;
  std::byte* state = nullptr;  // of slot 0
  int64_t state_slot_bytes = 0;
  int64_t row_count = 0;
  int64_t size = 0;
};

struct ShortConvolutionArgs {
  const float* x = nullptr;
  const float* weight = nullptr;
  const float* bias = nullptr;  // or null
  float* out = nullptr;
  const int32_t* token_begin = nullptr;
  const int32_t* slot = nullptr;
  std::byte* state = nullptr;  // of slot 0
  int64_t state_slot_bytes = 0;
  int64_t row_count = 0;
  int64_t channel_count = 0;
  int64_t width = 0;  // W
};

struct MakeDecayArgs {
  DecayOptions options;
  float* decay = nullptr;
  const float* rate = nullptr;  // or null, as bias
  const float* bias = nullptr;
  int64_t head_count = 0;
  int64_t key_size = 1;
};

struct Hgrn2PrepareArgs {
  const float* floor = nullptr;  // or null
  float* decay = nullptr;
  float* key = nullptr;
  int64_t size = 0;
};

struct Mamba2PrepareArgs {
  StepRange range;
  const float* rate = nullptr;
  const float* bias = nullptr;
  float* step = nullptr;
  float* decay = nullptr;
  int64_t head_count = 0;
};

struct RotateArgs {
  const float* angles = nullptr;
  float* x = nullptr;
  int64_t head_count = 0;
  int64_t key_size = 0;
};

struct Rwkv7PrepareArgs {
  float* decay = nullptr;
  float* rate = nullptr;
  float* k = nullptr;
  float* v = nullptr;
  const float* value_mix = nullptr;  // or null, as first_v
  const float* first_v = nullptr;
  const float* key_scale = nullptr;
  const float* rate_scale = nullptr;
  float* removal = nullptr;
  int64_t head_count = 0;
  int64_t head_size = 0;
};

struct Rwkv7FinishArgs {
  const float* y = nullptr;
  const float* r = nullptr;
  const float* k = nullptr;
  const float* v = nullptr;
  const float* gate = nullptr;
  const float* bonus = nullptr;
  const float* norm_weight = nullptr;
  const float* norm_bias = nullptr;
  float* out = nullptr;
  int64_t head_count = 0;
  int64_t head_size = 0;
  float eps = 0.0f;
};

struct RecurrenceArgs {
  const RecurrenceOptions* options = nullptr;
  const float* q = nullptr;  // shapes as in RecurrenceInputs
  const float* k = nullptr;
  const float* v = nullptr;
  const float* decay = nullptr;
  const float* beta = nullptr;
  const float* a = nullptr;
  const float* b = nullptr;
  const float* bonus = nullptr;
  const float* skip = nullptr;
  float* out = nullptr;
  const int32_t* token_begin = nullptr;
  const int32_t* slot = nullptr;
  std::byte* state = nullptr;  // of slot 0
  int64_t state_slot_bytes = 0;
  bool state_is_bf16 = false;
  std::byte* normaliser = nullptr;  // of slot 0, or null
  int64_t normaliser_slot_bytes = 0;
  int64_t head_count = 0;      // H
  int64_t key_head_count = 0;  // G
  int64_t key_size = 0;        // K
  int64_t value_size = 0;      // V
};

// exp[i] = exp((x[i] - max) / temperature); block_weight: the sum of trunc(2^40 exp[i]) over every
// kLogitsBlock logits.
struct ExpWeightsArgs {
  const float* x = nullptr;
  const float* block_max = nullptr;  // as Ops::block_max makes it; a block far below max is zero
  float* exp = nullptr;
  uint64_t* block_weight = nullptr;
  int64_t count = 0;
  float max = 0.0f;  // of x
  float temperature = 1.0f;
};

struct Ops {
  // Rows [row_begin, row_end) and panels of 16 outputs [panel_begin, panel_end).
  void (*matmul)(const MatMulArgs& args, int64_t row_begin, int64_t row_end, int64_t panel_begin,
                 int64_t panel_end);
  // Rows of x as `format` wants them. A row that is not finite gets a scale of NaN.
  void (*matmul_input)(const MatMulInputArgs& args, int64_t row_begin, int64_t row_end);
  // Panels that are best multiplied together when there are that many rows.
  int64_t (*matmul_panel_block)(int64_t row_count);
  void (*normalise)(const NormArgs& args, int64_t row_begin, int64_t row_end);
  void (*activate)(Activation f, const float* x, float* out, int64_t count);
  void (*gate)(Activation f, const float* x, const float* y, float* out, int64_t count);
  void (*token_matmul)(const TokenMatMulArgs& args, int64_t token_begin, int64_t token_end);
  void (*embed_row)(const void* table_row, DType dtype, float* out, int64_t size);
  void (*sinusoid_row)(int64_t position, float* out, int64_t size);
  void (*token_shift)(const TokenShiftArgs& args, int64_t row_begin, int64_t row_end);
  void (*short_convolution)(const ShortConvolutionArgs& args, int64_t column_begin,
                            int64_t column_end);
  void (*make_decay)(const MakeDecayArgs& args, int64_t token_begin, int64_t token_end);
  void (*hgrn2_prepare)(const Hgrn2PrepareArgs& args, int64_t token_begin, int64_t token_end);
  void (*mamba2_prepare)(const Mamba2PrepareArgs& args, int64_t token_begin, int64_t token_end);
  void (*rotate)(const RotateArgs& args, int64_t token_begin, int64_t token_end);
  void (*signed_softmax)(const float* x, float* out, int64_t row_count, int64_t size);
  // Items are (token, head), head fastest.
  void (*rwkv7_prepare)(const Rwkv7PrepareArgs& args, int64_t item_begin, int64_t item_end);
  void (*rwkv7_finish)(const Rwkv7FinishArgs& args, int64_t item_begin, int64_t item_end);
  // Items are (row, head), head fastest. tile: scratch [K, V] for a state of bf16.
  void (*recurrence)(const RecurrenceArgs& args, int64_t item_begin, int64_t item_end, float* tile);
  // The largest of every kLogitsBlock logits; false when one is NaN or +inf.
  bool (*block_max)(const float* x, int64_t count, float* block_max);
  // Returns the sum of all block weights.
  uint64_t (*exp_weights)(const ExpWeightsArgs& args);
  // out = exp((x - max) / temperature); the sum of them, blocks of kLogitsBlock added up in order.
  double (*exp_sum)(const float* x, int64_t count, float max, float temperature, float* out);
};

namespace v2 {
extern const Ops kOps;
}
namespace v3 {
extern const Ops kOps;
}
namespace v4 {
extern const Ops kOps;
}
namespace v4dot {
extern const Ops kOps;
}

}  // namespace eddy::cpu
