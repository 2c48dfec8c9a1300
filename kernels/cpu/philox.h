// SPDX-License-Identifier: Apache-2.0
// Philox4x32-10, the counter-based random function of Salmon et al., "Parallel Random Numbers: As
// Easy as 1, 2, 3" (SC 2011): the random bits of a token are a pure function of (seed, position).
#pragma once

#include <array>
#include <cstdint>

namespace eddy::cpu {

inline std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> counter,
                                          std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{0xD2511F53} * counter[0];
    const uint64_t product1 = uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key[0],
               static_cast<uint32_t>(product1),
               static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key[1],
               static_cast<uint32_t>(product0)};
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
  return counter;
}

// Two times 53 random bits: u = result / 2^53. Key = seed and counter = position, low words first;
// of the words out the first two make the first, the last two the second, the earlier one on top.
inline std::array<uint64_t, 2> RandomBits53Pair(uint64_t seed, int64_t position) {
  const auto p = static_cast<uint64_t>(position);
  const std::array<uint32_t, 4> out =
      Philox4x32({static_cast<uint32_t>(p), static_cast<uint32_t>(p >> 32), 0, 0},
                 {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  return {(uint64_t{out[0]} << 32 | out[1]) >> 11, (uint64_t{out[2]} << 32 | out[3]) >> 11};
}

// The first of the two.
inline uint64_t RandomBits53(uint64_t seed, int64_t position) {
  return RandomBits53Pair(seed, position)[0];
}

}  // namespace eddy::cpu
