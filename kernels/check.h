// SPDX-License-Identifier: Apache-2.0
// CHECK: a bug in our own code prints the place and the values, then aborts. Never for outside
// input.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <string>

namespace eddy {

// Collects the streamed message of a failed check and aborts when the statement ends.
class CheckFailure {
 public:
  CheckFailure(const char* file, int line, const char* condition) {
    message_ << file << ":" << line << ": check failed: " << condition << " ";
  }
  [[noreturn]] ~CheckFailure() {
    std::fprintf(stderr, "%s\n", message_.str().c_str());
    std::abort();
  }
  template <typename T>
  CheckFailure& operator<<(const T& value) {
    message_ << value;
    return *this;
  }

 private:
  std::ostringstream message_;
};

}  // namespace eddy

#define EDDY_CHECK(condition)                              \
  if (__builtin_expect(static_cast<bool>(condition), 1)) { \
  } else                                                   \
    ::eddy::CheckFailure(__FILE__, __LINE__, #condition)

#define EDDY_CHECK_EQ(a, b) EDDY_CHECK((a) == (b)) << "(" << (a) << " vs " << (b) << ") "
#define EDDY_CHECK_LE(a, b) EDDY_CHECK((a) <= (b)) << "(" << (a) << " vs " << (b) << ") "
#define EDDY_CHECK_LT(a, b) EDDY_CHECK((a) < (b)) << "(" << (a) << " vs " << (b) << ") "
