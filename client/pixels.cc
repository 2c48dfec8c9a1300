// SPDX-License-Identifier: Apache-2.0
#include "client/pixels.h"

#include <png.h>

#include <cstring>

namespace eddy {
namespace {

constexpr uint32_t kSizeMax = 16'384;

// Of libpng's simplified interface; frees what it holds.
struct PngImage {
  png_image image;

  PngImage() : image() { image.version = PNG_IMAGE_VERSION; }
  ~PngImage() { png_image_free(&image); }
  PngImage(const PngImage&) = delete;
  PngImage& operator=(const PngImage&) = delete;

  std::string Problem(const char* what, const std::string& path) const {
    std::string sentence = what;
    return sentence.append(path).append(": ").append(image.message);
  }
};

uint32_t FormatOf(uint32_t channels) { return channels == 1 ? PNG_FORMAT_GRAY : PNG_FORMAT_RGB; }

Pixels Enlarged(const Pixels& pixels, uint32_t scale) {
  Pixels large(pixels.width * scale, pixels.height * scale, pixels.channels, 0);
  for (uint32_t y = 0; y < large.height; ++y) {
    for (uint32_t x = 0; x < large.width; ++x) {
      std::memcpy(large.At(x, y), pixels.At(x / scale, y / scale), pixels.channels);
    }
  }
  return large;
}

// "R;G;B" of a pixel.
void AppendColour(const Pixels& pixels, uint32_t x, uint32_t y, std::string* text) {
  const uint8_t* const pixel = pixels.At(x, y);
  for (uint32_t c = 0; c < 3; ++c) {
    if (c > 0) text->push_back(';');
    text->append(std::to_string(pixel[pixels.channels == 1 ? 0 : c]));
  }
}

}  // namespace

std::string ReadPng(const std::string& path, uint32_t channels, Pixels* pixels) {
  PngImage png;
  if (png_image_begin_read_from_file(&png.image, path.c_str()) == 0) {
    return png.Problem("cannot read ", path);
  }
  if (png.image.width > kSizeMax || png.image.height > kSizeMax) {
    std::string sentence = path;
    return sentence.append(" has ")
        .append(std::to_string(png.image.width))
        .append(" x ")
        .append(std::to_string(png.image.height))
        .append(" pixels, at most ")
        .append(std::to_string(kSizeMax))
        .append(" each way are taken");
  }
  png.image.format = FormatOf(channels);
  *pixels = Pixels(png.image.width, png.image.height, channels, 0);
  const png_color black = {0, 0, 0};  // behind what is transparent
  if (png_image_finish_read(&png.image, &black, pixels->values.data(), 0, nullptr) == 0) {
    return png.Problem("cannot read ", path);
  }
  return "";
}

std::string WritePng(const std::string& path, const Pixels& pixels, uint32_t scale) {
  const Pixels large = Enlarged(pixels, scale);
  PngImage png;
  png.image.width = large.width;
  png.image.height = large.height;
  png.image.format = FormatOf(large.channels);
  if (png_image_write_to_file(&png.image, path.c_str(), 0, large.values.data(), 0, nullptr) == 0) {
    return png.Problem("cannot write ", path);
  }
  return "";
}

std::string DrawHalfBlocks(const Pixels& pixels, uint32_t first_line, uint32_t end_line) {
  std::string text;
  for (uint32_t line = first_line; line < end_line; ++line) {
    const uint32_t y = 2 * line;
    for (uint32_t x = 0; x < pixels.width; ++x) {
      text.append("\x1b[38;2;");
      AppendColour(pixels, x, y, &text);
      if (y + 1 < pixels.height) {
        text.append(";48;2;");
        AppendColour(pixels, x, y + 1, &text);
      }
      text.append("m\u2580");
    }
    text.append("\x1b[0m\n");
  }
  return text;
}

std::string DrawPlain(const Pixels& pixels) {
  constexpr char kShades[] = " .:-=+*#%@";
  constexpr uint32_t kShadeCount = sizeof(kShades) - 1;
  std::string text;
  for (uint32_t y = 0; y < pixels.height; ++y) {
    for (uint32_t x = 0; x < pixels.width; ++x) {
      uint32_t sum = 0;
      for (uint32_t c = 0; c < pixels.channels; ++c) sum += pixels.At(x, y)[c];
      text.append(2, kShades[sum * kShadeCount / (256 * pixels.channels)]);
    }
    text.push_back('\n');
  }
  return text;
}

}  // namespace eddy
