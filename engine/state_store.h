// SPDX-License-Identifier: Apache-2.0
// StateStore: where states live outside the pool. A state is a value of a few megabytes, kept under
// the id of its session. Not thread-safe: the step thread owns it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace eddy {

// The bytes of one state in host memory; move-only.
class StateBlob {
 public:
  StateBlob() = default;
  // Contents undefined.
  explicit StateBlob(int64_t bytes)
      : data_(std::make_unique_for_overwrite<std::byte[]>(static_cast<size_t>(bytes))),
        bytes_(bytes) {}

  std::span<std::byte> span() { return {data_.get(), static_cast<size_t>(bytes_)}; }
  std::span<const std::byte> span() const { return {data_.get(), static_cast<size_t>(bytes_)}; }
  int64_t bytes() const { return bytes_; }

 private:
  std::unique_ptr<std::byte[]> data_;
  int64_t bytes_ = 0;
};

class StateStore {
 public:
  virtual ~StateStore() = default;

  // RESOURCE_EXHAUSTED, naming the limit, when a state of that size would not fit.
  virtual absl::Status CheckRoom(int64_t bytes) const = 0;
  // Keeps the state of a session that has none here. RESOURCE_EXHAUSTED as CheckRoom.
  virtual absl::Status Put(uint64_t session_id, StateBlob state) = 0;
  // Gives the state back and forgets it. NOT_FOUND.
  virtual absl::StatusOr<StateBlob> Take(uint64_t session_id) = 0;
  // Forgets the state if there is one.
  virtual void Remove(uint64_t session_id) = 0;

  virtual int64_t state_count() const = 0;
  virtual int64_t bytes() const = 0;
};

// In host memory, at most bytes_max in all.
class MemoryStateStore : public StateStore {
 public:
  explicit MemoryStateStore(int64_t bytes_max) : bytes_max_(bytes_max) {}

  absl::Status CheckRoom(int64_t bytes) const override;
  absl::Status Put(uint64_t session_id, StateBlob state) override;
  absl::StatusOr<StateBlob> Take(uint64_t session_id) override;
  void Remove(uint64_t session_id) override;
  int64_t state_count() const override { return static_cast<int64_t>(states_.size()); }
  int64_t bytes() const override { return bytes_; }

 private:
  const int64_t bytes_max_;
  int64_t bytes_ = 0;
  std::unordered_map<uint64_t, StateBlob> states_;
};

}  // namespace eddy
