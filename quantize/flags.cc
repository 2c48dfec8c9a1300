// SPDX-License-Identifier: Apache-2.0
#include "quantize/flags.h"

#include <CLI/CLI.hpp>
#include <limits>
#include <ostream>

namespace eddy {
namespace {

constexpr const char* kDescription =
    "Makes a model folder with int8 or int4 matrices of one with floats, and tells what that "
    "costs\n"
    "in quality. The new folder is served as any other, gives the same tokens as the old one with\n"
    "eddy-server --weights int8 or int4, and is a half or a quarter of its size.";

constexpr const char* kFooter =
    "What is printed: for each matrix W its relative error |W' - W| / |W| (0.005 to 0.01 is usual "
    "for\n"
    "int8, 0.07 to 0.1 for int4) and the largest error of one number; the sizes of both files; "
    "and, "
    "with a\n"
    "text, the loss of the old and of the new model on it (nats per byte, perplexity per token).\n"
    "Vectors and embedding tables stay as they are.\n\n"
    "Example:\n"
    "  eddy quantize models/shakespeare shakespeare-int8 --weights int8\n"
    "  eddy-server --model shakespeare-int8\n"
    "  eddy quantize rwkv7 rwkv7-int4 --weights int4 --text held_out.txt --text-bytes-max 1MB";

}  // namespace

std::optional<int> ParseQuantizeFlags(int argc, const char* const* argv, QuantizeFlags* flags,
                                      std::ostream& out, std::ostream& err) {
  CLI::App app(kDescription, "eddy quantize");
  app.footer(kFooter);
  app.add_option("model", flags->model_folder,
                 "Folder with config.json and model.safetensors (f32, f16 or bf16)")
      ->type_name("FOLDER")
      ->required();
  app.add_option("out", flags->out_folder,
                 "The folder to make; must not be there yet, and is not unless all went well")
      ->type_name("FOLDER")
      ->required();
  app.add_option_function<std::string>(
         "--weights",
         [flags](const std::string& name) {
           flags->dtype = name == DTypeName(DType::kI4) ? DType::kI4 : DType::kI8;
         },
         "int8: one scale per output. int4: one scale per output and 64 inputs.")
      ->check(CLI::IsMember({"int8", "int4"}))
      ->required();
  CLI::Option* const text = app.add_option(
      "--text", flags->text,
      "A text that the model was not trained on, to measure the loss with. Default: the held-out "
      "text that the model's config.json names (eddy_text), if any.");
  text->type_name("FILE");
  app.add_flag("--no-text", flags->no_text, "Do not measure the loss.")->excludes(text);
  app.add_option("--text-begin", flags->text_begin, "Leave out that many bytes of --text.")
      ->check(CLI::Range(int64_t{0}, std::numeric_limits<int64_t>::max()))
      ->needs(text);
  app.add_option("--text-bytes-max", flags->text_bytes_max,
                 "Read at most that many bytes of text; may be written as 64KB or 1MB.")
      ->transform(CLI::AsSizeValue(false))
      ->check(CLI::Range(int64_t{2}, int64_t{1} << 40))
      ->capture_default_str();
  app.add_option("--threads", flags->thread_count, "Threads; 0: one per core.")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    out << app.help();
    return 0;
  } catch (const CLI::ParseError& error) {
    err << "eddy-quantize: " << error.what() << ". See eddy quantize --help.\n";
    return 2;
  }
  return std::nullopt;
}

}  // namespace eddy
