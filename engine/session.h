// SPDX-License-Identifier: Apache-2.0
// Session: a conversation as the engine keeps it: how far it is, its state's place, and a short
// window of tokens. The same size however long it gets. SessionTable owns it; the step thread alone
// touches it.
//
// What is part of a session:
//   - every prompt token that a step has read. A turn that ends early (cancel, deadline) leaves the
//   session exactly
//     at the tokens read until then; position says where.
//   - every generated token that was sent, also the tokens of a matched stop sequence, whose text
//   was withheld.
//   - not the end of text or stop token that ended a turn: it is not sent, not counted and not
//   read. A caller
//     who wants it in the history begins the next prompt with it.
// The state has read all of this but, at times, the last generated token: that one is pending, and
// the next turn reads it first.
#pragma once

#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "engine/state_pool.h"
#include "engine/token_window.h"

namespace eddy {

class Session {
 public:
  Session(uint64_t id, std::string name) : id_(id), name_(std::move(name)) {}
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  uint64_t id() const { return id_; }
  const std::string& name() const { return name_; }
  bool named() const { return !name_.empty(); }

  // Tokens of the session.
  int64_t position() const { return position_; }
  // Tokens the state has read: position() or one less.
  int64_t read_count() const { return position_ - (pending_token_ >= 0 ? 1 : 0); }
  // The generated token that the state has not read; -1: none.
  int32_t pending_token() const { return pending_token_; }

  // The state has read the pending token, if there was one, then these.
  void Read(std::span<const int32_t> prompt_tokens);
  // Aborts while another token is pending.
  void AppendGenerated(int32_t token);

  TokenWindow& window() { return window_; }

  // ---- kept by SessionTable ----
  StateSlot slot;  // where the state is; none: in the store, or nothing was read yet
  bool in_store = false;
  uint64_t use_order = 0;  // the larger, the later used

  // ---- kept by EngineCore ----
  bool active = false;          // a turn has begun and not ended
  bool parked = false;          // that turn waits for its reader
  int32_t open_turn_count = 0;  // turns begun or waiting
  int64_t turn_count = 0;       // turns that have begun and ended
  absl::Status failure;         // not OK: the state cannot be trusted, only Delete helps
  std::chrono::system_clock::time_point created;
  std::chrono::system_clock::time_point last_used;

 private:
  const uint64_t id_;
  const std::string name_;
  int64_t position_ = 0;
  int32_t pending_token_ = -1;
  TokenWindow window_;
};

}  // namespace eddy
