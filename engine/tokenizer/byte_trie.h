// SPDX-License-Identifier: Apache-2.0
// ByteTrie: strings to values, walked byte by byte. Constant after Build; any thread.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace eddy {

class ByteTrie {
 public:
  static constexpr int32_t kNone = -1;

  ByteTrie() = default;
  // Values are at least 0. Of equal strings the first counts; empty ones are left out.
  explicit ByteTrie(std::vector<std::pair<std::string, int32_t>> entries);

  bool empty() const { return nodes_.size() <= 1; }

  // A place in the trie, the root at first.
  class Cursor {
   public:
    explicit Cursor(const ByteTrie& trie) : trie_(trie) {}
    // False, and of no further use, when no string goes on with the byte.
    bool Step(char byte);
    // Of the string that ends here; kNone: none does.
    int32_t value() const { return trie_.nodes_[node_].value; }

   private:
    const ByteTrie& trie_;
    uint32_t node_ = 0;
  };

  struct Match {
    int32_t value = kNone;
    size_t bytes = 0;
  };
  // The longest string that `text` begins with.
  Match Longest(std::string_view text) const;

 private:
  struct Node {
    uint32_t first_child = 0;
    uint16_t child_count = 0;
    uint8_t byte = 0;  // that leads here
    int32_t value = kNone;
  };
  std::vector<Node> nodes_ = std::vector<Node>(1);  // children side by side, by rising byte
  std::array<uint32_t, 256> root_child_ = {};       // 0: none
};

}  // namespace eddy
