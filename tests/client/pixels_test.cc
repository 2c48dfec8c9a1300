// SPDX-License-Identifier: Apache-2.0
#include "client/pixels.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <string>

namespace eddy {
namespace {

using testing::HasSubstr;

std::string TestPath(const std::string& name) { return testing::TempDir() + "/eddy_" + name; }

// Every value once, in some order.
Pixels Pattern(uint32_t width, uint32_t height, uint32_t channels) {
  Pixels pixels(width, height, channels, 0);
  for (size_t i = 0; i < pixels.values.size(); ++i) {
    pixels.values[i] = static_cast<uint8_t>(i * 37 % 256);
  }
  return pixels;
}

TEST(PixelsTest, APngHoldsEveryValue) {
  for (const uint32_t channels : {1u, 3u}) {
    const Pixels pixels = Pattern(19, 14, channels);
    const std::string path = TestPath("whole.png");
    ASSERT_EQ(WritePng(path, pixels, 1), "");
    Pixels read;
    ASSERT_EQ(ReadPng(path, channels, &read), "");
    EXPECT_EQ(read.width, 19u);
    EXPECT_EQ(read.height, 14u);
    EXPECT_EQ(read.channels, channels);
    EXPECT_EQ(read.values, pixels.values);
  }
}

TEST(PixelsTest, AScaledPngHasSquares) {
  const Pixels pixels = Pattern(3, 2, 1);
  const std::string path = TestPath("scaled.png");
  ASSERT_EQ(WritePng(path, pixels, 4), "");
  Pixels read;
  ASSERT_EQ(ReadPng(path, 1, &read), "");
  ASSERT_EQ(read.width, 12u);
  ASSERT_EQ(read.height, 8u);
  for (uint32_t y = 0; y < 8; ++y) {
    for (uint32_t x = 0; x < 12; ++x) EXPECT_EQ(*read.At(x, y), *pixels.At(x / 4, y / 4));
  }
}

TEST(PixelsTest, AColourFileIsReadAsGreyAndBack) {
  Pixels colour(2, 1, 3, 90);
  const std::string path = TestPath("grey.png");
  ASSERT_EQ(WritePng(path, colour, 1), "");
  Pixels grey;
  ASSERT_EQ(ReadPng(path, 1, &grey), "");
  EXPECT_EQ(grey.values, std::vector<uint8_t>(2, 90));
}

TEST(PixelsTest, WhatIsNoPngIsToldWithItsName) {
  Pixels pixels;
  EXPECT_THAT(ReadPng("/does/not/exist.png", 1, &pixels), HasSubstr("/does/not/exist.png"));
  const std::string path = TestPath("broken.png");
  std::ofstream(path) << "not a picture";
  EXPECT_THAT(ReadPng(path, 1, &pixels), HasSubstr(path));
  ASSERT_EQ(WritePng(path, Pattern(40, 40, 1), 1), "");
  std::string bytes;
  {
    std::ifstream file(path, std::ios::binary);
    bytes.assign(std::istreambuf_iterator<char>(file), {});
  }
  std::ofstream(path, std::ios::binary) << bytes.substr(0, bytes.size() / 2);
  EXPECT_THAT(ReadPng(path, 1, &pixels), HasSubstr(path));
  EXPECT_THAT(WritePng("/does/not/exist/out.png", Pattern(2, 2, 1), 1),
              HasSubstr("/does/not/exist/out.png"));
}

TEST(PixelsTest, HalfBlocksShowTwoRowsALine) {
  Pixels grey(2, 3, 1, 0);
  *grey.At(0, 0) = 10;
  *grey.At(1, 1) = 20;
  *grey.At(0, 2) = 30;
  EXPECT_EQ(DrawHalfBlocks(grey, 0, 1),
            "\x1b[38;2;10;10;10;48;2;0;0;0m\u2580\x1b[38;2;0;0;0;48;2;20;20;20m\u2580\x1b[0m\n");
  // Nothing is below the last row.
  EXPECT_EQ(DrawHalfBlocks(grey, 1, 2), "\x1b[38;2;30;30;30m\u2580\x1b[38;2;0;0;0m\u2580\x1b[0m\n");
  Pixels colour(1, 2, 3, 7);
  colour.At(0, 1)[2] = 9;
  EXPECT_EQ(DrawHalfBlocks(colour, 0, 1), "\x1b[38;2;7;7;7;48;2;7;7;9m\u2580\x1b[0m\n");
}

TEST(PixelsTest, PlainTextIsDenseWhereBright) {
  Pixels pixels(3, 2, 1, 0);
  *pixels.At(1, 0) = 255;
  *pixels.At(2, 1) = 128;
  EXPECT_EQ(DrawPlain(pixels), "  @@  \n    ++\n");
}

}  // namespace
}  // namespace eddy
