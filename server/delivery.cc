// SPDX-License-Identifier: Apache-2.0
#include "server/delivery.h"

#include <utility>

namespace eddy {
namespace {

class OnceWork : public Deliverable {
 public:
  explicit OnceWork(std::function<void()> work) : work_(std::move(work)) {}
  void Deliver() override { work_(); }

 private:
  const std::function<void()> work_;
};

}  // namespace

Delivery::Delivery() : thread_([this] { Run(); }) {}

Delivery::~Delivery() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  thread_.join();
}

void Delivery::Post(std::shared_ptr<Deliverable> item) {
  absl::MutexLock lock(&mutex_);
  posted_.push_back(std::move(item));
}

void Delivery::Post(std::function<void()> work) {
  Post(std::make_shared<OnceWork>(std::move(work)));
}

void Delivery::Run() {
  const auto has_work = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return stopping_ || !posted_.empty();
  };
  // Swapped with the queue, so that both keep their memory.
  std::vector<std::shared_ptr<Deliverable>> taken;
  while (true) {
    {
      absl::MutexLock lock(&mutex_, absl::Condition(&has_work));
      if (posted_.empty()) return;
      taken.swap(posted_);
    }
    for (std::shared_ptr<Deliverable>& item : taken) {
      item->Deliver();
      item.reset();
    }
    taken.clear();
  }
}

}  // namespace eddy
