// SPDX-License-Identifier: Apache-2.0
// Messages as lines for programs.
#pragma once

#include <google/protobuf/message.h>

#include <string>

namespace eddy {

// One line of protobuf JSON (https://protobuf.dev/programming-guides/json) without the line end:
// the proto's own field names; fields of value 0, "" and [] are there, `optional` ones only when
// set; 64-bit integers are strings.
std::string JsonLine(const google::protobuf::Message& message);

}  // namespace eddy
