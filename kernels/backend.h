// SPDX-License-Identifier: Apache-2.0
// Backend: one device's memory, its in-order stream, and the ops that models are composed of.
//
// Ops return void and may run asynchronously; shapes are checked once here, at the boundary (a
// wrong one is a bug: abort). Synchronize() is the only wait and the only place a device error
// surfaces. Inputs first, output last; an absent Tensor leaves an optional input out; `out` may be
// the same memory as an input only where said. Not thread-safe: the step thread owns it (loading,
// before that thread starts, may use it too).
//
// Exactness (D3): every output element is accumulated in one fixed order that depends on neither
// the number of rows nor how they are cut, nor the number of worker threads. Tests hold this bit
// for bit.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/buffer.h"
#include "kernels/op_options.h"
#include "kernels/quantise.h"
#include "kernels/tensor.h"

namespace eddy {

// The ragged batch of one step as ops see it: flat arrays, T = token_count tokens in all.
struct Rows {
  int32_t row_count = 0;
  int32_t token_count = 0;
  int32_t logits_count = 0;
  const int32_t* tokens = nullptr;  // [token]
  const int32_t* token_begin =
      nullptr;                        // [row + 1]; row r has [token_begin[r], token_begin[r + 1])
  const int32_t* slot = nullptr;      // [row]; no slot twice
  const int64_t* position = nullptr;  // [row], the session position of the row's first token
  const int32_t* logits_token = nullptr;  // [logits], indices into tokens whose logits are wanted
};

// One tensor of the state, in every slot of a pool: slot s has it at base + s * slot_bytes +
// offset_bytes.
struct StateRef {
  std::byte* base = nullptr;
  int64_t slot_bytes = 0;
  int64_t offset_bytes = 0;
  DType dtype = DType::kF32;  // of the numbers; kBF16 only where an op says so
};

// A weight matrix y = W x in the backend's packed form.
struct Matrix {
  Buffer buffer;
  int64_t out_size = 0;
  int64_t in_size = 0;
  DType dtype = DType::kF32;
};

// One of several matrix products that do not need each other's results: out = x W^T + bias.
struct Product {
  Tensor x;                        // [T, in]
  const Matrix* weight = nullptr;  // [out, in]
  Tensor bias;                     // [out] or absent
  Tensor out;                      // [T, out]; not x
  // Both or none: x + difference mix, elementwise, takes the place of x (RWKV's token shift).
  Tensor difference = {};  // [T, in]
  Tensor mix = {};         // [in], or [T, in]: each token has its own
};

// H heads; q and k may have G heads where G divides H: head h then uses key head h / (H / G).
struct RecurrenceInputs {
  Tensor q;      // [T, G, K]
  Tensor k;      // [T, G, K]
  Tensor v;      // [T, H, V]
  Tensor decay;  // w: kConstant [H], kScalar [T, H], kVector [T, H, K]; factors, not logarithms
  Tensor beta;   // [T, H]; kDelta; with Removal::kNone it may be absent
  Tensor a;      // [T, H, K]; kGeneral
  Tensor b;      // [T, H, K]; kGeneral
  Tensor bonus;  // u [H, K]; kBeforeWriteWithBonus
  Tensor skip;   // D [H] or absent
};

// Each row of N numbers is normalised by itself; T rows, or T tokens of G groups.
struct NormInputs {
  Tensor x;              // [T, N] or [T, G, N]
  Tensor residual = {};  // like x, or absent: added to x first
  Tensor weight = {};    // [N]; or [G, N], where each group has its own; or absent
  Tensor bias = {};      // like weight, or absent
  Tensor gate = {};      // like x, or absent
};

// What RWKV-7 derives from its projections before the recurrence; H heads of N channels, C = H N.
struct Rwkv7Projections {
  Tensor decay;            // [T, C]: w0 + tanh(x_w w1) w2
  Tensor rate;             // [T, C]: a0 + x_a a1 a2
  Tensor k;                // [T, C]
  Tensor v;                // [T, C]
  Tensor value_mix = {};   // [T, C]: v0 + x_v v1 v2; absent in the first layer
  Tensor first_v = {};     // [T, C]: the first layer's v; absent there
  Tensor key_scale = {};   // k_k [H, N]
  Tensor rate_scale = {};  // k_a [H, N]
};

struct Rwkv7Readout {
  Tensor y;            // [T, H, N], of the recurrence
  Tensor r;            // [T, H, N]
  Tensor k;            // [T, H, N]
  Tensor v;            // [T, H, N]
  Tensor gate;         // g [T, H, N]
  Tensor bonus;        // r_k [H, N]
  Tensor norm_weight;  // [H, N]
  Tensor norm_bias;    // [H, N]
};

struct LogitBias {
  int32_t token = 0;
  float bias = 0.0f;
};
struct TokenCount {
  int32_t token = 0;
  int32_t count = 0;
};

// How to choose one row's token. Spans point at host memory that lives until Synchronize().
struct SampleRow {
  float temperature = 1.0f;  // 0: greedy
  int32_t top_k = 0;         // 0: off
  float top_p = 1.0f;
  float min_p = 0.0f;
  float repetition_penalty = 1.0f;
  float presence_penalty = 0.0f;
  float frequency_penalty = 0.0f;
  uint64_t seed = 0;
  int64_t position = 0;               // of the token to choose; Philox counter
  std::span<const TokenCount> seen;   // tokens the penalties apply to, each once
  std::span<const LogitBias> biases;  // each token once
  std::span<const int32_t> banned;    // never chosen
  bool wants_log_prob = false;
  int32_t alternative_count = 0;  // wanted, at most SampleResult::kAlternativesMax
};

struct SampleResult {
  static constexpr int32_t kAlternativesMax = 20;
  int32_t token = -1;     // -1: the logits were not finite, nothing can be chosen
  float log_prob = 0.0f;  // of the model's own distribution: before penalties, bias and temperature
  int32_t alternative_count = 0;
  int32_t alternative_token[kAlternativesMax];  // most probable first, ties by lower id
  float alternative_log_prob[kAlternativesMax];
};

// What to tell of one row of logits.
struct ScoreRow {
  static constexpr int32_t kAlternativesMax = 256;
  int32_t token = 0;  // whose log-probability is wanted
  // Where the most probable tokens go, {token, log-probability}: as many as it has room for, at
  // most kAlternativesMax. Host memory that lives until Synchronize().
  std::span<LogitBias> alternatives;
};

struct ScoreResult {
  bool is_finite = false;  // false: a logit was NaN or +inf, or none finite; the rest says nothing
  float log_prob = 0.0f;   // -inf for a token whose logit is
  int32_t alternative_count = 0;  // written: less than the room where fewer logits are finite
};

struct BackendInfo {
  std::string name;          // "cpu"
  std::string target;        // instruction set or architecture in use: "v2", "v3", "v4", "v4dot"
  std::string numeric_path;  // "fma", "bf16dot", "int8dot"; the same path means the same bits
  int thread_count = 0;
};

struct BackendOptions {
  std::string backend = "auto";  // auto | cpu
  // auto | v2 | v3 | v4: x86-64 levels | v4dot: v4 with the bf16 and int8 dot products
  std::string cpu_target = "auto";
  std::string numeric_path = "auto";  // auto | fma | bf16dot | int8dot
  int thread_count = 0;               // 0: one per core
};

class Backend {
 public:
  virtual ~Backend() = default;

