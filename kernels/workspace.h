// SPDX-License-Identifier: Apache-2.0
// Workspace: all scratch of one step, one Buffer cut anew each step.
//
// Sized once at start: a workspace without memory ("measuring") hands out no data but counts what
// the largest step would take; Model::WorkspaceBytes does that dry run. Step thread only.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/buffer.h"
#include "kernels/tensor.h"

namespace eddy {

class Workspace {
 public:
  static constexpr int64_t kAlignBytes = 64;

  Workspace() = default;  // measuring
  explicit Workspace(Buffer buffer) : buffer_(std::move(buffer)) {}

  bool measuring() const { return buffer_.data() == nullptr; }
  // Scratch until the next Reset; contents undefined. Aborts when the step outgrows the dry run.
  Tensor Take(DType dtype, Shape shape) {
    const int64_t bytes = shape.element_count() * DTypeBytes(dtype);
    const int64_t begin = used_bytes_;
    used_bytes_ += (bytes + kAlignBytes - 1) / kAlignBytes * kAlignBytes;
    peak_bytes_ = std::max(peak_bytes_, used_bytes_);
    if (measuring()) return Tensor(nullptr, dtype, shape);
    return buffer_.View(dtype, shape, begin);
  }
  void Reset() { used_bytes_ = 0; }
  // A point to go back to: scratch taken after Mark() is given back by Release(mark).
  int64_t Mark() const { return used_bytes_; }
  void Release(int64_t mark) { used_bytes_ = mark; }
  int64_t peak_bytes() const { return peak_bytes_; }

 private:
  Buffer buffer_;
  int64_t used_bytes_ = 0;
  int64_t peak_bytes_ = 0;
};

}  // namespace eddy
