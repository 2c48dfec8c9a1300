// SPDX-License-Identifier: Apache-2.0
// A token is a byte, its id the byte's value.
#pragma once

#include <memory>

#include "engine/tokenizer/tokenizer.h"

namespace eddy {

std::unique_ptr<Tokenizer> MakeByteTokenizer();

}  // namespace eddy
