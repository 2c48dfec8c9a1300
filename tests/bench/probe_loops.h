// SPDX-License-Identifier: Apache-2.0
// The inner loops of the probe, each for one thread, chosen by what the machine has.
#pragma once

#include <cstddef>
#include <cstdint>

namespace eddy {

// ReadMemory and UpdateMemory take multiples of this, 64-byte aligned.
constexpr int64_t kMemoryGrain = 512;
// Some milliseconds.
constexpr int64_t kArithmeticSteps = 1'000'000;

void ReadMemory(std::byte* data, int64_t bytes);
// Reads every line, changes it and writes it back.
void UpdateMemory(std::byte* data, int64_t bytes);

// `run` does operations_per_step * step_count operations in registers. No run: the machine has no
// such instruction.
struct ArithmeticLoop {
  void (*run)(int64_t step_count) = nullptr;
  double operations_per_step = 0.0;
};

ArithmeticLoop FmaLoop();    // f32; without FMA a multiplication and an addition
ArithmeticLoop Bf16Loop();   // vdpbf16ps
ArithmeticLoop Int16Loop();  // vpdpwssd, or vpmaddwd and vpaddd
ArithmeticLoop Int8Loop();   // vpdpbusd

}  // namespace eddy
