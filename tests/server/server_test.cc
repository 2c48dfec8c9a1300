// SPDX-License-Identifier: Apache-2.0
#include "server/server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/server/server_fixture.h"

namespace eddy {
namespace {

using testing::HasSubstr;

// grpc.health.v1: HealthCheckRequest { string service = 1 }, HealthCheckResponse { enum status = 1
// }.
RawReply CheckHealth(const std::shared_ptr<grpc::Channel>& channel, const std::string& service) {
  std::string request;
  if (!service.empty()) {
    request = std::string("\x0a") + static_cast<char>(service.size()) + service;
  }
  return CallRaw(channel, "/grpc.health.v1.Health/Check", request);
}
const std::string kServing("\x08\x01", 2);
const std::string kNotServing("\x08\x02", 2);

TEST(ServerTest, HealthIsToldForTheServerAndEveryService) {
  ServedEngine served(Transport::kLoopback);
  for (const char* service : {"", "eddy.v1.Generation", "eddy.v1.Sessions", "eddy.v1.Models"}) {
    const RawReply reply = CheckHealth(served.channel, service);
    EXPECT_TRUE(reply.status.ok()) << service << ": " << reply.status.error_message();
    EXPECT_EQ(reply.bytes, kServing) << service;
  }
  EXPECT_EQ(CheckHealth(served.channel, "eddy.v1.Nothing").status.error_code(),
            grpc::StatusCode::NOT_FOUND);
}

TEST(ServerTest, ReflectionNamesTheServices) {
  ServedEngine served(Transport::kLoopback);
  // ServerReflectionRequest { string list_services = 7 }
  const RawReply reply =
      CallRaw(served.channel, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
              std::string("\x3a\x00", 2));
  EXPECT_TRUE(reply.status.ok()) << reply.status.error_message();
  for (const char* service : {"eddy.v1.Generation", "eddy.v1.Sessions", "eddy.v1.Models"}) {
    EXPECT_THAT(reply.bytes, HasSubstr(service));
  }
}

TEST(ServerTest, PortZeroIsChosenAndTold) {
  ServedEngine served(Transport::kInProcess, SmallEngine(), {}, ServerOptions());
  for (const std::string& address : {served.server->address(), served.server->metrics_address()}) {
    EXPECT_EQ(address.rfind("127.0.0.1:", 0), 0u) << address;
    EXPECT_NE(address, "127.0.0.1:0");
  }
}

TEST(ServerTest, AddressesThatCannotBeHadAreNamed) {
  ServedEngine served(Transport::kInProcess, SmallEngine(), {}, ServerOptions());
  const std::unique_ptr<Engine> engine = MakeFakeEngine(SmallEngine());
  const auto start = [&](const std::string& listen, const std::string& metrics_listen) {
    ServerOptions options;
    options.listen = listen;
    options.metrics_listen = metrics_listen;
    return Server::Start(*engine, options).status();
  };
  absl::Status status = start(served.server->address(), "");
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(served.server->address() + " (--listen)"));
  status = start("127.0.0.1:0", served.server->metrics_address());
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_THAT(std::string(status.message()),
              HasSubstr(served.server->metrics_address() + " (--metrics-listen)"));
  for (const char* bad : {"", "localhost", ":80", "localhost:", "localhost:x", "localhost:65536"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(start(bad, ""))) << bad;
  }
  EXPECT_TRUE(absl::IsInvalidArgument(start("127.0.0.1:0", "nonsense")));
  EXPECT_TRUE(start("127.0.0.1:0", "").ok());
}

TEST(ServerTest, TheMessageLimitHoldsTheLargestPromptInEitherForm) {
  ServerOptions options;
  EngineOptions engine;
  options.prompt_bytes_max = 1000;
  engine.prompt_token_count_max = 10;
  EXPECT_EQ(MessageBytesMax(options, engine), 2000 + (1 << 20));
  engine.prompt_token_count_max = 1000;
  EXPECT_EQ(MessageBytesMax(options, engine), 10'000 + (1 << 20));
  engine.prompt_token_count_max = int64_t{1} << 40;
  EXPECT_EQ(MessageBytesMax(options, engine), (int64_t{1} << 31) - 1);
}

TEST(ServerTest, DrainsRunningTurnsAndRefusesNewOnes) {
  ServedEngine served(Transport::kLoopback);
  served.gate.Close();
  grpc::ClientContext context;
  auto running = served.generation->Generate(&context, GenerateOf({1}, 50));
  grpc::ClientContext idle_context;
  auto idle = served.generation->Converse(&idle_context);
  v1::ConverseRequest open;
  open.mutable_open();
  idle->Write(open);
  served.gate.WaitForStep(1);

  std::thread drain([&] { served.server->Drain(std::chrono::seconds(30)); });
  ASSERT_TRUE(Eventually([&] { return CheckHealth(served.channel, "").bytes == kNotServing; }));
  EXPECT_EQ(CheckHealth(served.channel, "eddy.v1.Generation").bytes, kNotServing);
  v1::ConverseResponse response;
  EXPECT_FALSE(idle->Read(&response));
  EXPECT_EQ(idle->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
  ASSERT_TRUE(Eventually([&] {
    grpc::ClientContext probe_context;
    probe_context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(200));
    auto probe = served.generation->Generate(&probe_context, GenerateOf({2}, 5));
    return ReadRest(probe.get(), probe_context).status.error_code() ==
           grpc::StatusCode::UNAVAILABLE;
  }));
  grpc::ClientContext get_context;
  v1::GetSessionRequest get;
  get.set_name("s");
  v1::Session session;
  EXPECT_EQ(served.sessions->Get(&get_context, get, &session).error_code(),
            grpc::StatusCode::UNAVAILABLE);

  served.gate.Open();
  const CallResult result = ReadRest(running.get(), context);
  EXPECT_TRUE(result.status.ok()) << result.status.error_message();
  EXPECT_EQ(result.finish_reason, v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(result.tokens, FakeModel::Continue({1}, 50));
  drain.join();
}

TEST(ServerTest, TurnsLongerThanTheGraceEndAsCancelled) {
  ServedEngine served(Transport::kLoopback);
  grpc::ClientContext context;
  auto running = served.generation->Generate(&context, GenerateOf({1}, 1'000'000));
  v1::GenerateResponse message;
  ASSERT_TRUE(running->Read(&message));
  CallResult before;
  AddMessage(message, &before);
  std::thread drain([&] { served.server->Drain(std::chrono::milliseconds(50)); });
  const CallResult result = ReadRest(running.get(), context, before);
  drain.join();
  EXPECT_TRUE(result.status.ok()) << result.status.error_message();
  EXPECT_EQ(result.finish_reason, v1::FINISH_REASON_CANCELLED);
}

TEST(ServerTest, GoesAwayWithCallsInFlight) {
  auto served = std::make_unique<ServedEngine>(Transport::kLoopback);
  const std::shared_ptr<grpc::Channel> channel = served->channel;
  auto stub = v1::Generation::NewStub(channel);
  grpc::ClientContext context;
  auto running = stub->Generate(&context, GenerateOf({1}, 1'000'000));
  grpc::ClientContext talk_context;
  auto talk = stub->Converse(&talk_context);
  v1::GenerateResponse message;
  ASSERT_TRUE(running->Read(&message));
  served.reset();
  while (running->Read(&message)) {
  }
  EXPECT_FALSE(running->Finish().ok());
  EXPECT_FALSE(talk->Finish().ok());
}

// One random client: reads little, all or nothing, cancels, half-closes, goes away.
void LiveRandomly(v1::Generation::Stub& stub, std::mt19937* random) {
  const auto chance = [random](uint32_t of) { return static_cast<uint32_t>((*random)() % of); };
  const auto token = static_cast<int32_t>(chance(64));
  const uint32_t token_count = 1 + chance(300);
  grpc::ClientContext context;
  if (chance(4) == 0) {
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(chance(30)));
  }
  if (chance(2) == 0) {
    const std::string session = chance(2) == 0 ? "" : absl::StrCat("s", chance(4));
    auto reader = stub.Generate(&context, GenerateOf({token}, token_count, session));
    v1::GenerateResponse message;
    CallResult result;
    for (uint32_t reads = chance(20); reads > 0 && reader->Read(&message); --reads) {
      AddMessage(message, &result);
    }
    if (chance(2) == 0) context.TryCancel();
    result = ReadRest(reader.get(), context, std::move(result));
    if (result.status.ok()) {
      EXPECT_NE(result.finish_reason, v1::FINISH_REASON_UNSPECIFIED);
    }
    return;
  }
  // A client that waits for words that nobody will say is freed by its deadline.
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(chance(60)));
  auto talk = stub.Converse(&context);
  std::vector<v1::ConverseRequest> script(4);
  script[0].mutable_open();
  *script[1].mutable_append()->mutable_prompt() = GenerateOf({token}, 1).prompt();
  script[2].mutable_generate()->mutable_stop()->set_max_tokens(token_count);
  script[3].mutable_cancel();
  for (const v1::ConverseRequest& request : script) {
    if (chance(8) > 0) talk->Write(request);
  }
  const bool says_done_first = chance(2) == 0;
  if (says_done_first) talk->WritesDone();
  v1::ConverseResponse response;
  for (uint32_t reads = chance(10); reads > 0 && talk->Read(&response); --reads) {
  }
  if (chance(3) == 0) context.TryCancel();
  if (!says_done_first) talk->WritesDone();
  while (talk->Read(&response)) {
  }
  talk->Finish();
}

TEST(ServerTest, RandomClientsLeaveNothingBehind) {
  EngineOptions options = SmallEngine(3);
  options.stream_capacity = 4;
  options.submit_queue_capacity = 6;
  for (const Transport transport : {Transport::kInProcess, Transport::kLoopback}) {
    ServedEngine served(transport, options);
    std::vector<std::thread> clients;
    for (uint32_t i = 0; i < 8; ++i) {
      clients.emplace_back([&served, i] {
        std::mt19937 random(i);
        for (int life = 0; life < 50; ++life) LiveRandomly(*served.generation, &random);
      });
    }
    for (std::thread& client : clients) client.join();
    const EngineMetrics& metrics = served.engine->metrics();
    EXPECT_TRUE(Eventually([&] {
      return metrics.requests_running.value() == 0 && metrics.requests_waiting.value() == 0 &&
             metrics.sessions_resident.value() + metrics.sessions_evicted.value() <= 4;
    }));
    // The server works as on the first day.
    EXPECT_EQ(Generate(*served.generation, GenerateOf({1, 2}, 20)).tokens,
              FakeModel::Continue({1, 2}, 20));
  }
}

}  // namespace
}  // namespace eddy
