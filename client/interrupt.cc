// SPDX-License-Identifier: Apache-2.0
#include "client/interrupt.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdint>
#include <utility>

#include "client/console.h"

namespace eddy {
namespace {

// A signal handler reaches nothing but statics, and only lock-free ones are safe in it.
std::atomic<int> signal_wake_fd{-1};
std::atomic<bool> scope_lives{false};
std::atomic<int> signal_count{0};
static_assert(std::atomic<int>::is_always_lock_free && std::atomic<bool>::is_always_lock_free);

constexpr uint64_t kWakeForSignal = 1;
// Larger than any count of signals that can add up before the thread reads.
constexpr uint64_t kWakeForEnd = uint64_t{1} << 32;

void OnSignal(int) {
  if (!scope_lives.load() || signal_count.fetch_add(1) > 0) {
    _exit(kExitInterrupted);
  }
  const ssize_t written = write(signal_wake_fd.load(), &kWakeForSignal, sizeof(kWakeForSignal));
  if (written < 0) {
    _exit(kExitInterrupted);
  }
}

}  // namespace

Interrupt::Interrupt() : wake_fd_(eventfd(0, EFD_CLOEXEC)) {
  signal_wake_fd.store(wake_fd_);
  thread_ = std::thread([this] { HandleSignals(); });
  struct sigaction before = {};
  sigaction(SIGINT, nullptr, &before);
  if (before.sa_handler != SIG_IGN) {
    struct sigaction action = {};
    action.sa_handler = OnSignal;
    action.sa_flags = SA_RESTART;
    sigaction(SIGINT, &action, nullptr);
  }
}

Interrupt::~Interrupt() {
  struct sigaction before = {};
  sigaction(SIGINT, nullptr, &before);
  if (before.sa_handler == OnSignal) {
    std::signal(SIGINT, SIG_DFL);
  }
  while (write(wake_fd_, &kWakeForEnd, sizeof(kWakeForEnd)) < 0) {
  }
  thread_.join();
  close(wake_fd_);
}

void Interrupt::HandleSignals() {
  while (true) {
    uint64_t wakes = 0;
    if (read(wake_fd_, &wakes, sizeof(wakes)) < 0) {
      continue;
    }
    if (wakes >= kWakeForEnd) {
      return;
    }
    const std::lock_guard lock(mutex_);
    // A count of 0: the signal was meant for a scope that has ended since.
    if (handler_ && signal_count.load() > 0) {
      handler_();
    }
  }
}

Interrupt::Scope::Scope(Interrupt* interrupt, std::function<void()> handler)
    : interrupt_(interrupt) {
  if (interrupt_ == nullptr) {
    return;
  }
  const std::lock_guard lock(interrupt_->mutex_);
  // Before the thread can see the handler: it may yet wake for a signal of the scope before.
  signal_count.store(0);
  interrupt_->handler_ = std::move(handler);
  scope_lives.store(true);
}

Interrupt::Scope::~Scope() {
  if (interrupt_ == nullptr) {
    return;
  }
  scope_lives.store(false);
  const std::lock_guard lock(interrupt_->mutex_);
  interrupt_->handler_ = nullptr;
}

bool Interrupt::Scope::interrupted() const {
  return interrupt_ != nullptr && signal_count.load() > 0;
}

}  // namespace eddy
