// SPDX-License-Identifier: Apache-2.0
#include "client/sampling_flags.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace eddy {
namespace {

using testing::ElementsAre;

struct Parsed {
  SamplingFlags flags;
  v1::Output output;
};

void Parse(std::vector<std::string> arguments, Parsed* parsed) {
  CLI::App app;
  AddSamplingFlags(app, parsed->flags);
  AddOutputFlags(app, parsed->output);
  std::reverse(arguments.begin(), arguments.end());
  app.parse(arguments);
}

// The messages in text form, one after another, on one line.
std::string Text(const Parsed& parsed) {
  google::protobuf::TextFormat::Printer printer;
  printer.SetSingleLineMode(true);
  std::string all;
  for (const google::protobuf::Message* message :
       {static_cast<const google::protobuf::Message*>(&parsed.flags.sampling),
        static_cast<const google::protobuf::Message*>(&parsed.flags.stop),
        static_cast<const google::protobuf::Message*>(&parsed.output)}) {
    std::string text;
    printer.PrintToString(*message, &text);
    all += text;
  }
  return all.substr(0, all.find_last_not_of(' ') + 1);
}

struct FlagCase {
  std::vector<std::string> arguments;
  std::string fields;
};

class SamplingFlagsTest : public testing::TestWithParam<FlagCase> {};

TEST_P(SamplingFlagsTest, SetTheFieldOfTheirNameAndNoOther) {
  Parsed parsed;
  Parse(GetParam().arguments, &parsed);
  EXPECT_EQ(Text(parsed), GetParam().fields);
}

INSTANTIATE_TEST_SUITE_P(
    Table, SamplingFlagsTest,
    testing::Values(
        FlagCase{{}, ""}, FlagCase{{"--temperature", "0.75"}, "temperature: 0.75"},
        FlagCase{{"--temperature", "0"}, "temperature: 0"},
        FlagCase{{"--temperature", "-1"}, "temperature: -1"},
        FlagCase{{"--temperature=1e1"}, "temperature: 10"},
        FlagCase{{"--temperature", "nan"}, "temperature: nan"},
        FlagCase{{"--top-k", "40"}, "top_k: 40"}, FlagCase{{"--top-k", "0"}, "top_k: 0"},
        FlagCase{{"--top-p", "0.5"}, "top_p: 0.5"}, FlagCase{{"--min-p", "0.25"}, "min_p: 0.25"},
        FlagCase{{"--repetition-penalty", "1.5"}, "repetition_penalty: 1.5"},
        FlagCase{{"--presence-penalty", "-2"}, "presence_penalty: -2"},
        FlagCase{{"--frequency-penalty", "0.125"}, "frequency_penalty: 0.125"},
        FlagCase{{"--logit-bias", "42=-1.5"}, "logit_bias { key: 42 value: -1.5 }"},
        FlagCase{{"--seed", "18446744073709551615"}, "seed: 18446744073709551615"},
        FlagCase{{"--seed", "0"}, "seed: 0"},
        FlagCase{{"--max-tokens", "4294967295"}, "max_tokens: 4294967295"},
        FlagCase{{"--max-tokens", "0"}, "max_tokens: 0"},
        FlagCase{{"--min-tokens", "3"}, "min_tokens: 3"},
        FlagCase{{"--stop", "END"}, "sequences: \"END\""},
        FlagCase{{"--stop", "a", "--stop", "b,c"}, "sequences: \"a\" sequences: \"b,c\""},
        FlagCase{{"--stop", "\n\n"}, "sequences: \"\\n\\n\""},
        FlagCase{{"--stop", "--"}, "sequences: \"--\""},
        FlagCase{{"--stop", "-"}, "sequences: \"-\""},
        FlagCase{{"--stop", "[x]"}, "sequences: \"[x]\""},
        FlagCase{{"--stop", "[a,b]"}, "sequences: \"[a,b]\""},
        FlagCase{{"--stop", "{}"}, "sequences: \"{}\""},
        FlagCase{{"--stop", "%%"}, "sequences: \"%%\""},
        FlagCase{{"--stop", ""}, "sequences: \"\""},
        FlagCase{{"--stop-token", "7"}, "token_ids: 7"},
        FlagCase{{"--stop-token", "7,8", "--stop-token", "0"},
                 "token_ids: 7 token_ids: 8 token_ids: 0"},
        FlagCase{{"--ignore-end-of-text"}, "ignore_end_of_text: true"},
        FlagCase{{"--log-probs"}, "log_probs: true"},
        FlagCase{{"--top-log-probs", "5"}, "log_probs: true top_log_probs: 5"}));

TEST(SamplingFlagsTest, ManyTogether) {
  Parsed parsed;
  Parse({"--temperature", "0.5", "--logit-bias", "1=2", "--logit-bias", "3=-4", "--top-k", "9",
         "--max-tokens", "10", "--stop", "x"},
        &parsed);
  EXPECT_EQ(parsed.flags.sampling.temperature(), 0.5f);
  EXPECT_EQ(parsed.flags.sampling.top_k(), 9u);
  EXPECT_EQ(parsed.flags.sampling.logit_bias().size(), 2u);
  EXPECT_EQ(parsed.flags.sampling.logit_bias().at(3), -4.0f);
  EXPECT_EQ(parsed.flags.stop.max_tokens(), 10u);
  EXPECT_THAT(parsed.flags.stop.sequences(), ElementsAre("x"));
}

TEST(SamplingFlagsTest, BadCommandLines) {
  const std::vector<std::vector<std::string>> cases = {
      {"--temperature", "warm"},
      {"--temperature"},
      {"--temperature", "1", "2"},
      {"--top-k", "-1"},
      {"--top-k", "1.5"},
      {"--top-k", "4294967296"},
      {"--seed", "-1"},
      {"--seed", "017"},
      {"--seed", "0x1F"},
      {"--seed", ""},
      {"--stop-token", ""},
      {"--seed", "18446744073709551616"},
      {"--max-tokens", "many"},
      {"--max-tokens", "4294967297"},
      {"--stop", "\xC3"},
      {"--stop-token", "x"},
      {"--logit-bias", "42"},
      {"--ignore-end-of-text=maybe"},
      {"--top-log-probs", "-3"},
      {"--no-such-flag"},
  };
  for (const auto& arguments : cases) {
    Parsed parsed;
    EXPECT_THROW(Parse(arguments, &parsed), CLI::ParseError) << testing::PrintToString(arguments);
  }
}

TEST(ParseLogitBiasTest, Good) {
  google::protobuf::Map<uint32_t, float> bias;
  EXPECT_EQ(ParseLogitBias("0=0", &bias), "");
  EXPECT_EQ(ParseLogitBias("4294967295=-1e3", &bias), "");
  EXPECT_EQ(ParseLogitBias("5=0.5", &bias), "");
  EXPECT_EQ(ParseLogitBias("5=inf", &bias), "");
  EXPECT_EQ(bias.size(), 3u);
  EXPECT_EQ(bias.at(4294967295u), -1000.0f);
  EXPECT_TRUE(std::isinf(bias.at(5)));
}

TEST(ParseLogitBiasTest, BadOnesChangeNothing) {
  for (const char* text : {"", "=", "1=", "=1", "1", "1:2", "a=1", "1=b", "-1=2", " 1=2", "1= 2",
                           "1=2x", "1x=2", "4294967296=1", "1=1e99", "1=2=3"}) {
    google::protobuf::Map<uint32_t, float> bias;
    EXPECT_EQ(ParseLogitBias(text, &bias),
              "logit bias is \"" + std::string(text) + "\", must be ID=BIAS such as 42=-1.5");
    EXPECT_TRUE(bias.empty());
  }
}

TEST(CheckWholeNumberTest, DecimalDigitsOnly) {
  for (const char* text : {"0", "7", "4294967296", "18446744073709551615"}) {
    EXPECT_EQ(CheckWholeNumber(text), "") << text;
  }
  for (const char* text :
       {"", "-1", "+1", "1.0", "1e3", "0x10", "00", "07", " 1", "1 ", "18446744073709551616"}) {
    EXPECT_EQ(CheckWholeNumber(text),
              "value is \"" + std::string(text) + "\", must be a whole number in decimal digits");
  }
}

TEST(CheckUtf8Test, Sentence) {
  EXPECT_EQ(CheckUtf8("fine"), "");
  EXPECT_EQ(CheckUtf8("abc\xFF"), "the text is not UTF-8 from byte 3 on");
}

}  // namespace
}  // namespace eddy
