// SPDX-License-Identifier: Apache-2.0
#include "client/models_command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/client/command_fixture.h"

namespace eddy {
namespace {

using testing::StartsWith;

class ModelsCommandTest : public CommandTest {};

constexpr char kTable[] =
    "NAME  FAMILY              PARAMETERS  VOCABULARY  STATE_BYTES  DTYPE  NUMERIC_PATH  BACKEND\n"
    "fake  linear_transformer       12345         256         4096  f32    cpu-v1        cpu "
    "avx2\n";

TEST_F(ModelsCommandTest, ListIsTheDefault) {
  for (const std::vector<std::string>& arguments : {std::vector<std::string>{"models"},
                                                    {"models", "list"},
                                                    {"models", "get"},
                                                    {"models", "get", "fake"}}) {
    const CommandResult result = Run(arguments);
    EXPECT_EQ(result.exit_code, 0);
    EXPECT_EQ(result.out, kTable);
    EXPECT_EQ(result.err, "");
  }
}

TEST_F(ModelsCommandTest, Json) {
  const nlohmann::json model = nlohmann::json::parse(Run({"models", "--json"}).out);
  EXPECT_EQ(model["name"], "fake");
  EXPECT_EQ(model["parameter_count"], "12345");
  EXPECT_EQ(model["vocabulary_size"], 256);
  EXPECT_EQ(model["state_bytes_per_session"], "4096");
  EXPECT_EQ(model["numeric_path"], "cpu-v1");
  EXPECT_EQ(model["has_tokenizer"], true);
  EXPECT_EQ(model["end_of_text_ids"], nlohmann::json::array({0}));
  EXPECT_EQ(nlohmann::json::parse(Run({"models", "get", "fake", "--json"}).out), model);
}

TEST_F(ModelsCommandTest, AnUnknownModel) {
  const CommandResult result = Run({"models", "get", "other"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(result.out, "");
  EXPECT_EQ(result.err, "eddy: NOT_FOUND: model \"other\" is not served\n");
}

TEST_F(ModelsCommandTest, TokenizeAndDetokenizeAreInverse) {
  EXPECT_EQ(Run({"models", "tokenize", "--prompt", "To be"}).out, "84,111,32,98,101\n");
  EXPECT_EQ(Run({"models", "tokenize", "--prompt", "To", "--json"}).out,
            "{\"token_ids\":[84,111]}\n");
  EXPECT_EQ(Run({"models", "tokenize", "--prompt-file", "-"}, CommandInput{"a\n"}).out, "97,10\n");
  EXPECT_EQ(Run({"models", "tokenize", "--prompt", ""}).out, "\n");
  EXPECT_EQ(Run({"models", "detokenize", "--token-ids", "84,111,32,98,101"}).out, "To be");
  EXPECT_EQ(Run({"models", "detokenize", "--token-ids", "84", "--json"}).out, "{\"text\":\"T\"}\n");
  CommandInput terminal;
  terminal.terminal = true;
  EXPECT_EQ(Run({"models", "detokenize", "--token-ids", "84"}, terminal).out, "T\n");
}

TEST_F(ModelsCommandTest, Refusals) {
  const CommandResult range = Run({"models", "detokenize", "--token-ids", "256"});
  EXPECT_EQ(range.exit_code, 1);
  EXPECT_EQ(range.err, "eddy: INVALID_ARGUMENT: token_ids holds 256, must be in [0, 256)\n");
  const CommandResult model = Run({"models", "tokenize", "--prompt", "x", "--model", "other"});
  EXPECT_EQ(model.exit_code, 1);
  EXPECT_THAT(model.err, StartsWith("eddy: NOT_FOUND: "));
}

TEST_F(ModelsCommandTest, UsageErrors) {
  const CommandResult none = Run({"models", "tokenize"});
  EXPECT_EQ(none.exit_code, 2);
  EXPECT_THAT(none.err, StartsWith("eddy: give --prompt or --prompt-file"));
  EXPECT_EQ(Run({"models", "detokenize"}).exit_code, 2);
  EXPECT_EQ(Run({"models", "detokenize", "--token-ids", "x"}).exit_code, 2);
  EXPECT_EQ(Run({"models", "detokenize", "--token-ids", ""}).exit_code, 2);
  EXPECT_EQ(Run({"models", "tokenize", "--prompt-file", "/does/not/exist"}).exit_code, 2);
}

}  // namespace
}  // namespace eddy
