// SPDX-License-Identifier: Apache-2.0
#include "engine/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "tests/support/model_files.h"

namespace eddy {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr std::string_view kColours[] = {"red", "green"};

TEST(ConfigTest, GivesWhatIsThere) {
  const auto config = Config::Parse(
      R"({"n": 5, "x": 0.25, "one": 1, "yes": true, "colour": "green", "eos": 2, "list": [7, 3, 7],
          "null": null, "unknown": {"a": []}})",
      "config.json");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(*config->Int("n", 5, 5), 5);
  EXPECT_EQ(*config->Int("absent", 1, 5, 3), 3);
  EXPECT_EQ(*config->Int("null", 1, 5, 3), 3);
  EXPECT_EQ(*config->Float("x", 0.0f, 1.0f), 0.25f);
  EXPECT_EQ(*config->Float("one", 0.0f, 1.0f), 1.0f);
  EXPECT_EQ(*config->Float("absent", 0.0f, 1.0f, 0.5f), 0.5f);
  EXPECT_TRUE(*config->Bool("yes"));
  EXPECT_FALSE(*config->Bool("absent", false));
  EXPECT_EQ(*config->String("colour"), "green");
  EXPECT_EQ(*config->Choice("colour", kColours), 1u);
  EXPECT_EQ(*config->Choice("absent", kColours, 0), 0u);
  EXPECT_THAT(*config->TokenIds("eos", 3), ElementsAre(2));
  EXPECT_THAT(*config->TokenIds("list", 8), ElementsAre(3, 7));
  EXPECT_THAT(*config->TokenIds("absent", 8), IsEmpty());
  EXPECT_THAT(*config->TokenIds("null", 8), IsEmpty());
  EXPECT_TRUE(config->Has("n"));
  EXPECT_FALSE(config->Has("null"));
  EXPECT_FALSE(config->Has("absent"));
}

TEST(ConfigTest, ReadsTheInfinityOfPythonInIntervals) {
  const auto config = Config::Parse(
      R"({"Infinity, \"NaN": Infinity, "open": [0.25, Infinity], "new": [{"__float__": "-Infinity"},
          {"__float__": "Infinity"}], "whole": [-3, 1e300], "nan": [NaN, 1], "turned": [2, 1],
          "short": [1], "number": 1, "text": ["0", "1"]})",
      "c");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_TRUE(config->Has("Infinity, \"NaN"));  // strings stay as they are
  constexpr float kMax = std::numeric_limits<float>::max();
  const auto expect = [&](const char* key, float min, float max) {
    const auto interval = config->IntervalOf(key, {5.0f, 6.0f});
    ASSERT_TRUE(interval.ok()) << interval.status();
    EXPECT_EQ(interval->min, min) << key;
    EXPECT_EQ(interval->max, max) << key;
  };
  expect("open", 0.25f, kMax);
  expect("new", -kMax, kMax);
  expect("whole", -3.0f, kMax);
  expect("absent", 5.0f, 6.0f);
  for (const char* key : {"nan", "turned", "short", "number", "text"}) {
    const absl::Status status = config->IntervalOf(key, {}).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << key;
    EXPECT_THAT(std::string(status.message()), HasSubstr("expected a list of two numbers")) << key;
  }
  for (const char* text : {"{\"a\": Infinityx}", "{\"a\": -NaN}", "{\"a\": Inf}", "{\"a\": \"\\"}) {
    EXPECT_FALSE(Config::Parse(text, "c").ok()) << text;
  }
}

TEST(ConfigTest, SectionsAreConfigurationsOfTheirOwn) {
  const auto config =
      Config::Parse(R"({"inner": {"n": 5}, "list": [], "none": {}, "full": [0]})", "c.json");
  ASSERT_TRUE(config.ok()) << config.status();
  const auto inner = config->Section("inner");
  ASSERT_TRUE(inner.ok()) << inner.status();
  EXPECT_EQ(*inner->Int("n", 1, 9), 5);
  EXPECT_THAT(std::string(inner->Int("m", 1, 9).status().message()),
              HasSubstr("c.json: inner: m is missing"));
  EXPECT_EQ(*config->Section("absent")->Int("n", 1, 9, 3), 3);
  EXPECT_EQ(config->Section("list").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(config->HasContent("inner"));
  EXPECT_TRUE(config->HasContent("full"));
  for (const char* key : {"list", "none", "absent"}) EXPECT_FALSE(config->HasContent(key)) << key;
}

TEST(ConfigTest, AStringIsNotEmpty) {
  const auto config = Config::Parse(R"({"empty": "", "number": 5, "null": null})", "c");
  for (const char* key : {"empty", "number", "null", "absent"}) {
    const absl::Status status = config->String(key).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << key;
    EXPECT_THAT(std::string(status.message()), HasSubstr("expected a string that is not empty"));
  }
}

TEST(ConfigTest, RefusesWhatIsNoObject) {
  for (const char* text : {"", "[]", "7", "null", "{", "{\"a\":1,\"a\":2}", "{\"a\":}", "\xff"}) {
    const auto config = Config::Parse(text, "dir/config.json");
    EXPECT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(config.status().message()), testing::StartsWith("dir/config.json"));
  }
}

