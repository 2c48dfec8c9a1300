// SPDX-License-Identifier: Apache-2.0
// Mutator: damages files by a fixed seed, for the fuzz tests.
#pragma once

#include <algorithm>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

namespace eddy {

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