  virtual const BackendInfo& info() const = 0;

  // ---- memory ----
  // Zeroed, 64-byte aligned. RESOURCE_EXHAUSTED when it cannot be had.
  virtual absl::StatusOr<Buffer> Allocate(int64_t bytes) = 0;
  virtual void Free(void* data, int64_t bytes) = 0;
  virtual void CopyIn(const void* host, void* device, int64_t bytes) = 0;
  virtual void CopyOut(const void* device, void* host, int64_t bytes) = 0;
  virtual void CopyOnDevice(const void* from, void* to, int64_t bytes) = 0;
  virtual void FillBytes(void* device, uint8_t value, int64_t bytes) = 0;
  // A matrix without weights, to be packed into; stored as `dtype`: f32, bf16, int8 (one scale per
  // output) or int4 (one scale per output and 64 inputs).
  virtual absl::StatusOr<Matrix> AllocateMatrix(int64_t out_size, int64_t in_size, DType dtype) = 0;
  // Packs host weights [rows, in], f32 or bf16, as the outputs from `out_begin` on, each once.
  // out_begin is a multiple of kPackRows, and so is the number of rows but for the last outputs.
  // The host's weights are not needed afterwards.
  static constexpr int64_t kPackRows = 16;
  virtual void PackRows(const Tensor& host, int64_t out_begin, const Matrix& matrix) = 0;
  // The same of weights that are quantised already: the matrix gets exactly these integers and
  // scales, which are within the bounds of kernels/quantise.h.
  virtual void PackQuantisedRows(const QuantisedMatrix& host, int64_t out_begin,
                                 const Matrix& matrix) = 0;
  // Whole matrices at once.  host [out, in]
  absl::StatusOr<Matrix> PackMatrix(const Tensor& host, DType dtype);
  absl::StatusOr<Matrix> PackQuantised(const QuantisedMatrix& host);

