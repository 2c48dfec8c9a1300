// SPDX-License-Identifier: Apache-2.0
#include "client/failure.h"

#include <algorithm>
#include <array>
#include <ostream>

namespace eddy {
namespace {

constexpr std::array<const char*, 17> kCodeNames = {
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
};

// gRPC tells a server that refuses from one that is not there by the message alone.
bool NobodyAnswers(const grpc::Status& status) {
  return status.error_code() == grpc::StatusCode::UNAVAILABLE &&
         (status.error_message().find("failed to connect to all addresses") != std::string::npos ||
          status.error_message().find("DNS resolution failed") != std::string::npos);
}

}  // namespace

std::string StatusCodeName(grpc::StatusCode code) {
  const size_t number = static_cast<size_t>(code);
  return number < kCodeNames.size() ? kCodeNames[number] : "CODE_" + std::to_string(number);
}

std::string FailureSentence(const grpc::Status& status, const std::string& server,
                            const grpc::ClientContext* context) {
  std::string sentence = StatusCodeName(status.error_code()) + ": ";
  if (NobodyAnswers(status)) {
    return sentence + "no server answers at " + server +
           ": is eddy-server running there? Start it with `eddy-server --model DIR --listen " +
           server + "`, or name another one with --server HOST:PORT (" + status.error_message() +
           ")";
  }
  sentence += status.error_message().empty() ? "the server gave no reason" : status.error_message();
  if (context != nullptr) {
    const auto& trailers = context->GetServerTrailingMetadata();
    const auto hint = trailers.find("grpc-retry-pushback-ms");
    // A hint that is no number of milliseconds means: do not come again.
    if (hint != trailers.end() && hint->second.size() > 0 &&
        std::all_of(hint->second.begin(), hint->second.end(),
                    [](char c) { return c >= '0' && c <= '9'; })) {
      sentence +=
          " (try again in " + std::string(hint->second.data(), hint->second.size()) + " ms)";
    }
  }
  return sentence;
}

int ReportFailure(Console& console, const grpc::Status& status, const std::string& server,
                  const grpc::ClientContext* context) {
  console.err << "eddy: " << FailureSentence(status, server, context) << std::endl;
  return kExitFailed;
}

int ReportUsage(Console& console, const std::string& sentence) {
  console.err << "eddy: " << sentence << std::endl;
  return kExitUsage;
}

}  // namespace eddy
