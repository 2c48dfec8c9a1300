// SPDX-License-Identifier: Apache-2.0
// Byte-pair encoding's loop: merges the adjacent pair of the lowest rank, the leftmost of equals,
// until no pair merges. O(n log n).
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace eddy {

struct Symbol {
  int32_t id = -1;
  uint32_t begin = 0;  // in the text
  uint32_t bytes = 0;  // 0: merged into the one before
  int32_t previous = -1;
  int32_t next = -1;  // -1: the last
};

struct PairMerge {
  int32_t rank = 0;
  int32_t id = -1;  // of the result
};

// Links symbols in their order.
inline void LinkSymbols(std::vector<Symbol>& symbols) {
  const auto count = static_cast<int32_t>(symbols.size());
  for (int32_t i = 0; i < count; ++i) {
    symbols[static_cast<size_t>(i)].previous = i - 1;
    symbols[static_cast<size_t>(i)].next = i + 1 < count ? i + 1 : -1;
  }
}

class MergeQueue {
 public:
  // lookup(left, right): std::optional<PairMerge> of two symbols that are adjacent. What is left
  // are the linked symbols from the first on.
  template <typename Lookup>
  void Run(std::vector<Symbol>& symbols, const Lookup& lookup) {
    heap_.clear();
    const auto at = [&symbols](int32_t i) -> Symbol& { return symbols[static_cast<size_t>(i)]; };
    const auto consider = [&](int32_t left) {
      if (left < 0 || at(left).next < 0) return;
      const std::optional<PairMerge> merge = lookup(at(left), at(at(left).next));
      if (merge) heap_.push_back({merge->rank, left, merge->id});
    };
    for (int32_t i = 0; i + 1 < static_cast<int32_t>(symbols.size()); ++i) consider(i);
    std::make_heap(heap_.begin(), heap_.end(), Later);
    while (!heap_.empty()) {
      std::pop_heap(heap_.begin(), heap_.end(), Later);
      const Candidate candidate = heap_.back();
      heap_.pop_back();
      Symbol& left = at(candidate.left);
      if (left.bytes == 0 || left.next < 0) continue;
      Symbol& right = at(left.next);
      const std::optional<PairMerge> merge = lookup(left, right);
      if (!merge || merge->id != candidate.id) continue;  // one of the two has changed since
      left.id = candidate.id;
      left.bytes += right.bytes;
      right.bytes = 0;
      left.next = right.next;
      if (left.next >= 0) at(left.next).previous = candidate.left;
      for (const int32_t changed : {left.previous, candidate.left}) {
        const size_t count = heap_.size();
        consider(changed);
        if (heap_.size() > count) std::push_heap(heap_.begin(), heap_.end(), Later);
      }
    }
  }

 private:
  struct Candidate {
    int32_t rank = 0;
    int32_t left = 0;
    int32_t id = 0;
  };
  static bool Later(const Candidate& a, const Candidate& b) {
    return a.rank != b.rank ? a.rank > b.rank : a.left > b.left;
  }

  std::vector<Candidate> heap_;
};

}  // namespace eddy
