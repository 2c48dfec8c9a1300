// SPDX-License-Identifier: Apache-2.0
#include "client/quantize_command.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <ostream>
#include <system_error>
#include <vector>

namespace eddy {
namespace {

constexpr char kProgram[] = "eddy-quantize";

}  // namespace

std::string ProgramBeside(const std::string& program) {
  std::error_code error;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  return error ? std::string() : (self.parent_path() / program).string();
}

int BecomeProgram(const std::string& path, const std::vector<std::string>& arguments,
                  Console& console) {
  std::vector<std::string> words = {path};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) {
    argv.push_back(word.data());
  }
  argv.push_back(nullptr);
  console.out << std::flush;
  execv(path.c_str(), argv.data());
  console.err << "eddy: cannot run " << path << ": " << std::strerror(errno)
              << "; build it (cmake --build --preset release) or install it beside eddy"
              << std::endl;
  return kExitFailed;
}

void AddQuantizeCommand(CLI::App& app, CommandContext& context) {
  CLI::App* const command = app.add_subcommand(
      "quantize", "Make an int8 or int4 model folder of one with floats (no server needed)");
  // Everything behind the name, --help too, is the other program's.
  command->set_help_flag();
  command->prefix_command();
  command->callback([command, &context] {
    context.exit_code =
        BecomeProgram(ProgramBeside(kProgram), command->remaining(), context.console);
  });
}

}  // namespace eddy
