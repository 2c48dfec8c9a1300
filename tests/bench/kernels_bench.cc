// SPDX-License-Identifier: Apache-2.0
// Every op of the CPU backend over real shapes, with GB/s, GFLOP/s and the share of what the probe
// measured next to it. README.md says what the figures mean.
// usage: eddy-kernels-bench [--threads=N] [--cpu_target=auto|v2|v3|v4|v4dot]
//        [--numeric_path=auto|fma|bf16dot|int8dot] [--benchmark_...]
#include <benchmark/benchmark.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>

#include "tests/bench/op_bench.h"

namespace eddy {
namespace {

// The text after `name`, or nullptr.
const char* ValueOf(const char* argument, std::string_view name) {
  return std::string_view(argument).starts_with(name) ? argument + name.size() : nullptr;
}

// Takes our own flags out of argv; the rest is Google Benchmark's.
BackendOptions ParseFlags(int* argc, char** argv) {
  BackendOptions options;
  int kept = 1;
  for (int i = 1; i < *argc; ++i) {
    if (const char* threads = ValueOf(argv[i], "--threads=")) {
      options.thread_count = std::atoi(threads);
    } else if (const char* target = ValueOf(argv[i], "--cpu_target=")) {
      options.cpu_target = target;
    } else if (const char* path = ValueOf(argv[i], "--numeric_path=")) {
      options.numeric_path = path;
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
  auto backend = eddy::MakeBackend(options);
  if (!backend.ok()) {
    std::fprintf(stderr, "%s\n", backend.status().ToString().c_str());
    return 1;
  }
  const eddy::BackendInfo info = (*backend)->info();
  eddy::Probe probe(info.thread_count);
  probe.Measure();
  benchmark::AddCustomContext("probe", eddy::DescribeProbe(probe.TakeMedians()));
  benchmark::AddCustomContext("backend", info.name + " " + info.target + " " + info.numeric_path +
                                             ", " + std::to_string(info.thread_count) + " threads");
  eddy::OpBench bench(*std::move(backend));
  eddy::RegisterMatMul(bench);
  eddy::RegisterRecurrence(bench);
  eddy::RegisterPointwise(bench);
  eddy::RegisterSample(bench);
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