  // ---- a step ----
  // Takes the host's arrays and returns them as the ops want them; valid until the next BeginStep.
  // The host's arrays must stay as they are until Synchronize().
  virtual const Rows& BeginStep(const Rows& host) = 0;
  // Waits for everything before it. An error is sticky: INTERNAL, the device is lost.
  virtual absl::Status Synchronize() = 0;
  // Seconds that the step thread has waited inside ops for its workers, since the backend was made.
  virtual double WaitSeconds() const { return 0.0; }

  // ---- ops; T = rows.token_count ----
  // out[t, column .. column + E) = table[tokens[t]].  table [vocabulary, E] f32 or bf16, out [T, D]
  virtual void Embed(const Rows& rows, const Tensor& table, int64_t column, const Tensor& out) = 0;
  // out[t, column + 2i] = sin(p 10000^(-2i/E)), [column + 2i + 1] = cos(same), p the token's
  // position; even E.
  virtual void Sinusoid(const Rows& rows, int64_t column, int64_t size, const Tensor& out) = 0;
  // All of `products`, as one piece of work: waking and joining workers once is what makes the
  // small ones cheap. An x may be shared; no out may be another's x. All have the same T.
  virtual void MatMulGroup(std::span<const Product> products) = 0;
  void MatMul(const Tensor& x, const Matrix& weight, const Tensor& bias, const Tensor& out) {
    const Product product = {x, &weight, bias, out};
    MatMulGroup({&product, 1});
  }
  // s = x + residual; sum = s, where it is present (it may be x or residual). Over the N numbers of
  // a row, with the biased variance:
  //   kLayer: n = (s - mean) / sqrt(variance + eps);  kRms: n = s / sqrt(mean of s^2 + eps);
  //   kL2: n = s / sqrt(sum of s^2 + eps);  kSum: n = s / (sum of s + eps)
  // out = (n weight + bias) f(gate); with gate_first, which takes no sum, s = (x + residual)
  // f(gate) and out = n weight + bias. out may be any input, but not sum; and the gate only with
  // gate_first or without a residual.
  virtual void Normalise(const NormOptions& options, const NormInputs& inputs, const Tensor& sum,
                         const Tensor& out) = 0;
  // The same as one call in its plain form: out = LN(x + residual).  x, out [T, D]
  void LayerNorm(const Tensor& x, const Tensor& residual, const Tensor& weight, const Tensor& bias,
                 float eps, const Tensor& out) {
    Normalise({NormKind::kLayer, eps}, {x, residual, weight, bias, Tensor()}, Tensor(), out);
  }
  // A matrix for each token (RWKV-7a's deep embedding): out[t] = x[t] (a[t] + b[t]). Not in place.
  // x [T, N], a, b [T, N M], out [T, M]
  virtual void TokenMatMul(const Tensor& x, const Tensor& a, const Tensor& b,
                           const Tensor& out) = 0;
  // out = f(x), elementwise; out may be x.
  virtual void Activate(Activation f, const Tensor& x, const Tensor& out) = 0;
  // out = f(x) y, elementwise; out may be x or y.
  virtual void Gate(Activation f, const Tensor& x, const Tensor& y, const Tensor& out) = 0;
  // out[i] = x[rows.logits_token[i]].  x [T, D], out [logits_count, D]
  virtual void GatherLogitsRows(const Rows& rows, const Tensor& x, const Tensor& out) = 0;

