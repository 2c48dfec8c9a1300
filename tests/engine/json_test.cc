// SPDX-License-Identifier: Apache-2.0
#include "engine/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace eddy {
namespace {

using testing::HasSubstr;

std::string Message(std::string_view text) {
  const auto value = ParseJson(text, "f.json");
  EXPECT_EQ(value.status().code(), absl::StatusCode::kInvalidArgument) << text;
  const std::string message(value.status().message());
  EXPECT_THAT(message, testing::StartsWith("f.json"));
  return message;
}

TEST(JsonTest, ParsesWholeValues) {
  const auto value = ParseJson(R"( {"a": [1, -2, 3.5], "b": {"a": null}} )", "f.json");
  ASSERT_TRUE(value.ok()) << value.status();
  EXPECT_EQ((*value)["a"][1].get<int64_t>(), -2);
  EXPECT_TRUE((*value)["b"]["a"].is_null());
}

TEST(JsonTest, TheSameKeyInTwoObjectsIsFine) {
  EXPECT_TRUE(ParseJson(R"([{"a": 1}, {"a": 2}, {"b": {"a": 1}, "a": 2}])", "f.json").ok());
}

TEST(JsonTest, RefusesWithPlaceOrKey) {
  EXPECT_THAT(Message(""), HasSubstr("line 1, column 1"));
  EXPECT_THAT(Message("{\"a\": 1,\n \"b\" 2}"), HasSubstr("line 2"));
  EXPECT_THAT(Message(std::string_view("{}\0{", 4)), HasSubstr("byte 2 is zero"));
  EXPECT_THAT(Message("{} x"), HasSubstr("is not valid JSON"));
  EXPECT_THAT(Message("{\"a\": NaN}"), HasSubstr("is not valid JSON"));
  EXPECT_THAT(Message("{\"a\": 1e999}"), HasSubstr("is not valid JSON"));
  EXPECT_THAT(Message("{'a': 1}"), HasSubstr("is not valid JSON"));
  EXPECT_THAT(Message("\"\xc3\""), HasSubstr("is not valid JSON"));
  EXPECT_THAT(Message(std::string_view("\0", 1)), HasSubstr("is not valid JSON"));
  EXPECT_THAT(Message(R"({"a": 1, "b": [], "a": 2})"), HasSubstr("\"a\" occurs twice"));
}

TEST(JsonTest, DepthIsBounded) {
  const auto nested = [](size_t depth) {
    return std::string(depth, '[') + std::string(depth, ']');
  };
  EXPECT_TRUE(ParseJson(nested(kJsonDepthMax), "f.json").ok());
  EXPECT_THAT(Message(nested(kJsonDepthMax + 1)), HasSubstr("more than 64 deep"));
  EXPECT_THAT(Message(std::string(1 << 20, '[')), HasSubstr("more than 64 deep"));
  std::string objects;
  for (int i = 0; i < 100000; ++i) objects += "{\"a\":";
  EXPECT_THAT(Message(objects), HasSubstr("more than 64 deep"));
}

TEST(JsonTest, MessagesStayShortAndPrintable) {
  EXPECT_EQ(Quoted("norm.weight"), "\"norm.weight\"");
  EXPECT_EQ(Quoted("a\n\x01"), "\"a\\n\\u0001\"");
  EXPECT_EQ(Quoted(std::string(1000, 'x')).size(), 85u);
  EXPECT_EQ(Printed(nlohmann::json::array({1, "x"})), "[1,\"x\"]");
  EXPECT_LT(Printed(nlohmann::json(std::string(1000, 'x'))).size(), 100u);
}

TEST(JsonTest, NumbersThatPythonWritesBecomeStrings) {
  EXPECT_EQ(QuoteNotFinite(R"({"a": [0.0, Infinity], "b": -Infinity, "c": NaN})"),
            R"({"a": [0.0, "Infinity"], "b": "-Infinity", "c": "NaN"})");
  // Not in strings, and not what is none.
  for (const char* text : {R"({"Infinity": "NaN \" Infinity"})", R"("\\")", "", "\\"}) {
    EXPECT_EQ(QuoteNotFinite(text), text);
  }
}

}  // namespace
}  // namespace eddy
