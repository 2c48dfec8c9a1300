// SPDX-License-Identifier: Apache-2.0
#include "engine/tokenizer/byte_trie.h"

#include <algorithm>

namespace eddy {
namespace {

// Entries [begin, end) share the bytes that lead to a node.
struct Range {
  size_t begin = 0;
  size_t end = 0;
  size_t depth = 0;
};

}  // namespace

ByteTrie::ByteTrie(std::vector<std::pair<std::string, int32_t>> entries) {
  std::stable_sort(entries.begin(), entries.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<Range> ranges = {{0, entries.size(), 0}};  // of the node of the same index
  for (size_t i = 0; i < ranges.size(); ++i) {
    auto [at, end, depth] = ranges[i];
    if (at < end && depth > 0 && entries[at].first.size() == depth) {
      nodes_[i].value = entries[at].second;
    }
    while (at < end && entries[at].first.size() == depth) ++at;
    nodes_[i].first_child = static_cast<uint32_t>(nodes_.size());
    while (at < end) {
      const char byte = entries[at].first[depth];
      size_t next = at;
      while (next < end && entries[next].first[depth] == byte) ++next;
      Node child;
      child.byte = static_cast<uint8_t>(byte);
      if (i == 0) root_child_[child.byte] = static_cast<uint32_t>(nodes_.size());
      ++nodes_[i].child_count;
      nodes_.push_back(child);
      ranges.push_back({at, next, depth + 1});
      at = next;
    }
  }
}

bool ByteTrie::Cursor::Step(char byte) {
  const auto wanted = static_cast<uint8_t>(byte);
  if (node_ == 0) {
    node_ = trie_.root_child_[wanted];
    return node_ != 0;
  }
  const Node& node = trie_.nodes_[node_];
  const auto begin = trie_.nodes_.begin() + node.first_child;
  const auto end = begin + node.child_count;
  const auto found =
      std::lower_bound(begin, end, wanted, [](const Node& n, uint8_t b) { return n.byte < b; });
  if (found == end || found->byte != wanted) return false;
  node_ = static_cast<uint32_t>(found - trie_.nodes_.begin());
  return true;
}

ByteTrie::Match ByteTrie::Longest(std::string_view text) const {
  Match match;
  Cursor cursor(*this);
  for (size_t i = 0; i < text.size() && cursor.Step(text[i]); ++i) {
    if (cursor.value() != kNone) match = {cursor.value(), i + 1};
  }
  return match;
}

}  // namespace eddy
