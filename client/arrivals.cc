// SPDX-License-Identifier: Apache-2.0
#include "client/arrivals.h"

#include <cmath>

namespace eddy {

double PoissonArrivals::NextSeconds() {
  // 53 random bits: u in [0, 1), so the logarithm's argument is never 0.
  const double u = static_cast<double>(random_() >> 11) * 0x1p-53;
  seconds_ += -std::log1p(-u) / rate_per_s_;
  return seconds_;
}

}  // namespace eddy
