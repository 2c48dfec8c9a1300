// SPDX-License-Identifier: Apache-2.0
// Failed calls as sentences.
#pragma once

#include <grpcpp/grpcpp.h>

#include <string>

#include "client/console.h"

namespace eddy {

// "INVALID_ARGUMENT" and so on; "CODE_17" for a number gRPC does not know.
std::string StatusCodeName(grpc::StatusCode code);

// "CODE: sentence", with what to do when no server answers at `server` at all. `context` (may be
// null) is the ended call's: the server's hint when to come again is added from its trailers.
std::string FailureSentence(const grpc::Status& status, const std::string& server,
                            const grpc::ClientContext* context);

// Writes "eddy: CODE: sentence" to console.err; gives kExitFailed.
int ReportFailure(Console& console, const grpc::Status& status, const std::string& server,
                  const grpc::ClientContext* context = nullptr);

// Writes "eddy: sentence" to console.err; gives kExitUsage.
int ReportUsage(Console& console, const std::string& sentence);

}  // namespace eddy
