// SPDX-License-Identifier: Apache-2.0
// eddy-server: flags to options, engine, server; then it waits for a signal.
//
// Exit codes: 0 drained, 1 could not start or lost the device, 2 wrong flags.
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <string>
#include <thread>
#include <utility>

#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "engine/model.h"
#include "engine/tokenizer/chat_template.h"
#include "engine/tokenizer/tokenizer.h"
#include "kernels/status_macros.h"
#include "server/flags.h"
#include "server/load_progress.h"
#include "server/server.h"
#include "server/start_report.h"

namespace eddy {
namespace {

// How often a lost device is looked for.
constexpr timespec kHealthInterval = {.tv_sec = 0, .tv_nsec = 250'000'000};

absl::StatusOr<std::unique_ptr<Model>> Load(const Flags& flags, Backend& backend) {
  LoadProgressLine line(std::cerr, isatty(STDERR_FILENO) == 1, flags.model_folder);
  LoadOptions options = flags.load;
  options.progress = [&line](int64_t done_bytes, int64_t all_bytes) {
    line.Show(done_bytes, all_bytes);
  };
  return LoadModel(flags.model_folder, backend, options);
}

absl::StatusOr<std::unique_ptr<Engine>> MakeEngine(const Flags& flags) {
  EDDY_ASSIGN_OR_RETURN(std::unique_ptr<Backend> backend, MakeBackend(flags.backend));
  EDDY_ASSIGN_OR_RETURN(std::unique_ptr<Model> model, Load(flags, *backend));
  std::shared_ptr<const Tokenizer> tokenizer;
  if (auto loaded = LoadTokenizer(flags.model_folder); loaded.ok()) {
    tokenizer = *std::move(loaded);
  } else if (!absl::IsNotFound(loaded.status())) {
    return loaded.status();
  }
  return Engine::Make(std::move(backend), std::move(model), std::move(tokenizer), flags.engine);
}

int Fail(const absl::Status& status) {
  std::cerr << "eddy-server: " << std::string(status.message()) << "\n";
  return EXIT_FAILURE;
}

// The signals that mean stop, and SIGUSR1 (drained), are blocked in every thread and waited for in
// this one.
sigset_t BlockSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGUSR1);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);
  return signals;
}

// A second signal while the server drains.
[[noreturn]] void StopAtOnce() {
  std::fputs("eddy-server: second signal, stopping at once.\n", stderr);
  std::_Exit(EXIT_FAILURE);
}

void DrainUnlessToldTwice(Server* server, Duration grace, const sigset_t& signals) {
  std::thread drain([server, grace] {
    server->Drain(grace);
    // To the process: the thread that waits is the one that takes it.
    kill(getpid(), SIGUSR1);
  });
  if (int taken = 0; sigwait(&signals, &taken) == 0 && taken != SIGUSR1) StopAtOnce();
  drain.join();
}

int Serve(const Flags& flags, const sigset_t& signals) {
  absl::StatusOr<std::unique_ptr<Engine>> engine = MakeEngine(flags);
  if (!engine.ok()) return Fail(engine.status());
  ServerOptions options = flags.server;
  if ((*engine)->tokenizer() != nullptr) {
    auto chat = ChatTemplate::Load(flags.model_folder, *(*engine)->tokenizer());
    if (!absl::IsNotFound(chat.status())) {
      options.chat_template =
          std::make_shared<const absl::StatusOr<ChatTemplate>>(std::move(chat));
    }
  }
  absl::StatusOr<std::unique_ptr<Server>> server = Server::Start(**engine, options);
  if (!server.ok()) return Fail(server.status());
  std::cerr << StartReport(**engine, flags.server, flags.grace);
  const std::string& metrics = (*server)->metrics_address();
  std::cout << "eddy-server: serving " << (*engine)->model_info().name << " on "
            << (*server)->address()
            << (metrics.empty() ? ", no metrics" : ", metrics on http://" + metrics + "/metrics")
            << std::endl;
  while ((*engine)->healthy()) {
    const int taken = sigtimedwait(&signals, nullptr, &kHealthInterval);
    if (taken != SIGTERM && taken != SIGINT) continue;
    std::cerr << "eddy-server: stopping; running turns have "
              << std::chrono::duration_cast<std::chrono::milliseconds>(flags.grace).count()
              << " ms.\n";
    DrainUnlessToldTwice(server->get(), flags.grace, signals);
    return EXIT_SUCCESS;
  }
  std::cerr << "eddy-server: the device is lost; see the streams' last status. Start again.\n";
  (*server)->Drain(Duration::zero());
  return EXIT_FAILURE;
}

}  // namespace
}  // namespace eddy

int main(int argc, char** argv) {
  eddy::Flags flags;
  if (std::optional<int> code = eddy::ParseFlags(argc, argv, &flags, std::cout, std::cerr)) {
    return *code;
  }
  return eddy::Serve(flags, eddy::BlockSignals());
}
