// SPDX-License-Identifier: Apache-2.0
// What eddy-server says of itself at start: what it runs, and every limit with the bytes it costs.
#pragma once

#include <cstdint>
#include <string>

#include "engine/engine.h"
#include "server/server.h"

namespace eddy {

// "640 B", "1.5 KiB", "4.0 GiB".
std::string FormatBytes(int64_t bytes);

// A table of lines "name  value  what it costs", ending with a newline.
std::string StartReport(const Engine& engine, const ServerOptions& options, Duration grace);

}  // namespace eddy
