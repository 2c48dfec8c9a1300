// SPDX-License-Identifier: Apache-2.0
#include "client/image_grid.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>
#include <string>
#include <thread>
#include <vector>

namespace eddy {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(ImageGridTest, ImagesLieSideBySideWithAGap) {
  const uint8_t gap = ImageGrid::kGapValue;
  ImageGrid grid(Pixels(2, 1, 1, 5), 2, 2);
  EXPECT_EQ(grid.image_count(), 4u);
  const std::vector<uint8_t> values = {1, 2};
  grid.Set(1, 0, values);
  grid.Set(2, 1, std::span(values).first(1));
  const Pixels pixels = grid.Snapshot();
  ASSERT_EQ(pixels.width, 6u);
  ASSERT_EQ(pixels.height, 4u);
  EXPECT_EQ(pixels.values, (std::vector<uint8_t>{5,   5,   gap, gap, 1,   2,    //
                                                 gap, gap, gap, gap, gap, gap,  //
                                                 gap, gap, gap, gap, gap, gap,  //
                                                 5,   1,   gap, gap, 5,   5}));
}

TEST(ImageGridTest, OneImageHasNoGapAndTakesNoMoreThanItsValues) {
  ImageGrid grid(Pixels(2, 2, 3, 0), 1, 1);
  const std::vector<uint8_t> values(20, 9);
  grid.Set(0, 4, values);
  const Pixels pixels = grid.Snapshot();
  ASSERT_EQ(pixels.values.size(), 12u);
  EXPECT_EQ(pixels.values[3], 0);
  EXPECT_EQ(pixels.values[4], 9);
  EXPECT_EQ(pixels.values[11], 9);
}

TEST(ImageGridTest, OnlyChangedLinesAreDrawnAgain) {
  ImageGrid grid(Pixels(1, 6, 1, 0), 1, 1);
  std::ostringstream out;
  grid.Draw(out);
  EXPECT_EQ(out.str(), DrawHalfBlocks(grid.Snapshot(), 0, 3));
  out.str("");
  grid.Draw(out);
  EXPECT_EQ(out.str(), "");
  const std::vector<uint8_t> value = {200};
  grid.Set(0, 3, value);  // on the second of three lines
  grid.Draw(out);
  EXPECT_EQ(out.str(), "\x1b[2A" + DrawHalfBlocks(grid.Snapshot(), 1, 2) + "\x1b[1B");
  out.str("");
  grid.Set(0, 5, value);
  grid.Draw(out);
  EXPECT_EQ(out.str(), "\x1b[1A" + DrawHalfBlocks(grid.Snapshot(), 2, 3));
}

TEST(ImageGridTest, ManyThreadsMayPaint) {
  ImageGrid grid(Pixels(8, 8, 1, 0), 4, 2);
  std::vector<std::thread> threads;
  for (uint32_t i = 0; i < grid.image_count(); ++i) {
    threads.emplace_back([&grid, i] {
      const std::vector<uint8_t> value = {static_cast<uint8_t>(100 + i)};
      for (size_t at = 0; at < 64; ++at) grid.Set(i, at, value);
    });
  }
  std::ostringstream out;
  grid.Draw(out);
  for (std::thread& thread : threads) thread.join();
  const Pixels pixels = grid.Snapshot();
  EXPECT_EQ(*pixels.At(0, 0), 100);
  EXPECT_EQ(*pixels.At(37, 17), 107);
}

}  // namespace
}  // namespace eddy
