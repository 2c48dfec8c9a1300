// SPDX-License-Identifier: Apache-2.0
#include "quantize/flags.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <sstream>
#include <string>
#include <vector>

namespace eddy {
namespace {

using testing::AllOf;
using testing::HasSubstr;

struct Parsed {
  std::optional<int> code;
  QuantizeFlags flags;
  std::string out, err;
};

Parsed Parse(const std::vector<std::string>& arguments) {
  std::vector<const char*> argv = {"eddy-quantize"};
  for (const std::string& argument : arguments) argv.push_back(argument.c_str());
  Parsed parsed;
  std::ostringstream out, err;
  parsed.code =
      ParseQuantizeFlags(static_cast<int>(argv.size()), argv.data(), &parsed.flags, out, err);
  parsed.out = out.str();
  parsed.err = err.str();
  return parsed;
}

TEST(QuantizeFlagsTest, TakesFoldersAndFlags) {
  const Parsed few = Parse({"in", "out", "--weights", "int8"});
  EXPECT_EQ(few.code, std::nullopt) << few.err;
  EXPECT_EQ(few.flags.model_folder, "in");
  EXPECT_EQ(few.flags.out_folder, "out");
  EXPECT_EQ(few.flags.dtype, DType::kI8);
  EXPECT_EQ(few.flags.text, "");
  EXPECT_EQ(few.flags.text_bytes_max, 131072);
  const Parsed all = Parse({"--weights=int4", "in", "out", "--text", "t", "--text-begin", "5",
                            "--text-bytes-max", "64KB", "--threads", "3"});
  EXPECT_EQ(all.code, std::nullopt) << all.err;
  EXPECT_EQ(all.flags.dtype, DType::kI4);
  EXPECT_EQ(all.flags.text, "t");
  EXPECT_EQ(all.flags.text_begin, 5);
  EXPECT_EQ(all.flags.text_bytes_max, 65536);
  EXPECT_EQ(all.flags.thread_count, 3);
  EXPECT_TRUE(Parse({"in", "out", "--weights", "int8", "--no-text"}).flags.no_text);
}

TEST(QuantizeFlagsTest, HelpTeaches) {
  const Parsed parsed = Parse({"--help"});
  EXPECT_EQ(parsed.code, 0);
  EXPECT_EQ(parsed.err, "");
  EXPECT_THAT(parsed.out, AllOf(HasSubstr("eddy quantize"), HasSubstr("int8: one scale per output"),
                                HasSubstr("eddy-server --model"), HasSubstr("--text-bytes-max")));
}

TEST(QuantizeFlagsTest, WrongFlagsAreTold) {
  const struct {
    std::vector<std::string> arguments;
    std::string told;
  } cases[] = {{{}, "model is required"},
               {{"in", "--weights", "int8"}, "out is required"},
               {{"in", "out"}, "--weights is required"},
               {{"in", "out", "--weights", "bf16"}, "bf16 not in {int8,int4}"},
               {{"in", "out", "more", "--weights", "int8"}, "more"},
               {{"in", "out", "--weights", "int8", "--threads", "-1"}, "--threads"},
               {{"in", "out", "--weights", "int8", "--text-begin", "4"}, "--text-begin requires"},
               {{"in", "out", "--weights", "int8", "--text", "t", "--text-begin", "-4"}, "-4"},
               {{"in", "out", "--weights", "int8", "--text-bytes-max", "1"}, "--text-bytes-max"},
               {{"in", "out", "--weights", "int8", "--text", "t", "--no-text"}, "excludes"}};
  for (const auto& c : cases) {
    const Parsed parsed = Parse(c.arguments);
    EXPECT_EQ(parsed.code, 2) << c.told;
    EXPECT_EQ(parsed.out, "");
    EXPECT_THAT(parsed.err, AllOf(testing::StartsWith("eddy-quantize: "), HasSubstr(c.told),
                                  HasSubstr("See eddy quantize --help")));
  }
}

}  // namespace
}  // namespace eddy
