// SPDX-License-Identifier: Apache-2.0
// Columns that line up, for people.
#pragma once

#include <string>
#include <vector>

namespace eddy {

// Lines of `rows` with two spaces between columns; the first row is the head. A column whose cells
// below the head are all numbers is aligned right, another left. Widths are in code points. Rows
// may be short.
std::string FormatTable(const std::vector<std::vector<std::string>>& rows);

// "%.*f" with `decimals`.
std::string FormatNumber(double value, int decimals);

}  // namespace eddy
