// SPDX-License-Identifier: Apache-2.0
#include "client/image_command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "client/pixels.h"
#include "tests/client/command_fixture.h"

namespace eddy {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

// A model of 3 x 2 grey images; every value of a request is its seed, but for what it is given.
class ImageCommandTest : public CommandTest {
 protected:
  static constexpr uint32_t kStart = 7;

  ImageCommandTest() {
    v1::ImageFormat format;
    format.set_width(3);
    format.set_height(2);
    format.set_channels(1);
    format.set_start_token(kStart);
    server_.set_image(format);
    server_.set_answer([](const v1::GenerateRequest& request) {
      FakeReply reply;
      for (uint32_t i = 0; i < request.stop().max_tokens(); ++i) {
        v1::GenerateResponse& message = reply.messages.emplace_back();
        message.set_position(i + 1);
        message.add_token_ids(static_cast<uint32_t>(request.sampling().seed()));
      }
      reply.messages.back() =
          Last(reply.messages.back(), v1::FINISH_REASON_LENGTH, 1, request.stop().max_tokens());
      return reply;
    });
  }

  std::string TestPath(const std::string& name) { return testing::TempDir() + "/eddy_" + name; }
};

TEST_F(ImageCommandTest, APipeGetsPlainText) {
  const CommandResult result = Run({"image", "--seed", "255"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out, "@@@@@@\n@@@@@@\n");
  EXPECT_EQ(result.err, "");
  const v1::GenerateRequest turn = server_.log().OnlyTurn();
  EXPECT_THAT(turn.prompt().token_ids().ids(), ElementsAre(kStart));
  EXPECT_EQ(turn.stop().max_tokens(), 6u);
  EXPECT_EQ(turn.sampling().seed(), 255u);
  EXPECT_FALSE(turn.sampling().has_temperature());
}

TEST_F(ImageCommandTest, ATerminalGetsColoursAndASummary) {
  const CommandResult result =
      Run({"image", "--seed", "9"}, CommandInput{.in = "", .terminal = true, .interrupt = nullptr});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("\x1b[38;2;9;9;9;48;2;9;9;9m\u2580"));
  EXPECT_THAT(result.err, StartsWith("eddy: 1 of 3 x 2 in "));
  EXPECT_THAT(result.err, HasSubstr("seed 9\n"));
}

TEST_F(ImageCommandTest, AGridIsOneFileWithASeedEach) {
  const std::string path = TestPath("grid.png");
  const CommandResult result = Run({"image", "--grid", "2x2", "--seed", "40", "--png", path,
                                    "--temperature", "0.5", "--scale", "2"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out, "");
  Pixels pixels;
  ASSERT_EQ(ReadPng(path, 1, &pixels), "");
  ASSERT_EQ(pixels.width, 16u);
  ASSERT_EQ(pixels.height, 12u);
  EXPECT_EQ(*pixels.At(0, 0), 40);
  EXPECT_EQ(*pixels.At(15, 0), 41);
  EXPECT_EQ(*pixels.At(0, 11), 42);
  EXPECT_EQ(*pixels.At(15, 11), 43);
  const std::vector<v1::GenerateRequest> turns = server_.log().Turns();
  ASSERT_EQ(turns.size(), 4u);
  for (const v1::GenerateRequest& turn : turns) EXPECT_EQ(turn.sampling().temperature(), 0.5f);
}

TEST_F(ImageCommandTest, TheGivenRowsAreReadAndKept) {
  const std::string given = TestPath("given.png"), path = TestPath("completed.png");
  Pixels half(3, 2, 1, 0);
  half.values = {11, 12, 13, 14, 15, 16};
  ASSERT_EQ(WritePng(given, half, 1), "");
  const CommandResult result = Run({"image", "--given", given, "--seed", "1", "--png", path});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  const v1::GenerateRequest turn = server_.log().OnlyTurn();
  EXPECT_THAT(turn.prompt().token_ids().ids(), ElementsAre(kStart, 11, 12, 13));
  EXPECT_EQ(turn.stop().max_tokens(), 3u);
  Pixels pixels;
  ASSERT_EQ(ReadPng(path, 1, &pixels), "");
  EXPECT_THAT(pixels.values, ElementsAre(11, 12, 13, 1, 1, 1));
}

TEST_F(ImageCommandTest, WhatDoesNotFitTheModelIsAUsageError) {
  const std::string given = TestPath("wide.png");
  ASSERT_EQ(WritePng(given, Pixels(4, 2, 1, 0), 1), "");
  CommandResult result = Run({"image", "--given", given});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.err,
              HasSubstr("has 4 x 2 pixels; of it 1 rows are to start an image of 3 x 2"));
  ASSERT_EQ(WritePng(given, Pixels(3, 2, 1, 0), 1), "");
  EXPECT_EQ(Run({"image", "--given", given, "--rows", "2"}).exit_code, 2);
  EXPECT_EQ(Run({"image", "--given", "/does/not/exist.png"}).exit_code, 2);
  EXPECT_EQ(Run({"image", "--rows", "1"}).exit_code, 2);
  for (const char* grid : {"", "2", "2x", "x2", "0x3", "2x-1", "17x16", "2x2x2", "99999999999x1"}) {
    result = Run({"image", "--grid", grid});
    EXPECT_EQ(result.exit_code, 2) << grid;
  }
  EXPECT_TRUE(server_.log().Turns().empty());
}

TEST_F(ImageCommandTest, TheServersRefusalIsTold) {
  server_.set_reply(Refusal(grpc::StatusCode::RESOURCE_EXHAUSTED, "the queue is full"));
  const CommandResult result = Run({"image", "--grid", "3x1"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.err, HasSubstr("RESOURCE_EXHAUSTED: the queue is full"));
}

TEST_F(ImageCommandTest, AFileThatCannotBeWrittenIsAFailure) {
  const CommandResult result = Run({"image", "--png", "/does/not/exist/out.png"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, HasSubstr("cannot write /does/not/exist/out.png"));
}

TEST_F(ImageCommandTest, AFormatThatNobodyCouldDrawIsRefused) {
  v1::ImageFormat format;
  format.set_width(4'000'000'000);
  format.set_height(4'000'000'000);
  format.set_channels(3);
  server_.set_image(format);
  EXPECT_EQ(Run({"image"}).exit_code, 2);
  format.set_width(16'384);
  format.set_height(1'024);
  server_.set_image(format);
  EXPECT_THAT(Run({"image", "--grid", "2x1"}).err,
              HasSubstr("2 images of 16384 x 1024 x 3 at scale 1 cannot be drawn"));
  EXPECT_THAT(Run({"image", "--scale", "2"}).err, HasSubstr("at scale 2 cannot be drawn"));
  format.set_width(3);
  format.set_channels(2);
  server_.set_image(format);
  EXPECT_EQ(Run({"image"}).exit_code, 2);
  EXPECT_TRUE(server_.log().Turns().empty());
}

class TextModelTest : public CommandTest {};

TEST_F(TextModelTest, AModelOfTextMakesNoImages) {
  const CommandResult result = Run({"image"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.err, HasSubstr("model \"fake\" makes no images"));
}

class GivenStartTest : public CommandTest {};

// As the paper's generator: the first value is given.
TEST_F(GivenStartTest, WithoutAStartTokenTheFirstValueIsBlack) {
  v1::ImageFormat format;
  format.set_width(2);
  format.set_height(1);
  format.set_channels(3);
  server_.set_image(format);
  server_.set_reply(TextReply({"", "", "", "", ""}, 1));
  const CommandResult result = Run({"image"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  const v1::GenerateRequest turn = server_.log().OnlyTurn();
  EXPECT_THAT(turn.prompt().token_ids().ids(), ElementsAre(0));
  EXPECT_EQ(turn.stop().max_tokens(), 5u);
}

}  // namespace
}  // namespace eddy
