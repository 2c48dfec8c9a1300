// SPDX-License-Identifier: Apache-2.0
#include "engine/state_pool.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/check.h"

namespace eddy {

StateSlot::StateSlot(StateSlot&& other) noexcept
    : pool_(std::exchange(other.pool_, nullptr)),
      index_(std::exchange(other.index_, -1)),
      generation_(std::exchange(other.generation_, 0)) {}

StateSlot& StateSlot::operator=(StateSlot&& other) noexcept {
  if (this != &other) {
    Release();
    pool_ = std::exchange(other.pool_, nullptr);
    index_ = std::exchange(other.index_, -1);
    generation_ = std::exchange(other.generation_, 0);
  }
  return *this;
}

void StateSlot::Release() {
  if (pool_ == nullptr) return;
  std::exchange(pool_, nullptr)->Release(std::exchange(index_, -1), std::exchange(generation_, 0));
}

absl::StatusOr<std::unique_ptr<StatePool>> StatePool::Make(Backend& backend, int32_t slot_count,
                                                           int64_t state_bytes) {
  EDDY_CHECK(slot_count >= 1 && state_bytes >= 1) << slot_count << " slots of " << state_bytes;
  absl::StatusOr<Buffer> buffer = backend.Allocate(slot_count * state_bytes);
  if (!buffer.ok()) {
    return absl::Status(buffer.status().code(),
                        absl::StrCat("The state pool of ", slot_count, " slots of ", state_bytes,
                                     " bytes does not fit; ask for fewer slots. ",
                                     std::string(buffer.status().message())));
  }
  return std::unique_ptr<StatePool>(
      new StatePool(backend, *std::move(buffer), slot_count, state_bytes));
}

StatePool::StatePool(Backend& backend, Buffer buffer, int32_t slot_count, int64_t state_bytes)
    : backend_(backend),
      buffer_(std::move(buffer)),
      state_bytes_(state_bytes),
      generations_(static_cast<size_t>(slot_count)),
      taken_(static_cast<size_t>(slot_count)),
      free_(static_cast<size_t>(slot_count)) {
  std::iota(free_.begin(), free_.end(), 0);
  if (kPoisons) backend_.FillBytes(buffer_.data(), kPoison, buffer_.bytes());
}

StatePool::~StatePool() { EDDY_CHECK_EQ(free_count(), slot_count()) << "a slot outlives its pool"; }

StateSlot StatePool::Acquire() {
  if (free_.empty()) return StateSlot();
  std::pop_heap(free_.begin(), free_.end(), std::greater<>());
  const int32_t index = free_.back();
  free_.pop_back();
  taken_[static_cast<size_t>(index)] = true;
  generations_[static_cast<size_t>(index)] = next_generation_;
  StateSlot slot(this, index, next_generation_++);
  backend_.FillBytes(At(slot), 0, state_bytes_);
  return slot;
}

void StatePool::Release(int32_t index, uint64_t generation) {
  EDDY_CHECK(taken_[static_cast<size_t>(index)] &&
             generations_[static_cast<size_t>(index)] == generation)
      << "slot " << index << " released by an owner of generation " << generation;
  taken_[static_cast<size_t>(index)] = false;
  if (kPoisons) {
    backend_.FillBytes(static_cast<std::byte*>(buffer_.data()) + index * state_bytes_, kPoison,
                       state_bytes_);
  }
  free_.push_back(index);
  std::push_heap(free_.begin(), free_.end(), std::greater<>());
}

void StatePool::Save(const StateSlot& slot, std::span<std::byte> state) {
  EDDY_CHECK_EQ(static_cast<int64_t>(state.size()), state_bytes_);
  backend_.CopyOut(At(slot), state.data(), state_bytes_);
}

void StatePool::Load(const StateSlot& slot, std::span<const std::byte> state) {
  EDDY_CHECK_EQ(static_cast<int64_t>(state.size()), state_bytes_);
  backend_.CopyIn(state.data(), At(slot), state_bytes_);
}

StateRef StatePool::states() const {
  return {.base = static_cast<std::byte*>(buffer_.data()), .slot_bytes = state_bytes_};
}

std::byte* StatePool::At(const StateSlot& slot) const {
  EDDY_CHECK(slot.pool_ == this);
  EDDY_CHECK_EQ(generations_[static_cast<size_t>(slot.index_)], slot.generation_);
  return static_cast<std::byte*>(buffer_.data()) + slot.index_ * state_bytes_;
}

}  // namespace eddy
