// SPDX-License-Identifier: Apache-2.0
#include "client/image_grid.h"

#include <algorithm>
#include <ostream>
#include <string>

namespace eddy {
namespace {

uint32_t SizeOf(uint32_t image_size, uint32_t count) {
  return count * image_size + (count - 1) * ImageGrid::kGapPixels;
}

}  // namespace

ImageGrid::ImageGrid(const Pixels& image, uint32_t columns, uint32_t rows)
    : columns_(columns),
      rows_(rows),
      image_width_(image.width),
      image_height_(image.height),
      pixels_(SizeOf(image.width, columns), SizeOf(image.height, rows), image.channels, kGapValue),
      changed_(text_lines(), true) {
  for (uint32_t i = 0; i < image_count(); ++i) Set(i, 0, image.values);
}

void ImageGrid::Set(uint32_t image_index, size_t begin, std::span<const uint8_t> values) {
  const std::lock_guard lock(mutex_);
  const uint32_t left = image_index % columns_ * (image_width_ + kGapPixels);
  const uint32_t top = image_index / columns_ * (image_height_ + kGapPixels);
  const size_t row_size = size_t{image_width_} * pixels_.channels;
  const size_t end = std::min(begin + values.size(), row_size * image_height_);
  for (size_t i = begin; i < end; ++i) {
    const uint32_t y = top + static_cast<uint32_t>(i / row_size);
    pixels_.At(left, y)[i % row_size] = values[i - begin];
    changed_[y / 2] = true;
  }
}

Pixels ImageGrid::Snapshot() const {
  const std::lock_guard lock(mutex_);
  return pixels_;
}

void ImageGrid::Draw(std::ostream& out) {
  Pixels pixels;
  std::vector<bool> changed(text_lines(), false);
  {
    const std::lock_guard lock(mutex_);
    pixels = pixels_;
    changed.swap(changed_);
  }
  std::string text;
  for (uint32_t line = 0; line < changed.size(); ++line) {
    if (!changed[line]) continue;
    const std::string below = std::to_string(text_lines() - line);
    if (drawn_) text.append("\x1b[").append(below).append("A");
    text.append(DrawHalfBlocks(pixels, line, line + 1));
    const uint32_t rest = text_lines() - line - 1;
    if (drawn_ && rest > 0) text.append("\x1b[").append(std::to_string(rest)).append("B");
  }
  drawn_ = true;
  out << text << std::flush;
}

}  // namespace eddy
