// SPDX-License-Identifier: Apache-2.0
// What the fuzz tests share: how bytes are changed, by a fixed seed, and for how long.
//
// EDDY_FUZZ_ITERATIONS=N in the environment makes every test do N iterations, however long it
// takes.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

namespace eddy {

// As the environment says, else `usual`.
inline int FuzzIterations(int usual) {
  const char* text = std::getenv("EDDY_FUZZ_ITERATIONS");
  return text == nullptr ? usual : std::max(std::atoi(text), 1);
}

// As many iterations as the environment says, else as many as fit into some time, and a few.
class FuzzBudget {
 public:
  explicit FuzzBudget(std::chrono::milliseconds time)
      : count_(FuzzIterations(0)), end_(std::chrono::steady_clock::now() + time) {}

  bool Allows(int iteration) const {
    if (count_ > 0) return iteration < count_;
    return iteration < 10 || std::chrono::steady_clock::now() < end_;
  }

 private:
  const int count_;  // 0: by the clock
  const std::chrono::steady_clock::time_point end_;
};

// One to four changes: a bit, a byte, a cut, a copied or removed stretch, or something a parser may
// stumble on.
class Mutator {
 public:
  explicit Mutator(uint32_t seed) : random_(seed) {}

  size_t Below(size_t bound) { return bound == 0 ? 0 : random_() % bound; }

  // Changes begin within the first `reach` bytes.
  std::string Mutated(std::string text, size_t reach) {
    const size_t changes = 1 + Below(4);
    for (size_t i = 0; i < changes; ++i) {
      const size_t at = Below(std::min(reach, text.size()));
      const size_t count = Below(std::min<size_t>(text.size() - at, 40));
      switch (Below(7)) {
        case 0:
          if (!text.empty()) text[at] = static_cast<char>(text[at] ^ (1 << Below(8)));
          break;
        case 1:
          if (!text.empty()) text[at] = static_cast<char>(Below(256));
          break;
        case 2:
          text.resize(at);
          break;
        case 3:
          text.erase(at, count);
          break;
        case 4:
          text.insert(at, std::string(text.substr(Below(text.size()), count)));
          break;
        default:
          Replace(text, at);
          break;
      }
    }
    return text;
  }

 private:
  // Puts a nasty piece over the digits at or after `at`, or in between.
  void Replace(std::string& text, size_t at) {
    static const std::vector<std::string> kPieces = {
        "0",
        "-1",
        "1e999",
        "9223372036854775807",
        "18446744073709551615",
        "4611686018427387904",
        "null",
        "[[",
        "]",
        "{}",
        "\"",
        "\\u0000",
        "\\ud800",
        "1.5",
        "true",
        ",",
        std::string(3000, '['),
        std::string("\xff\xff\xff\xff\xff\xff\xff\xff"),
        "\xed\xa0\x80"};
    const size_t digit = text.find_first_of("0123456789", at);
    if (digit != std::string::npos && Below(3) != 0) {
      const size_t end = text.find_first_not_of("0123456789", digit);
      text.replace(digit, end == std::string::npos ? end : end - digit,
                   kPieces[Below(kPieces.size())]);
    } else {
      text.insert(std::min(at, text.size()), kPieces[Below(kPieces.size())]);
    }
  }

  std::mt19937 random_;
};

}  // namespace eddy
