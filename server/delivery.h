// SPDX-License-Identifier: Apache-2.0
// Delivery: the thread that carries what the step thread has made to gRPC.
//
// A gRPC write serializes, may do the system calls of every call on its connection, and takes
// gRPC's locks. None of that belongs on the step thread, which only posts here: a short lock and no
// allocation once warm. The queue is bounded by the number of calls: each has at most a few posts
// outstanding (a turnstile turns repeated ones into nothing).
#pragma once

#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace eddy {

class Deliverable {
 public:
  virtual ~Deliverable() = default;
  // On the delivery thread: must not block.
  virtual void Deliver() = 0;
};

class Delivery {
 public:
  Delivery();
  // Delivers what was posted, then ends the thread. Nobody may post any more.
  ~Delivery();
  Delivery(const Delivery&) = delete;
  Delivery& operator=(const Delivery&) = delete;

  // Any thread; in order of posting.
  void Post(std::shared_ptr<Deliverable> item);
  // The same for an answer that comes once.
  void Post(std::function<void()> work);

 private:
  void Run();

  absl::Mutex mutex_;
  std::vector<std::shared_ptr<Deliverable>> posted_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace eddy
