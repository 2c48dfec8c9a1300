// SPDX-License-Identifier: Apache-2.0
#include "engine/session_table.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/check.h"
#include "kernels/status_macros.h"

namespace eddy {

SessionTable::SessionTable(Backend& backend, StatePool& pool, StateStore& store,
                           EngineMetrics& metrics, const EngineOptions& options)
    : backend_(backend),
      pool_(pool),
      store_(store),
      metrics_(metrics),
      options_(options),
      residents_(static_cast<size_t>(pool.slot_count())) {}

absl::StatusOr<Session*> SessionTable::Find(std::string_view name) {
  const auto it = named_.find(name);
  if (it != named_.end()) return it->second.get();
  return absl::NotFoundError(absl::StrCat("There is no session '", std::string(name), "'."));
}

absl::StatusOr<Session*> SessionTable::Create(std::string name) {
  if (named_.contains(name)) {
    return absl::AlreadyExistsError(absl::StrCat("Session '", name, "' exists already."));
  }
  if (named_count() >= options_.session_count_max) {
    return absl::ResourceExhaustedError(
        absl::StrCat("There are ", named_count(), " sessions, as many as session_count_max ",
                     options_.session_count_max, " allows; delete some."));
  }
  auto session = std::make_unique<Session>(next_id_++, name);
  session->created = session->last_used = std::chrono::system_clock::now();
  session->use_order = next_use_order_++;
  return named_.emplace(std::move(name), std::move(session)).first->second.get();
}

Session& SessionTable::CreateUnnamed() {
  auto session = std::make_unique<Session>(next_id_++, std::string());
  session->use_order = next_use_order_++;
  return *unnamed_.emplace(session->id(), std::move(session)).first->second;
}

void SessionTable::Remove(Session& session) {
  EDDY_CHECK_EQ(session.open_turn_count, 0);
  ReleaseSlot(session);
  if (session.in_store) store_.Remove(session.id());
  if (session.named()) {
    named_.erase(named_.find(session.name()));
  } else {
    unnamed_.erase(session.id());
  }
}

SessionTable::PlaceResult SessionTable::Place(Session& session) {
  if (session.slot.held()) return {};
  StateBlob own_state;
  if (pool_.free_count() == 0) {
    PlaceResult room = MakeRoom(session, &own_state);
    if (room.placement != Placement::kPlaced) return room;
  } else if (session.in_store) {
    absl::StatusOr<StateBlob> taken = store_.Take(session.id());
    if (!taken.ok()) return {.placement = Placement::kNoRoom, .status = taken.status()};
    own_state = *std::move(taken);
    session.in_store = false;
  }
  return MoveIn(session, std::move(own_state));
}

// The session's own state leaves the store before another enters it, so that two can change places
// when it is full.
SessionTable::PlaceResult SessionTable::MakeRoom(Session& session, StateBlob* own_state) {
  Session* victim = FindVictim();
  if (victim == nullptr) return {.placement = Placement::kNoRoomYet, .status = {}};
  const int64_t own_bytes = session.in_store ? pool_.state_bytes() : 0;
  if (absl::Status room = store_.CheckRoom(pool_.state_bytes() - own_bytes); !room.ok()) {
    if (SomeoneWillLeave()) return {.placement = Placement::kNoRoomYet, .status = {}};
    return {.placement = Placement::kNoRoom, .status = std::move(room)};
  }
  if (session.in_store) {
    absl::StatusOr<StateBlob> taken = store_.Take(session.id());
    if (!taken.ok()) return {.placement = Placement::kNoRoom, .status = taken.status()};
    *own_state = *std::move(taken);
    session.in_store = false;
  }
  return MoveOut(*victim);
}

void SessionTable::Rest(Session& session) {
  session.use_order = next_use_order_++;
  session.last_used = std::chrono::system_clock::now();
  if (session.read_count() == 0 || !session.failure.ok()) ReleaseSlot(session);
}

SessionInfo SessionTable::Info(const Session& session) const {
  SessionInfo info;
  info.name = session.name();
  info.position = session.position();
  info.turn_count = session.turn_count;
  info.state = session.open_turn_count > 0 ? SessionInfo::State::kActive
               : session.in_store          ? SessionInfo::State::kEvicted
                                           : SessionInfo::State::kResident;
  info.state_bytes = pool_.state_bytes();
  info.created = session.created;
  info.last_used = session.last_used;
  return info;
}

std::vector<SessionInfo> SessionTable::List(std::string_view after, int limit) const {
  std::vector<SessionInfo> infos;
  for (auto it = named_.upper_bound(after);
       it != named_.end() && static_cast<int>(infos.size()) < limit; ++it) {
    infos.push_back(Info(*it->second));
  }
  return infos;
}

// The one used least recently; those between turns before those whose reader is slow.
Session* SessionTable::FindVictim() {
  Session* victim = nullptr;
  for (Session* session : residents_) {
    if (session == nullptr || (session->active && !session->parked)) continue;
    if (victim == nullptr || std::pair(session->active, session->use_order) <
                                 std::pair(victim->active, victim->use_order)) {
      victim = session;
    }
  }
  return victim;
}

// An unnamed session gives its slot back when its turn ends; a named one keeps it.
bool SessionTable::SomeoneWillLeave() const {
  for (const Session* session : residents_) {
    if (session != nullptr && session->active && !session->named()) return true;
  }
  return false;
}

SessionTable::PlaceResult SessionTable::MoveOut(Session& session) {
  const TimePoint begun = options_.clock();
  StateBlob state(pool_.state_bytes());
  pool_.Save(session.slot, state.span());
  // A state is published only when the copy is done.
  if (absl::Status saved = backend_.Synchronize(); !saved.ok()) {
    return {.placement = Placement::kDeviceLost, .status = std::move(saved)};
  }
  const absl::Status put = store_.Put(session.id(), std::move(state));
  EDDY_CHECK(put.ok()) << put.ToString();  // there was room
  session.in_store = true;
  ReleaseSlot(session);
  metrics_.state_move_out.Observe(std::chrono::duration<double>(options_.clock() - begun).count());
  return {};
}

SessionTable::PlaceResult SessionTable::MoveIn(Session& session, StateBlob state) {
  session.slot = pool_.Acquire();
  residents_[static_cast<size_t>(session.slot.index())] = &session;
  if (state.bytes() == 0) return {};
  const TimePoint begun = options_.clock();
  pool_.Load(session.slot, state.span());
  // The copy reads `state` until then.
  if (absl::Status loaded = backend_.Synchronize(); !loaded.ok()) {
    return {.placement = Placement::kDeviceLost, .status = std::move(loaded)};
  }
  metrics_.state_move_in.Observe(std::chrono::duration<double>(options_.clock() - begun).count());
  return {};
}

void SessionTable::ReleaseSlot(Session& session) {
  if (!session.slot.held()) return;
  residents_[static_cast<size_t>(session.slot.index())] = nullptr;
  session.slot.Release();
}

}  // namespace eddy
