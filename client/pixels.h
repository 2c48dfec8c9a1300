// SPDX-License-Identifier: Apache-2.0
// Images in memory.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace eddy {

// Values 0 to 255, row by row from the top left, the channels of a pixel side by side.
struct Pixels {
  uint32_t width = 0;
  uint32_t height = 0;
  uint32_t channels = 1;  // 1: grey; 3: red, green, blue
  std::vector<uint8_t> values;

  Pixels() = default;
  // All of one value.
  Pixels(uint32_t width_, uint32_t height_, uint32_t channels_, uint8_t value)
      : width(width_),
        height(height_),
        channels(channels_),
        values(size_t{width_} * height_ * channels_, value) {}

  const uint8_t* At(uint32_t x, uint32_t y) const {
    return values.data() + (size_t{y} * width + x) * channels;
  }
  uint8_t* At(uint32_t x, uint32_t y) { return values.data() + (size_t{y} * width + x) * channels; }
};

// Reads a PNG file of any kind as an image of so many channels. Gives a sentence if it cannot be
// read or is larger than 16,384 x 16,384, else nothing.
std::string ReadPng(const std::string& path, uint32_t channels, Pixels* pixels);

// Writes a PNG file, each pixel as a square of `scale` by `scale`. Gives a sentence if it cannot be
// written, else nothing.
std::string WritePng(const std::string& path, const Pixels& pixels, uint32_t scale);

// Draws an image as text for a terminal of 24-bit colour: two rows of pixels a line, by upper half
// blocks. An odd last row has nothing below it. Lines [first_line, end_line) only, each ended by a
// line break.
std::string DrawHalfBlocks(const Pixels& pixels, uint32_t first_line, uint32_t end_line);

// Draws it as plain text, bright as dense: two characters a pixel, one row a line.
std::string DrawPlain(const Pixels& pixels);

}  // namespace eddy
