// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/philox.h"

#include <gtest/gtest.h>

namespace eddy::cpu {
namespace {

using Four = std::array<uint32_t, 4>;

// The known answers that the authors publish with Random123 (kat_vectors, philox4x32 10).
TEST(PhiloxTest, KnownAnswers) {
  EXPECT_EQ(Philox4x32({0, 0, 0, 0}, {0, 0}),
            (Four{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (Four{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Four{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(PhiloxTest, BitsAreTheFirst53OfSeedAndPosition) {
  EXPECT_EQ(RandomBits53(0, 0), 0x6627e8d5e169c58dULL >> 11);
  const Four words = Philox4x32({0x89abcdef, 0x01234567, 0, 0}, {0x76543210, 0xfedcba98});
  EXPECT_EQ(RandomBits53(0xfedcba9876543210ULL, 0x0123456789abcdefLL),
            (uint64_t{words[0]} << 32 | words[1]) >> 11);
  EXPECT_LT(RandomBits53(7, 7), uint64_t{1} << 53);
  const auto pair = RandomBits53Pair(0xfedcba9876543210ULL, 0x0123456789abcdefLL);
  EXPECT_EQ(pair[0], RandomBits53(0xfedcba9876543210ULL, 0x0123456789abcdefLL));
  EXPECT_EQ(pair[1], (uint64_t{words[2]} << 32 | words[3]) >> 11);
}

}  // namespace
}  // namespace eddy::cpu