  // out[t] = x[t - 1] - x[t], the difference of a Product; before a row's first token stands the
  // state, which becomes the row's last x.  x, out [T, D]; state [D] f32
  virtual void TokenShift(const Rows& rows, const Tensor& x, const StateRef& state,
                          const Tensor& out) = 0;
  // A causal convolution of each channel by itself, then silu: out[t, c] = silu(bias[c] + sum_i
  // weight[i, c] x[t - W + 1 + i, c]); the W - 1 inputs before a row's first token are the state
  // (oldest first), which becomes the session's last ones. Not in place.
  // x, out [T, C], weight [W, C], bias [C] or absent; state [W - 1, C] f32
  virtual void ShortConvolution(const Rows& rows, const Tensor& x, const Tensor& weight,
                                const Tensor& bias, const StateRef& state, const Tensor& out) = 0;
  void ShortConvolution(const Rows& rows, const Tensor& x, const Tensor& weight,
                        const StateRef& state, const Tensor& out) {
    ShortConvolution(rows, x, weight, Tensor(), state, out);
  }
  // Factors of decay in place, as DecayOptions says with x = decay + bias. Gated DeltaNet
  // (2412.06464): kSoftplus, rate A_log, bias dt_bias. GLA (2312.06635): kSoftplusOfMinus, scale
  // 1/16. KDA (2510.26692): kSoftplus or kBounded, a rate per head.
  // decay [T, H] or [T, H, K]; rate [H] or absent; bias [H] or [H, K], or absent
  virtual void MakeDecay(const DecayOptions& options, const Tensor& decay, const Tensor& rate,
                         const Tensor& bias) = 0;
  // HGRN2 (2404.07904): decay <- floor + (1 - floor) sigmoid(decay);  key = 1 - decay, without the
  // rounding of decay.  decay, key [T, C], floor [C] or absent (0)
  virtual void Hgrn2Prepare(const Tensor& floor, const Tensor& decay, const Tensor& key) = 0;
  // Rotates each pair (i, i + K/2) of every head of x by the token's angle, in place (RoPE,
  // 2104.09864, in halves): x_i <- x_i cos_i - x_{i + K/2} sin_i and x_{i + K/2} <- x_{i + K/2}
  // cos_i + x_i sin_i.  angles [T, K]: sin_i, cos_i by turns, of Sinusoid; x [T, H, K], even K
  virtual void Rotate(const Tensor& angles, const Tensor& x) = 0;
  // out = softmax of [2x, -2x], each row by itself (Hedgehog, 2402.04347).  x [N, d], out [N, 2d]
  virtual void SignedSoftmax(const Tensor& x, const Tensor& out) = 0;
  // Mamba-2 (2405.21060): step <- softplus(step + bias), at least range.min and at most range.max;
  // decay = exp(-exp(rate) step).  step, decay [T, H], rate (A_log), bias (dt_bias) [H]
  virtual void Mamba2Prepare(const StepRange& range, const Tensor& rate, const Tensor& bias,
                             const Tensor& step, const Tensor& decay) = 0;
  // RWKV-7 (2503.14456), between the projections and the recurrence, in place; with a = sigmoid of
  // rate and kappa = k k_k divided by max(its norm over the head, 1e-12):
  //   decay <- w = exp(-e^(-1/2) sigmoid(decay));  v <- v + (first_v - v) sigmoid(value_mix)
  //   k <- k (1 + (a - 1) k_a);  rate <- kappa a;  removal = -kappa.  removal [T, C]
  virtual void Rwkv7Prepare(const Rwkv7Projections& inputs, const Tensor& removal) = 0;
  // And after it: out = (GroupNorm(y) + (sum_d r_d k_d r_k,d) v) g, norm and sum over a head's N
  // channels.  out [T, H, N], may be y
  virtual void Rwkv7Finish(const Rwkv7Readout& inputs, float eps, const Tensor& out) = 0;

