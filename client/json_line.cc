// SPDX-License-Identifier: Apache-2.0
#include "client/json_line.h"

#include <google/protobuf/util/json_util.h>

namespace eddy {

std::string JsonLine(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = false;
  options.preserve_proto_field_names = true;
  options.always_print_primitive_fields = true;
  std::string line;
  const auto status = google::protobuf::util::MessageToJsonString(message, &line, options);
  // Messages of eddy.v1 hold nothing that JSON lacks; a failure would be news worth showing.
  return status.ok() ? line : "{\"error\":\"message has no JSON form\"}";
}

}  // namespace eddy