TEST(ConfigTest, ReadSaysWhatCannotBeRead) {
  const TestFolder folder;
  const auto missing = Config::Read(folder / "config.json");
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(missing.status().message()), HasSubstr(folder / "config.json"));
  EXPECT_EQ(Config::Read(folder.path()).status().code(), absl::StatusCode::kInvalidArgument);
  WriteBytes(folder / "empty.json", "");
  EXPECT_EQ(Config::Read(folder / "empty.json").status().code(),
            absl::StatusCode::kInvalidArgument);
  WriteBytes(folder / "huge.json", std::string(Config::kFileBytesMax + 1, ' '));
  const auto huge = Config::Read(folder / "huge.json");
  EXPECT_EQ(huge.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(huge.status().message()), HasSubstr("16777217 bytes, at most 16777216"));
}

struct BadValue {
  const char* name;
  const char* value;  // of the key "k"; "absent": no such key
  std::function<absl::Status(const Config&)> get;
  const char* message;
};

absl::Status GetInt(const Config& c) { return c.Int("k", 1, 100).status(); }
absl::Status GetIntOr(const Config& c) { return c.Int("k", 1, 100, 5).status(); }
absl::Status GetFloat(const Config& c) { return c.Float("k", 0.0f, 1.0f).status(); }
absl::Status GetBool(const Config& c) { return c.Bool("k").status(); }
absl::Status GetChoice(const Config& c) { return c.Choice("k", kColours).status(); }
absl::Status GetIds(const Config& c) { return c.TokenIds("k", 100).status(); }

const BadValue kBadValues[] = {
    {"int_absent", "absent", GetInt, "k is missing, expected a whole number from 1 to 100"},
    {"int_null", "null", GetInt, "k is missing"},
    {"int_zero", "0", GetInt, "k is 0, expected a whole number from 1 to 100"},
    {"int_negative", "-1", GetInt, "k is -1"},
    {"int_over", "101", GetIntOr, "k is 101, expected a whole number from 1 to 100"},
    {"int_beyond_int64", "9223372036854775808", GetInt, "k is 9223372036854775808"},
    {"int_wraps_to_1", "18446744073709551617", GetInt, "k is "},
    {"int_below_int64", "-9223372036854775809", GetInt, "k is "},
    {"int_fraction", "1.5", GetInt, "k is 1.5"},
    {"int_as_float", "2.0", GetInt, "k is 2.0, expected a whole number"},
    {"int_string", "\"5\"", GetIntOr, "k is \"5\", expected a whole number"},
    {"int_bool", "true", GetInt, "k is true"},
    {"int_list", "[5]", GetInt, "k is [5]"},
    {"float_absent", "absent", GetFloat, "k is missing, expected a number above 0 and at most 1"},
    {"float_zero", "0", GetFloat, "k is 0, expected a number above 0 and at most 1"},
    {"float_negative", "-1e-5", GetFloat, "k is -1e-05"},
    {"float_underflows_to_0", "1e-60", GetFloat, "k is 1e-60"},
    {"float_over", "1.001", GetFloat, "k is 1.001"},
    {"float_huge", "1e300", GetFloat, "k is 1e+300"},
    {"float_beyond_double", "1e999", GetFloat, "is not valid JSON"},
    {"float_string", "\"1e-5\"", GetFloat, "expected a number"},
    {"float_nan", "NaN", GetFloat, "k is \"NaN\", expected a number"},
    {"bool_number", "1", GetBool, "k is 1, expected true or false"},
    {"bool_string", "\"true\"", GetBool, "k is \"true\", expected true or false"},
    {"bool_absent", "absent", GetBool, "k is missing, expected true or false"},
    {"choice_unknown", "\"blue\"", GetChoice, "k is \"blue\", expected one of \"red\", \"green\""},
    {"choice_case", "\"Red\"", GetChoice, "k is \"Red\""},
    {"choice_number", "0", GetChoice, "k is 0, expected one of"},
    {"choice_absent", "absent", GetChoice, "k is missing, expected one of"},
    {"choice_control", "\"\\u001b[2J\"", GetChoice, "k is \"\\u001b[2J\""},
    {"ids_over", "100", GetIds, "k is 100, expected a token id from 0 to 99 or a list"},
    {"ids_negative", "-1", GetIds, "k is -1"},
    {"ids_list_over", "[1, 100]", GetIds, "k is [1,100]"},
    {"ids_nested", "[[1]]", GetIds, "k is [[1]]"},
    {"ids_string", "\"</s>\"", GetIds, "k is \"</s>\""},
    {"ids_object", "{\"a\": 1}", GetIds, "k is {\"a\":1}"},
};

class BadValueTest : public testing::TestWithParam<BadValue> {};

TEST_P(BadValueTest, IsRefusedWithAReason) {
  const BadValue& bad = GetParam();
  const std::string text = std::string(bad.value) == "absent"
                               ? "{\"other\": 1}"
                               : "{\"k\": " + std::string(bad.value) + "}";
  const auto config = Config::Parse(text, "dir/config.json");
  const absl::Status status = config.ok() ? bad.get(*config) : config.status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), testing::StartsWith("dir/config.json"));
  EXPECT_THAT(std::string(status.message()), HasSubstr(bad.message));
}

INSTANTIATE_TEST_SUITE_P(All, BadValueTest, testing::ValuesIn(kBadValues),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(ConfigTest, LongValuesAreCutInMessages) {
  const auto config = Config::Parse("{\"k\": \"" + std::string(100000, 'x') + "\"}", "c");
  ASSERT_TRUE(config.ok());
  EXPECT_LT(GetInt(*config).message().size(), 200u);
}

}  // namespace
}  // namespace eddy
