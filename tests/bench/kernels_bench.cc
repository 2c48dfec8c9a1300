// SPDX-License-Identifier: Apache-2.0
// Every op of the CPU backend over real shapes. Counters: GB/s and GFLOP/s, and their shares of
// what the probe measured in this run (of_read, of_fma). What fits a cache may exceed the read
// bandwidth of memory.
// usage: eddy-kernels-bench [--threads=N] [--cpu_target=auto|v2|v3|v4] [--benchmark_...]
#include <benchmark/benchmark.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/backend.h"
#include "tests/bench/probe.h"

namespace eddy {
namespace {

std::unique_ptr<Backend> backend;
ProbeResult probe;

std::vector<float> Values(int64_t count) {
  std::mt19937 generator(1);
  std::uniform_real_distribution<float> distribution(-1.0f, 1.0f);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = distribution(generator);
  return values;
}

Tensor View(std::vector<float>& values, Shape shape) {
  return Tensor(values.data(), DType::kF32, shape);
}

// Runs `op` as often as the benchmark asks. Per call: bytes that must be read and written, and
// operations.
template <typename Op>
void Measure(benchmark::State& state, double bytes, double operations, const Op& op) {
  const auto start = std::chrono::steady_clock::now();
  for (auto _ : state) op();
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const double per_ns = static_cast<double>(state.iterations()) / seconds * 1e-9;
  state.counters["GB/s"] = bytes * per_ns;
  state.counters["of_read"] = bytes * per_ns / probe.read_gb_per_s;
  if (operations == 0.0) return;
  state.counters["GFLOP/s"] = operations * per_ns;
  state.counters["of_fma"] = operations * per_ns / probe.fma_gflop_per_s;
}

// The arrays of a step of `row_count` rows of equal length.
struct StepRows {
  StepRows(int32_t row_count, int32_t length) {
    for (int32_t row = 0; row <= row_count; ++row) begins.push_back(row * length);
    for (int32_t row = 0; row < row_count; ++row) slots.push_back(row);
    positions.assign(static_cast<size_t>(row_count), 1000);
    tokens.assign(static_cast<size_t>(row_count * length), 7);
    rows.row_count = row_count;
    rows.token_count = row_count * length;
    rows.tokens = tokens.data();
    rows.token_begin = begins.data();
    rows.slot = slots.data();
    rows.position = positions.data();
  }
  std::vector<int32_t> begins, slots, tokens;
  std::vector<int64_t> positions;
  Rows rows;
};

void MatMul(benchmark::State& state, DType dtype, int64_t out_size, int64_t in_size,
            int64_t row_count) {
  std::vector<float> weight = Values(out_size * in_size);
  const Matrix matrix = *backend->PackMatrix(View(weight, {out_size, in_size}), dtype);
  std::vector<float> x = Values(row_count * in_size);
  std::vector<float> out(static_cast<size_t>(row_count * out_size));
  const double bytes =
      static_cast<double>(matrix.buffer.bytes()) + 4.0 * static_cast<double>(x.size() + out.size());
  const double operations = 2.0 * static_cast<double>(row_count * in_size * out_size);
  Measure(state, bytes, operations, [&] {
    backend->MatMul(View(x, {row_count, in_size}), matrix, Tensor(),
                    View(out, {row_count, out_size}));
  });
}

void LayerNorm(benchmark::State& state, int64_t row_count, int64_t size) {
  std::vector<float> x = Values(row_count * size);
  std::vector<float> residual = Values(row_count * size);
  std::vector<float> weight = Values(size);
  const Shape shape = {row_count, size};
  std::vector<float> out(x.size());
  Measure(state, 12.0 * static_cast<double>(x.size()), 0.0, [&] {
    backend->LayerNorm(View(x, shape), View(residual, shape), View(weight, {size}),
                       View(weight, {size}), 1e-5f, View(out, shape));
  });
}

void Activate(benchmark::State& state, Activation f, int64_t count) {
  std::vector<float> x = Values(count);
  std::vector<float> out(x.size());
  Measure(state, 8.0 * static_cast<double>(count), 0.0,
          [&] { backend->Activate(f, View(x, {count}), View(out, {count})); });
}

void EmbedAndSinusoid(benchmark::State& state, int32_t row_count, int64_t size) {
  StepRows step(row_count, 1);
  std::vector<float> table = Values(256 * size);
  std::vector<float> out(static_cast<size_t>(row_count * size * 2));
  const Shape shape = {row_count, size * 2};
  Measure(state, 4.0 * static_cast<double>(row_count * size * 3), 0.0, [&] {
    backend->Embed(step.rows, View(table, {256, size}), 0, View(out, shape));
    backend->Sinusoid(step.rows, size, size, View(out, shape));
  });
}

struct Family {
  const char* name;
  RecurrenceOptions options;
  double operations;  // per element of the state and token
};

RecurrenceOptions Options(Decay decay, Removal removal, Read read, Normaliser normaliser) {
  RecurrenceOptions options;
  options.decay = decay;
  options.removal = removal;
  options.read = read;
  options.normaliser = normaliser;
  options.normaliser_eps = 1e-6f;
  return options;
}

const std::vector<Family>& Families() {
  static const std::vector<Family> families = {
      {"linear_transformer",
       Options(Decay::kNone, Removal::kNone, Read::kAfterWrite, Normaliser::kAddEps), 4},
      {"retnet", Options(Decay::kConstant, Removal::kNone, Read::kAfterWrite, Normaliser::kNone),
       5},
      {"gla", Options(Decay::kVector, Removal::kNone, Read::kAfterWrite, Normaliser::kNone), 5},
      {"gated_delta_net",
       Options(Decay::kScalar, Removal::kDelta, Read::kAfterWrite, Normaliser::kNone), 8},
      {"rwkv6",
       Options(Decay::kVector, Removal::kNone, Read::kBeforeWriteWithBonus, Normaliser::kNone), 5},
      {"rwkv7", Options(Decay::kVector, Removal::kGeneral, Read::kAfterWrite, Normaliser::kNone),
       9},
  };
  return families;
}

void Recurrence(benchmark::State& state, const Family& family, int64_t heads, int64_t size,
                int32_t row_count, int32_t length) {
  StepRows step(row_count, length);
  const int64_t tokens = step.rows.token_count;
  const int64_t state_floats = heads * size * size;
  const int64_t slot_floats = state_floats + heads * size;
  std::vector<float> x = Values(tokens * heads * size);
  std::vector<float> decay(static_cast<size_t>(tokens * heads * size), 0.9f);
  std::vector<float> states(static_cast<size_t>(row_count * slot_floats), 0.01f);
  std::vector<float> out(x.size());
  // Small keys keep the delta rule and the like from growing without bound.
  std::vector<float> keys(x.size(), 0.05f);
  const Shape shape = {tokens, heads, size};
  RecurrenceInputs inputs;
  inputs.q = inputs.v = View(x, shape);
  inputs.k = View(keys, shape);
  switch (family.options.decay) {
    case Decay::kNone:
      break;
    case Decay::kConstant:
      inputs.decay = View(decay, {heads});
      break;
    case Decay::kScalar:
      inputs.decay = View(decay, {tokens, heads});
      break;
    case Decay::kVector:
      inputs.decay = View(decay, shape);
      break;
  }
  if (family.options.removal == Removal::kDelta) inputs.beta = View(decay, {tokens, heads});
  if (family.options.removal == Removal::kGeneral) inputs.a = inputs.b = View(keys, shape);
  if (family.options.read == Read::kBeforeWriteWithBonus) inputs.bonus = View(keys, {heads, size});
  auto* base = reinterpret_cast<std::byte*>(states.data());
  StateRef normaliser;
  if (family.options.normaliser != Normaliser::kNone) {
    normaliser = {base, slot_floats * 4, state_floats * 4};
  }
  Measure(state, 8.0 * static_cast<double>(row_count * state_floats),
          family.operations * static_cast<double>(tokens * state_floats), [&] {
            backend->Recurrence(family.options, step.rows, inputs, {base, slot_floats * 4, 0},
                                normaliser, View(out, shape));
          });
}

void Sample(benchmark::State& state, const SampleRow& row, int64_t vocabulary, int64_t row_count,
            float deviation) {
  std::mt19937 generator(2);
  std::normal_distribution<float> distribution(0.0f, deviation);
  std::vector<float> logits(static_cast<size_t>(row_count * vocabulary));
  for (float& logit : logits) logit = distribution(generator);
  std::vector<SampleRow> rows(static_cast<size_t>(row_count), row);
  std::vector<SampleResult> results(rows.size());
  Measure(state, 4.0 * static_cast<double>(logits.size()), 0.0, [&] {
    for (SampleRow& each : rows) ++each.position;
    backend->Sample(View(logits, {row_count, vocabulary}), rows, results);
  });
}

void Register(const std::string& name, const std::function<void(benchmark::State&)>& run) {
  benchmark::RegisterBenchmark(name.c_str(), run)->UseRealTime()->Unit(benchmark::kMicrosecond);
}

void RegisterMatMul() {
  // The shipped model's widths, those of a 0.19B model, and its vocabulary.
  constexpr int64_t kSizes[][2] = {{192, 192}, {768, 192},  {192, 768},  {65, 192},
                                   {768, 768}, {3072, 768}, {768, 3072}, {65536, 768}};
  for (const DType dtype : {DType::kBF16, DType::kF32}) {
    for (const auto& [out, in] : kSizes) {
      for (const int64_t rows : {1, 2, 4, 8, 16, 64, 256}) {
        if (out == 65536 && rows > 16) continue;
        Register(std::string("MatMul/") + DTypeName(dtype) + "/" + std::to_string(out) + "x" +
                     std::to_string(in) + "/rows:" + std::to_string(rows),
                 [=, out = out, in = in](benchmark::State& state) {
                   MatMul(state, dtype, out, in, rows);
                 });
      }
    }
  }
}

void RegisterPointwise() {
  for (const int64_t size : {192, 768}) {
    for (const int64_t rows : {1, 64}) {
      const std::string shape = std::to_string(rows) + "x" + std::to_string(size);
      Register("LayerNorm/" + shape,
               [=](benchmark::State& state) { LayerNorm(state, rows, size); });
      Register("EmbedAndSinusoid/" + shape, [=](benchmark::State& state) {
        EmbedAndSinusoid(state, static_cast<int32_t>(rows), size);
      });
    }
  }
  const std::pair<const char*, Activation> activations[] = {
      {"relu", Activation::kRelu}, {"gelu", Activation::kGelu},
      {"silu", Activation::kSilu}, {"sigmoid", Activation::kSigmoid},
      {"tanh", Activation::kTanh}, {"elu_plus_one", Activation::kEluPlusOne},
      {"exp", Activation::kExp}};
  for (const auto& [name, f] : activations) {
    Register(std::string("Activate/") + name + "/49152",
             [f = f](benchmark::State& state) { Activate(state, f, 49152); });
  }
}

void RegisterRecurrence() {
  for (const Family& family : Families()) {
    for (const auto& [rows, length] : {std::pair{1, 1}, {64, 1}, {1, 256}}) {
      Register(std::string("Recurrence/") + family.name + "/H12_K64_V64/rows:" +
                   std::to_string(rows) + "/tokens:" + std::to_string(length),
               [&family, rows = rows, length = length](benchmark::State& state) {
                 Recurrence(state, family, 12, 64, rows, length);
               });
    }
  }
}

void RegisterSample() {
  SampleRow greedy;
  greedy.temperature = 0.0f;
  SampleRow top_k;
  top_k.top_k = 40;
  SampleRow top_p;
  top_p.top_p = 0.95f;
  SampleRow log_probs;
  log_probs.wants_log_prob = true;
  log_probs.alternative_count = 20;
  const std::pair<const char*, SampleRow> rows[] = {{"greedy", greedy},
                                                    {"plain", SampleRow()},
                                                    {"top_k_40", top_k},
                                                    {"top_p_0.95", top_p},
                                                    {"log_probs", log_probs}};
  for (const auto& [name, row] : rows) {
    for (const int64_t vocabulary : {65, 65536}) {
      for (const int64_t row_count : {1, 16}) {
        Register(std::string("Sample/") + name + "/vocabulary:" + std::to_string(vocabulary) +
                     "/rows:" + std::to_string(row_count),
                 [=, row = row](benchmark::State& state) {
                   Sample(state, row, vocabulary, row_count, 3.0f);
                 });
      }
    }
  }
  Register("Sample/top_p_0.95_flat/vocabulary:65536/rows:1",
           [=](benchmark::State& state) { Sample(state, top_p, 65536, 1, 0.1f); });
}

// Takes our own flags out of argv; the rest is Google Benchmark's.
BackendOptions ParseFlags(int* argc, char** argv) {
  BackendOptions options;
  int kept = 1;
  for (int i = 1; i < *argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument.starts_with("--threads=")) {
      options.thread_count = std::atoi(argv[i] + sizeof("--threads=") - 1);
    } else if (argument.starts_with("--cpu_target=")) {
      options.cpu_target = argv[i] + sizeof("--cpu_target=") - 1;
    } else {
      argv[kept++] = argv[i];
    }
  }
  *argc = kept;
  return options;
}

}  // namespace
}  // namespace eddy

int main(int argc, char** argv) {
  const eddy::BackendOptions options = eddy::ParseFlags(&argc, argv);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  auto made = eddy::MakeBackend(options);
  if (!made.ok()) {
    std::fprintf(stderr, "%s\n", made.status().ToString().c_str());
    return 1;
  }
  eddy::backend = *std::move(made);
  const eddy::BackendInfo& info = eddy::backend->info();
  eddy::probe = eddy::ProbeMachine(info.thread_count);
  char text[96];
  benchmark::AddCustomContext("probe", eddy::DescribeProbe(eddy::probe, text));
  benchmark::AddCustomContext("backend", info.name + " " + info.target + " " + info.numeric_path +
                                             ", " + std::to_string(info.thread_count) + " threads");
  eddy::RegisterMatMul();
  eddy::RegisterPointwise();
  eddy::RegisterRecurrence();
  eddy::RegisterSample();
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  eddy::backend.reset();
  return 0;
}
