// SPDX-License-Identifier: Apache-2.0
// Images side by side that grow value by value, and how a terminal shows them meanwhile.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <mutex>
#include <span>
#include <vector>

#include "client/pixels.h"

namespace eddy {

// Any thread may add values; one thread draws.
class ImageGrid {
 public:
  // Between images, when there are several.
  static constexpr uint32_t kGapPixels = 2;
  static constexpr uint8_t kGapValue = 48;

  // `image` gives size and channels; all images start as its values.
  ImageGrid(const Pixels& image, uint32_t columns, uint32_t rows);

  uint32_t image_count() const { return columns_ * rows_; }
  // Columns and lines of text that Draw fills.
  uint32_t text_columns() const { return pixels_.width; }
  uint32_t text_lines() const { return (pixels_.height + 1) / 2; }

  // The next values of one image, after the first `begin` of them; what is too much is dropped.
  void Set(uint32_t image_index, size_t begin, std::span<const uint8_t> values);
  // A copy of how it is now.
  Pixels Snapshot() const;

  // Draws what has changed since the last call over what that call drew; at first everything. The
  // cursor is left below.
  void Draw(std::ostream& out);

 private:
  const uint32_t columns_, rows_;
  const uint32_t image_width_, image_height_;
  mutable std::mutex mutex_;
  Pixels pixels_;              // Guarded by mutex_, but for its size.
  std::vector<bool> changed_;  // [line of text], guarded by mutex_
  bool drawn_ = false;
};

}  // namespace eddy
