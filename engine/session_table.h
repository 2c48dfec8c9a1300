// SPDX-License-Identifier: Apache-2.0
// SessionTable: all sessions and where the state of each is: in a slot of the pool, in the store,
// or nowhere yet.
//
// When a session needs a slot and none is free, the state of the one used least recently goes to
// the store. A session is never pinned but while its turn can move: between turns, and while its
// reader is too slow, it may be moved out. Not thread-safe: the step thread owns it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/engine_options.h"
#include "engine/metrics.h"
#include "engine/request.h"
#include "engine/session.h"
#include "engine/state_pool.h"
#include "engine/state_store.h"
#include "kernels/backend.h"

namespace eddy {

class SessionTable {
 public:
  // All must outlive the table.
  SessionTable(Backend& backend, StatePool& pool, StateStore& store, EngineMetrics& metrics,
               const EngineOptions& options);

  // NOT_FOUND.
  absl::StatusOr<Session*> Find(std::string_view name);
  // ALREADY_EXISTS; RESOURCE_EXHAUSTED at session_count_max. The name has been checked.
  absl::StatusOr<Session*> Create(std::string name);
  Session& CreateUnnamed();
  // Forgets the session and its state; it has no open turn.
  void Remove(Session& session);

  enum class Placement { kPlaced, kNoRoomYet, kNoRoom, kDeviceLost };
  struct PlaceResult {
    Placement placement = Placement::kPlaced;
    absl::Status status;  // the sentence of kNoRoom and kDeviceLost
  };
  // Gives the session a slot with its state in it. kNoRoomYet: a running turn will free one.
  // kNoRoom: nobody will, and the store is full.
  PlaceResult Place(Session& session);
  // Between turns: notes the use, and gives up the slot of a session that has read nothing or has
  // failed.
  void Rest(Session& session);

  SessionInfo Info(const Session& session) const;
  // Up to `limit` named sessions after a name, by name.
  std::vector<SessionInfo> List(std::string_view after, int limit) const;
  int64_t named_count() const { return static_cast<int64_t>(named_.size()); }
  int64_t session_count() const { return static_cast<int64_t>(named_.size() + unnamed_.size()); }
  // [slot]; null: free.
  const std::vector<Session*>& residents() const { return residents_; }

 private:
  Session* FindVictim();
  bool SomeoneWillLeave() const;
  PlaceResult MakeRoom(Session& session, StateBlob* own_state);
  PlaceResult MoveOut(Session& session);
  PlaceResult MoveIn(Session& session, StateBlob state);
  void ReleaseSlot(Session& session);

  Backend& backend_;
  StatePool& pool_;
  StateStore& store_;
  EngineMetrics& metrics_;
  const EngineOptions& options_;

  std::map<std::string, std::unique_ptr<Session>, std::less<>> named_;
  std::unordered_map<uint64_t, std::unique_ptr<Session>> unnamed_;
  std::vector<Session*> residents_;
  uint64_t next_id_ = 1;
  uint64_t next_use_order_ = 1;
};

}  // namespace eddy
