// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/cpu_target.h"

#include <cpuid.h>

#include <cstdint>
#include <string>

namespace eddy::cpu {
namespace {

struct Registers {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

// All zero when the processor has no such leaf.
Registers Cpuid(uint32_t leaf, uint32_t subleaf) {
  Registers r;
  __get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx);
  return r;
}

// The vector states that the operating system saves (XCR0); 0 without XSAVE.
uint32_t SavedStates() {
  constexpr uint32_t kOsxsave = 1u << 27;
  if ((Cpuid(1, 0).ecx & kOsxsave) == 0) return 0;
  uint32_t low = 0;
  uint32_t high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}

bool HasAll(uint32_t value, uint32_t bits) { return (value & bits) == bits; }

bool HasV2() {
  // SSE3, SSSE3, CMPXCHG16B, SSE4.1, SSE4.2, POPCNT; LAHF.
  constexpr uint32_t kLeaf1 = 1u | 1u << 9 | 1u << 13 | 1u << 19 | 1u << 20 | 1u << 23;
  return HasAll(Cpuid(1, 0).ecx, kLeaf1) && HasAll(Cpuid(0x80000001, 0).ecx, 1u);
}

bool HasV3() {
  // FMA, MOVBE, AVX, F16C; BMI1, AVX2, BMI2; LZCNT; the states of SSE and AVX.
  constexpr uint32_t kLeaf1 = 1u << 12 | 1u << 22 | 1u << 28 | 1u << 29;
  constexpr uint32_t kLeaf7 = 1u << 3 | 1u << 5 | 1u << 8;
  return HasV2() && HasAll(SavedStates(), 0x6) && HasAll(Cpuid(1, 0).ecx, kLeaf1) &&
         HasAll(Cpuid(7, 0).ebx, kLeaf7) && HasAll(Cpuid(0x80000001, 0).ecx, 1u << 5);
}

bool HasV4() {
  // AVX-512 F, DQ, CD, BW, VL; the states of its masks and registers.
  constexpr uint32_t kLeaf7 = 1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31;
  return HasV3() && HasAll(SavedStates(), 0xe6) && HasAll(Cpuid(7, 0).ebx, kLeaf7);
}

bool HasV4Dot() {
  constexpr uint32_t kVnni = 1u << 11;  // leaf 7
  constexpr uint32_t kBf16 = 1u << 5;   // leaf 7, subleaf 1
  return HasV4() && HasAll(Cpuid(7, 0).ecx, kVnni) && HasAll(Cpuid(7, 1).eax, kBf16);
}

}  // namespace

const char* CpuTargetName(CpuTarget target) {
  switch (target) {
    case CpuTarget::kV2:
      return "v2";
    case CpuTarget::kV3:
      return "v3";
    case CpuTarget::kV4:
      return "v4";
    case CpuTarget::kV4Dot:
      return "v4dot";
  }
  return "?";
}

const Ops& OpsOf(CpuTarget target) {
  switch (target) {
    case CpuTarget::kV4Dot:
      return v4dot::kOps;
    case CpuTarget::kV4:
      return v4::kOps;
    case CpuTarget::kV3:
      return v3::kOps;
    default:
      return v2::kOps;
  }
}

bool MachineHas(CpuTarget target) {
  switch (target) {
    case CpuTarget::kV2:
      return HasV2();
    case CpuTarget::kV3:
      return HasV3();
    case CpuTarget::kV4:
      return HasV4();
    case CpuTarget::kV4Dot:
      return HasV4Dot();
  }
  return false;
}

absl::StatusOr<CpuTarget> PickCpuTarget(std::string_view name) {
  for (const CpuTarget target :
       {CpuTarget::kV4Dot, CpuTarget::kV4, CpuTarget::kV3, CpuTarget::kV2}) {
    const bool named = name == CpuTargetName(target);
    if ((named || name == "auto") && MachineHas(target)) return target;
    if (named) {
      return absl::FailedPreconditionError("cpu_target is \"" + std::string(name) + "\" (x86-64-" +
                                           std::string(name) +
                                           "), but this processor or its operating system lacks "
                                           "some of its instructions; use \"auto\"");
    }
  }
  if (name == "auto") {
    return absl::FailedPreconditionError(
        "this processor is older than x86-64-v2 (SSE4.2), the least the cpu backend needs");
  }
  return absl::InvalidArgumentError("cpu_target is \"" + std::string(name) +
                                    "\"; it must be one of auto, v2, v3, v4, v4dot");
}

}  // namespace eddy::cpu
