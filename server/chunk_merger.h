// SPDX-License-Identifier: Apache-2.0
// ChunkMerger: the chunks of one turn to messages, as many chunks into one message as have come
// meanwhile.
#pragma once

#include <cstdint>
#include <vector>

#include "eddy/v1/generation.pb.h"
#include "engine/request.h"

namespace eddy {

// Value of one turn; not thread-safe.
class ChunkMerger {
 public:
  using Message = v1::GenerateResponse;
  // The first message tells the seed.
  explicit ChunkMerger(uint64_t seed) : seed_(seed) {}

  // Replaces *message by all of `chunks`, in order.
  void Merge(const std::vector<TokenChunk>& chunks, v1::GenerateResponse* message);

 private:
  const uint64_t seed_;
  bool is_first_ = true;
  int64_t next_position_ = -1;  // -1: nothing has come yet
};

}  // namespace eddy
