// SPDX-License-Identifier: Apache-2.0
// StatePool: the states of all sessions that are on the backend, slot_count blobs of state_bytes in
// one piece.
//
// A slot is zeroed when it is acquired and, in debug builds, filled with NaNs when it is released,
// so that a stale reader shows itself. Every acquire gives the slot a new generation. A StateSlot
// is the one owner of its slot and the only way to release it. Not thread-safe: the step thread
// owns it. All copies go in the backend's stream order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/backend.h"

namespace eddy {

class StatePool;

// Move-only ticket for one slot; gives it back when dropped. The pool must outlive it.
class StateSlot {
 public:
  StateSlot() = default;  // holds none
  StateSlot(StateSlot&& other) noexcept;
  StateSlot& operator=(StateSlot&& other) noexcept;
  StateSlot(const StateSlot&) = delete;
  StateSlot& operator=(const StateSlot&) = delete;
  ~StateSlot() { Release(); }

  bool held() const { return pool_ != nullptr; }
  int32_t index() const { return index_; }
  uint64_t generation() const { return generation_; }
  void Release();

 private:
  friend class StatePool;
  StateSlot(StatePool* pool, int32_t index, uint64_t generation)
      : pool_(pool), index_(index), generation_(generation) {}

  StatePool* pool_ = nullptr;
  int32_t index_ = -1;
  uint64_t generation_ = 0;
};

class StatePool {
 public:
#ifdef NDEBUG
  static constexpr bool kPoisons = false;
#else
  static constexpr bool kPoisons = true;
#endif
  static constexpr uint8_t kPoison = 0xFF;  // as f32: NaN

  // RESOURCE_EXHAUSTED when the backend has no room for slot_count * state_bytes.
  static absl::StatusOr<std::unique_ptr<StatePool>> Make(Backend& backend, int32_t slot_count,
                                                         int64_t state_bytes);
  ~StatePool();
  StatePool(const StatePool&) = delete;
  StatePool& operator=(const StatePool&) = delete;

  // A zeroed slot, the lowest one free; one that holds none when all are taken.
  StateSlot Acquire();

  // Copies a state out to `state` / in from it; state_bytes() each. The memory must stay until the
  // backend has synchronized. Aborts on a slot that is not the current owner's.
  void Save(const StateSlot& slot, std::span<std::byte> state);
  void Load(const StateSlot& slot, std::span<const std::byte> state);

  // Slot 0, for Model::Forward.
  StateRef states() const;

  int32_t slot_count() const { return static_cast<int32_t>(generations_.size()); }
  int32_t free_count() const { return static_cast<int32_t>(free_.size()); }
  int64_t state_bytes() const { return state_bytes_; }
  // Of the last acquire of a slot; 0 before the first.
  uint64_t generation(int32_t index) const { return generations_[static_cast<size_t>(index)]; }

 private:
  friend class StateSlot;
  StatePool(Backend& backend, Buffer buffer, int32_t slot_count, int64_t state_bytes);

  void Release(int32_t index, uint64_t generation);
  std::byte* At(const StateSlot& slot) const;

  Backend& backend_;
  Buffer buffer_;
  const int64_t state_bytes_;
  uint64_t next_generation_ = 1;
  std::vector<uint64_t> generations_;  // [slot]
  std::vector<bool> taken_;            // [slot]
  std::vector<int32_t> free_;          // a heap, the lowest index first
};

}  // namespace eddy
