// SPDX-License-Identifier: Apache-2.0
// Ctrl-C: the first asks, the second insists.
#pragma once

#include <functional>
#include <mutex>
#include <thread>

namespace eddy {

// Takes over SIGINT for as long as it lives (unless the process was started with SIGINT ignored).
// At most one lives at a time; main owns it. Without a Scope SIGINT ends the process with exit code
// 130.
class Interrupt {
 public:
  Interrupt();
  ~Interrupt();
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;

  // While a scope lives, the first SIGINT calls its handler, on Interrupt's own thread; a second
  // one ends the process with exit code 130. One scope at a time. Null `interrupt`: does nothing.
  class Scope {
   public:
    Scope(Interrupt* interrupt, std::function<void()> handler);
    // Waits for a handler that runs; none runs afterwards.
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

    // Whether SIGINT came since the scope began.
    bool interrupted() const;

   private:
    Interrupt* const interrupt_;
  };

 private:
  void HandleSignals();

  int wake_fd_;  // Constant after construction.
  std::mutex mutex_;
  std::function<void()> handler_;  // Guarded by mutex_.
  std::thread thread_;
};

}  // namespace eddy
