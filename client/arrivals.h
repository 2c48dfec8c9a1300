// SPDX-License-Identifier: Apache-2.0
// When the requests of an open-loop load come.
#pragma once

#include <cstdint>
#include <random>

namespace eddy {

// A Poisson process of `rate_per_s` arrivals per second (> 0): the gaps are independent and
// exponential, so load comes in bursts as from many strangers. The same seed gives the same times
// on every machine. One thread.
class PoissonArrivals {
 public:
  PoissonArrivals(double rate_per_s, uint64_t seed) : rate_per_s_(rate_per_s), random_(seed) {}

  // Seconds from the start to the next arrival; never falls.
  double NextSeconds();

 private:
  const double rate_per_s_;
  // The standard fixes this engine's numbers, but not those of its distributions.
  std::mt19937_64 random_;
  double seconds_ = 0;
};

}  // namespace eddy
