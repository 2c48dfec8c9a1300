// SPDX-License-Identifier: Apache-2.0
// Early return of absl::Status; Debian 12's abseil is older than its own macros.
#pragma once

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define EDDY_RETURN_IF_ERROR(expr)                      \
  do {                                                  \
    if (absl::Status status_ = (expr); !status_.ok()) { \
      return status_;                                   \
    }                                                   \
  } while (false)

#define EDDY_CONCAT_INNER(a, b) a##b
#define EDDY_CONCAT(a, b) EDDY_CONCAT_INNER(a, b)
#define EDDY_ASSIGN_OR_RETURN(lhs, expr) \
  EDDY_ASSIGN_OR_RETURN_NAMED(EDDY_CONCAT(status_or_, __LINE__), lhs, expr)
#define EDDY_ASSIGN_OR_RETURN_NAMED(name, lhs, expr) \
  auto name = (expr);                                \
  if (!name.ok()) {                                  \
    return std::move(name).status();                 \
  }                                                  \
  lhs = *std::move(name)
