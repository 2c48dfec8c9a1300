// SPDX-License-Identifier: Apache-2.0
// Messages to and from the bytes of the wire.
//
// The services take raw bytes, because gRPC answers a message that does not parse (text that is not
// UTF-8 is enough) with UNIMPLEMENTED and no word, and to a stream says that the client has closed
// it.
#pragma once

#include <grpcpp/impl/codegen/proto_utils.h>
#include <grpcpp/support/byte_buffer.h>

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

namespace eddy {

// INVALID_ARGUMENT for what is no such message.
template <typename Message>
absl::StatusOr<Message> ParseMessage(const grpc::ByteBuffer& bytes) {
  Message message;
  grpc::ByteBuffer copy = bytes;  // of the reference; parsing clears it
  if (grpc::SerializationTraits<Message>::Deserialize(&copy, &message).ok()) return message;
  return absl::InvalidArgumentError(
      absl::StrCat("the request is not a valid ", std::string(Message::descriptor()->full_name()),
                   ": text must be UTF-8, and the rest as eddy/v1 says."));
}

template <typename Message>
void SerializeMessage(const Message& message, grpc::ByteBuffer* bytes) {
  bool owned = false;
  grpc::ByteBuffer made;
  grpc::SerializationTraits<Message>::Serialize(message, &made, &owned);
  bytes->Swap(&made);
}

}  // namespace eddy