  // The one recurrence (D6). Per row and head, token by token in order, S [K, V] in the row's slot
  // in place:
  //   kNone, kGeneral:  p = S^T a                       (kGeneral only; the undecayed S)
  //                     S <- diag(w) S + b p^T          (w = 1 with Decay::kNone)
  //                     S <- S + k (beta v)^T           (beta = 1 where it is absent)
  //   kDelta:           S <- diag(w) S;  u = beta (v - S^T k);  S <- S + k u^T
  //   z <- w z + k                                      (with a normaliser; z [K])
  //   kAfterWrite:            y = s S^T q
  //   kBeforeWriteWithBonus:  y = s (S'^T q + (sum_d q_d u_d k_d) v), S' before decay and write
  //   kAddEps: y <- y / (s (q.z) + eps);  kFloor: y <- y / max(s (q.z), eps)
  //   y <- y + D v                                      (with a skip)
  // "Transformers are RNNs" (2006.16236), RetNet (2307.08621), GLA (2312.06635), DeltaNet
  // (2406.06484), Gated DeltaNet (2412.06464), RWKV-6 and -7 (2404.05892, 2503.14456), Mamba-2
  // (2405.21060). state: S [H, K, V] f32 or bf16 (then rounded after every token, so that chunks
  // change nothing); normaliser_state: z [G, K] f32, required (and G = H) exactly with a
  // normaliser. out: y [T, H, V]
  virtual void Recurrence(const RecurrenceOptions& options, const Rows& rows,
                          const RecurrenceInputs& inputs, const StateRef& state,
                          const StateRef& normaliser_state, const Tensor& out) = 0;

  // Chooses one token per row of logits [n, vocabulary] (overwritten). In this order:
  // log-probabilities asked for; repetition (divide positive, multiply negative logits), presence
  // and frequency penalties on `seen`; biases; banned; temperature 0: the largest, ties to the
  // lower id; else divide by temperature, keep the top_k largest (ties to the lower id), then the
  // smallest set of the most probable whose sum reaches top_p (at least one), then those of at
  // least min_p times the largest probability; draw over the kept ones in order of their ids: the
  // first whose sum exceeds u times the whole, u in [0, 1)
  // the first 53 bits of Philox4x32-10(key = seed, counter = position). Sums are those of the kept
  // ones: top_p is a share of what top_k left.
  // rows and results are host arrays; results are valid after Synchronize().
  virtual void Sample(const Tensor& logits, std::span<const SampleRow> rows,
                      std::span<SampleResult> results) = 0;
  // Tells of each row of logits [n, vocabulary] (left as they are) the log-probability of its token
  // and the most probable tokens, falling, ties by lower id, none of -inf: the bits that Sample
  // tells of the same logits.
  // rows and results are host arrays; results are valid after Synchronize().
  virtual void Score(const Tensor& logits, std::span<const ScoreRow> rows,
                     std::span<ScoreResult> results) = 0;

  // The same from a mixture of M logistics ("Transformers are RNNs", 2006.16236; PixelCNN++,
  // 1701.05517), the output of models whose tokens are `value_count` values in order, as pixels
  // are. outputs [n, 3 M] f32 of a row: logits l, means mu, logarithms of scales s (at least -7 are
  // taken). Value b of N is y = 2 b / (N - 1) - 1 and has all that lies nearer to it than to
  // another value, h = 1 / (N - 1) to each side; the first and the last value have all beyond, too:
  //   log-probability of b = log sum_m softmax(l)_m (F((y + h - mu_m) / e^s_m) -
  //                                                  F((y - h - mu_m) / e^s_m)), F the sigmoid
  // Drawn with u1, Sample's u, and u2, the next 52 bits of the same Philox and half a bit: m is the
  // first whose sum of exp((l_m - max l) / temperature) exceeds u1 times the whole; the value is
  // the nearest to y = mu_m + temperature e^s_m ln(u2 / (1 - u2)). At temperature 0 it is the
  // nearest to the mean of the largest l, ties to the lower m. Of `rows` temperature, seed,
  // position and wants_log_prob count; all else must be off. A token of -1 where an output is not
  // finite.
  virtual void SampleMixture(const Tensor& outputs, int32_t value_count,
                             std::span<const SampleRow> rows, std::span<SampleResult> results) = 0;
  // Tells the same log-probability of given values; `rows` have no room for alternatives.
  virtual void ScoreMixture(const Tensor& outputs, int32_t value_count,
                            std::span<const ScoreRow> rows, std::span<ScoreResult> results) = 0;
};

// INVALID_ARGUMENT for a name that does not exist, FAILED_PRECONDITION for one this machine cannot
// run.
absl::StatusOr<std::unique_ptr<Backend>> MakeBackend(const BackendOptions& options);

}  // namespace eddy
