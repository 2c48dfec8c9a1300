// SPDX-License-Identifier: Apache-2.0
// What eddy-quantize prints, for people.
#pragma once

#include <string>
#include <vector>

#include "engine/quantise_model.h"
#include "quantize/quality.h"

namespace eddy {

// One line a matrix, one for all, the sizes of the files.
std::string FormatReport(const QuantiseReport& report);
// The text, and one line a measured model: its loss and how much that is above the first one's.
std::string FormatLosses(const TextPart& text, const std::vector<LossRow>& rows);

}  // namespace eddy
