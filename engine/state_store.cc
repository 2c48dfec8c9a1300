// SPDX-License-Identifier: Apache-2.0
#include "engine/state_store.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/check.h"
#include "kernels/status_macros.h"

namespace eddy {

absl::Status MemoryStateStore::CheckRoom(int64_t bytes) const {
  if (bytes <= bytes_max_ - bytes_) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("Host memory for evicted states is full: ", bytes_,
                   " bytes of host_state_bytes_max ", bytes_max_, " are in use and a state takes ",
                   bytes, "; delete sessions or raise the limit."));
}

absl::Status MemoryStateStore::Put(uint64_t session_id, StateBlob state) {
  EDDY_RETURN_IF_ERROR(CheckRoom(state.bytes()));
  bytes_ += state.bytes();
  const bool inserted = states_.emplace(session_id, std::move(state)).second;
  EDDY_CHECK(inserted) << "session " << session_id << " has a state in the store already";
  return absl::OkStatus();
}

absl::StatusOr<StateBlob> MemoryStateStore::Take(uint64_t session_id) {
  const auto it = states_.find(session_id);
  if (it == states_.end()) {
    return absl::NotFoundError(absl::StrCat("No state of session ", session_id, " in the store."));
  }
  StateBlob state = std::move(it->second);
  states_.erase(it);
  bytes_ -= state.bytes();
  return state;
}

void MemoryStateStore::Remove(uint64_t session_id) {
  const auto it = states_.find(session_id);
  if (it == states_.end()) return;
  bytes_ -= it->second.bytes();
  states_.erase(it);
}

}  // namespace eddy
