// SPDX-License-Identifier: Apache-2.0
#include <initializer_list>
#include <string>
#include <utility>

#include "tests/bench/op_bench.h"

namespace eddy {
namespace {

// Reads and writes so many floats.
OpWork Floats(int64_t count) { return {.bytes = 4.0 * static_cast<double>(count)}; }

void LayerNorm(OpBench& bench, benchmark::State& state, int64_t row_count, int64_t size) {
  std::vector<float> x = RandomValues(row_count * size);
  std::vector<float> residual = RandomValues(row_count * size);
  std::vector<float> weight = RandomValues(size);
  const Shape shape = {row_count, size};
  std::vector<float> sum(x.size()), out(x.size());
  bench.Measure(state, Floats(4 * row_count * size), [&] {
    bench.backend().Normalise({NormKind::kLayer, 1e-5f},
                              {View(x, shape), View(residual, shape), View(weight, {size}),
                               View(weight, {size}), Tensor()},
                              View(sum, shape), View(out, shape));
  });
}

void Activate(OpBench& bench, benchmark::State& state, Activation f, int64_t count) {
  std::vector<float> x = RandomValues(count);
  std::vector<float> out(x.size());
  bench.Measure(state, Floats(2 * count),
                [&] { bench.backend().Activate(f, View(x, {count}), View(out, {count})); });
}

void EmbedAndSinusoid(OpBench& bench, benchmark::State& state, int32_t row_count, int64_t size) {
  BenchRows step(row_count, 1);
  std::vector<float> table = RandomValues(256 * size);
  std::vector<float> out(static_cast<size_t>(row_count * size * 2));
  const Shape shape = {row_count, size * 2};
  bench.Measure(state, Floats(row_count * size * 3), [&] {
    bench.backend().Embed(step.rows, View(table, {256, size}), 0, View(out, shape));
    bench.backend().Sinusoid(step.rows, size, size, View(out, shape));
  });
}

void TokenShift(OpBench& bench, benchmark::State& state, int32_t row_count, int64_t size) {
  BenchRows step(row_count, 1);
  std::vector<float> x = RandomValues(row_count * size);
  std::vector<float> states(x.size());
  std::vector<float> out(x.size());
  const Shape shape = {row_count, size};
  const StateRef shift = {reinterpret_cast<std::byte*>(states.data()), size * 4, 0};
  bench.Measure(state, Floats(4 * row_count * size), [&] {
    bench.backend().TokenShift(step.rows, View(x, shape), shift, View(out, shape));
  });
}

void Rwkv7Around(OpBench& bench, benchmark::State& state, int64_t row_count, int64_t size) {
  constexpr int64_t kHeadSize = 64;
  const int64_t heads = size / kHeadSize;
  const Shape flat = {row_count, size}, by_head = {row_count, heads, kHeadSize};
  const Shape per_head = {heads, kHeadSize};
  std::vector<std::vector<float>> values(8, RandomValues(row_count * size));
  std::vector<float> scale = RandomValues(size);
  std::vector<float> zeros(scale.size());  // as k_a: k stays what it is, call after call
  const auto view = [&](size_t i, const Shape& shape) { return View(values[i], shape); };
  bench.Measure(state, Floats(15 * row_count * size), [&] {
    bench.backend().Rwkv7Prepare(
        {view(0, flat), view(1, flat), view(2, flat), view(3, flat), view(4, flat), view(5, flat),
         View(scale, per_head), View(zeros, per_head)},
        view(6, flat));
    bench.backend().Rwkv7Finish(
        {view(0, by_head), view(1, by_head), view(2, by_head), view(3, by_head), view(4, by_head),
         View(scale, per_head), View(scale, per_head), View(scale, per_head)},
        64e-5f, view(7, by_head));
  });
}

}  // namespace

void RegisterPointwise(OpBench& bench) {
  for (const int64_t size : {192, 768, 2048}) {
    for (const int32_t rows : {1, 64}) {
      const std::string shape = std::to_string(rows) + "x" + std::to_string(size);
      Register("LayerNorm/" + shape, [&bench, rows, size](benchmark::State& state) {
        LayerNorm(bench, state, rows, size);
      });
      Register("EmbedAndSinusoid/" + shape, [&bench, rows, size](benchmark::State& state) {
        EmbedAndSinusoid(bench, state, rows, size);
      });
      Register("TokenShift/" + shape, [&bench, rows, size](benchmark::State& state) {
        TokenShift(bench, state, rows, size);
      });
      Register("Rwkv7PrepareAndFinish/" + shape, [&bench, rows, size](benchmark::State& state) {
        Rwkv7Around(bench, state, rows, size);
      });
    }
  }
  constexpr std::pair<const char*, Activation> kActivations[] = {
      {"relu", Activation::kRelu},
      {"squared_relu", Activation::kSquaredRelu},
      {"gelu", Activation::kGelu},
      {"silu", Activation::kSilu},
      {"sigmoid", Activation::kSigmoid},
      {"tanh", Activation::kTanh},
      {"elu_plus_one", Activation::kEluPlusOne},
      {"exp", Activation::kExp},
      {"exp_minus_exp", Activation::kExpMinusExp}};
  for (const auto& [name, f] : kActivations) {
    Register("Activate/" + std::string(name) + "/49152",
             [&bench, f = f](benchmark::State& state) { Activate(bench, state, f, 49152); });
  }
}

}  // namespace eddy
