// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/cpu_target.h"

#include <gtest/gtest.h>

#include "tests/kernels/kernel_fixture.h"

namespace eddy::cpu {
namespace {

TEST(CpuTargetTest, AgreesWithTheCompilersOwnCheck) {
  __builtin_cpu_init();
  EXPECT_EQ(MachineHas(CpuTarget::kV2),
            __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("popcnt"));
  EXPECT_EQ(MachineHas(CpuTarget::kV3), __builtin_cpu_supports("avx2") &&
                                            __builtin_cpu_supports("fma") &&
                                            __builtin_cpu_supports("bmi2"));
  EXPECT_EQ(MachineHas(CpuTarget::kV4),
            __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq"));
  EXPECT_EQ(MachineHas(CpuTarget::kV4Dot), MachineHas(CpuTarget::kV4) &&
                                               __builtin_cpu_supports("avx512vnni") &&
                                               __builtin_cpu_supports("avx512bf16"));
}

TEST(CpuTargetTest, AutoIsTheBestTheMachineHas) {
  const auto target = PickCpuTarget("auto");
  ASSERT_TRUE(target.ok()) << target.status();
  EXPECT_EQ(CpuTargetName(*target), MachineTargets().back());
}

TEST(CpuTargetTest, AForcedTargetIsTakenOrRefused) {
  for (const CpuTarget target :
       {CpuTarget::kV2, CpuTarget::kV3, CpuTarget::kV4, CpuTarget::kV4Dot}) {
    const auto picked = PickCpuTarget(CpuTargetName(target));
    if (MachineHas(target)) {
      ASSERT_TRUE(picked.ok()) << picked.status();
      EXPECT_EQ(*picked, target);
    } else {
      EXPECT_EQ(picked.status().code(), absl::StatusCode::kFailedPrecondition);
      EXPECT_NE(picked.status().message().find("lacks"), picked.status().message().npos);
    }
  }
}

TEST(CpuTargetTest, AnUnknownNameIsRefusedWithTheChoices) {
  const auto picked = PickCpuTarget("v9");
  EXPECT_EQ(picked.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(picked.status().message(),
            "cpu_target is \"v9\"; it must be one of auto, v2, v3, v4, v4dot");
}

}  // namespace
}  // namespace eddy::cpu
