// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <iostream>

#include "client/command_line.h"
#include "client/console.h"
#include "client/interrupt.h"

int main(int argc, char** argv) {
  eddy::Interrupt interrupt;
  eddy::Console console{std::cin,
                        std::cout,
                        std::cerr,
                        isatty(STDIN_FILENO) == 1,
                        isatty(STDOUT_FILENO) == 1,
                        isatty(STDERR_FILENO) == 1,
                        &interrupt};
  return eddy::RunCommandLine(argc, argv, console);
}
