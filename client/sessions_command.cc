// SPDX-License-Identifier: Apache-2.0
#include "client/sessions_command.h"

#include <google/protobuf/util/time_util.h>

#include <cctype>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "client/connection_flags.h"
#include "client/failure.h"
#include "client/json_line.h"
#include "client/sampling_flags.h"
#include "client/table.h"

namespace eddy {
namespace {

constexpr char kExamples[] = R"(Examples:
  eddy sessions                       all of them, by name
  eddy sessions create anna
  eddy sessions get anna --json
  eddy sessions delete anna

A session keeps what it has read and said as a state of constant size; eddy generate --session NAME
continues it. --server and --json go with every one of these.)";

struct SessionsFlags {
  std::string name;
  std::string model;
  uint32_t page_size = 0;
  bool json = false;
};

std::string StateWord(v1::Session::State state) {
  std::string word = v1::Session::State_Name(state);
  constexpr char kPrefix[] = "STATE_";
  if (word.rfind(kPrefix, 0) != 0) {
    return "state " + std::to_string(static_cast<int>(state));
  }
  word.erase(0, sizeof(kPrefix) - 1);
  for (char& c : word) {
    c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  return word;
}

int PrintSessions(const std::vector<v1::Session>& sessions, bool json, Console& console) {
  if (json) {
    for (const v1::Session& session : sessions) {
      console.out << JsonLine(session) << '\n';
    }
    console.out << std::flush;
    return kExitOk;
  }
  std::vector<std::vector<std::string>> rows = {
      {"NAME", "MODEL", "TOKENS", "TURNS", "STATE", "STATE_BYTES", "CREATED", "LAST_USED"}};
  using google::protobuf::util::TimeUtil;
  for (const v1::Session& session : sessions) {
    rows.push_back({session.name(), session.model(), std::to_string(session.position()),
                    std::to_string(session.turn_count()), StateWord(session.state()),
                    std::to_string(session.state_bytes()),
                    TimeUtil::ToString(session.create_time()),
                    TimeUtil::ToString(session.last_used_time())});
  }
  console.out << FormatTable(rows) << std::flush;
  return kExitOk;
}

int RunCreate(const SessionsFlags& flags, CommandContext& context) {
  v1::CreateSessionRequest request;
  request.set_name(flags.name);
  request.set_model(flags.model);
  v1::Session session;
  const grpc::Status status = Client(MakeClientOptions(context)).CreateSession(request, &session);
  return status.ok() ? PrintSessions({session}, flags.json, context.console)
                     : ReportFailure(context.console, status, context.server);
}

int RunGet(const SessionsFlags& flags, CommandContext& context) {
  v1::Session session;
  const grpc::Status status = Client(MakeClientOptions(context)).GetSession(flags.name, &session);
  return status.ok() ? PrintSessions({session}, flags.json, context.console)
                     : ReportFailure(context.console, status, context.server);
}

int RunList(const SessionsFlags& flags, CommandContext& context) {
  std::vector<v1::Session> sessions;
  const grpc::Status status =
      Client(MakeClientOptions(context)).ListSessions(flags.page_size, &sessions);
  return status.ok() ? PrintSessions(sessions, flags.json, context.console)
                     : ReportFailure(context.console, status, context.server);
}

int RunDelete(const SessionsFlags& flags, CommandContext& context) {
  const grpc::Status status = Client(MakeClientOptions(context)).DeleteSession(flags.name);
  return status.ok() ? kExitOk : ReportFailure(context.console, status, context.server);
}

}  // namespace

void AddSessionsCommand(CLI::App& app, CommandContext& context) {
  const auto flags = std::make_shared<SessionsFlags>();
  CLI::App* const group = app.add_subcommand("sessions", "Create, look at and delete sessions");
  AddServerFlag(*group, context);
  group->add_flag("--json", flags->json, "Print each session as one line of JSON");
  group->require_subcommand(0, 1);
  group->footer(kExamples);

  const auto add = [&](const char* name, const char* what, auto run) {
    CLI::App* const command = group->add_subcommand(name, what);
    command->fallthrough();
    command->footer("--server and --json as for eddy sessions.");
    command->callback([flags, &context, run] { context.exit_code = run(*flags, context); });
    return command;
  };
  CLI::App* const create = add("create", "Create an empty session and print it", RunCreate);
  create->add_option("name", flags->name, "Its name; default: the server makes one up")
      ->check(CheckUtf8);
  create->add_option("--model", flags->model, "Its model; default: the only one served")
      ->type_name("NAME")
      ->check(CheckUtf8);
  add("get", "Print one session", RunGet)
      ->add_option("name", flags->name, "Its name")
      ->required()
      ->check(CheckUtf8);
  add("list", "Print all sessions by name", RunList)
      ->add_option("--page-size", flags->page_size,
                   "Sessions to ask for at a time [0, 1000]; default 0, the server's choice")
      ->type_name("N");
  add("delete", "Cancel a session's turns and forget it", RunDelete)
      ->add_option("name", flags->name, "Its name")
      ->required()
      ->check(CheckUtf8);
  group->callback([flags, group, &context] {
    if (group->get_subcommands().empty()) {
      context.exit_code = RunList(*flags, context);
    }
  });
}

}  // namespace eddy
