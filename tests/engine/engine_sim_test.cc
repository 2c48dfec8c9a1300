// SPDX-License-Identifier: Apache-2.0
// A seeded life of an engine: submits, cancels, deadlines, slow readers, full queues, failing steps
// and session commands at random, stepped by hand with a clock of its own. After every step the
// invariants hold; every token, text, position and finish reason is the one that the session's own
// history demands. A failure prints its seed.
//   engine_sim_test --seeds=N --first-seed=S      or EDDY_SIM_SEEDS=N
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <map>
#include <random>
#include <set>
#include <string>

#include "tests/support/hand_stepped_engine.h"
#include "tests/support/score_check.h"

namespace eddy {
namespace {

using std::chrono::milliseconds;

int64_t seed_count = 1000;
int64_t first_seed = 0;
constexpr int32_t kVocabulary = 256;
constexpr int32_t kNanToken = 255;

// How often what happened, over all seeds: a simulation in which nothing happens proves nothing.
struct Coverage {
  std::map<std::string, int64_t> counts;
  void Add(const std::string& what, int64_t count = 1) { counts[what] += count; }
};
Coverage coverage;

// One turn as its caller sees it.
struct Client {
  std::shared_ptr<TokenStream> stream;
  TurnRequest request;
  StreamResult result;
  bool slow = false;
  bool ended = false;
  bool settled = false;  // entered into its session's mirror
};

// What a session must hold, told from the streams of its turns alone.
struct Mirror {
  std::vector<int32_t> history;
  bool pending = false;  // the last token of it was generated and not read
  bool unsure = false;   // of `pending`: a turn was cut short before it read any of its prompt
  bool broken = false;   // it has read the token that makes logits NaN
};

// What a turn says if nobody cuts it short.
struct Expected {
  bool invalid = false;
  std::vector<int32_t> tokens;
  std::string text;
  FinishReason reason = FinishReason::kNone;  // kNone: the logits are not finite
};

Expected Foretell(const Mirror& mirror, const TurnRequest& request, const ModelInfo& model,
                  const FakeTokenizer& tokenizer) {
  Expected expected;
  std::vector<int32_t> tokens = Joined(mirror.history, request.prompt);
  const auto contains = [](const std::vector<int32_t>& list, int32_t token) {
    return std::find(list.begin(), list.end(), token) != list.end();
  };
  const auto at_limit = [&] {
    return model.position_max > 0 && static_cast<int64_t>(tokens.size()) >= model.position_max;
  };
  expected.invalid = (request.prompt.empty() && !mirror.pending) || at_limit();
  if (expected.invalid) return expected;
  while (!contains(tokens, kNanToken)) {
    const int32_t token = FakeModel::Continue(tokens, 1, kVocabulary)[0];
    if (!request.stop.ignore_end_of_text && contains(model.end_of_text_ids, token)) {
      expected.reason = FinishReason::kEndOfText;
    } else if (contains(request.stop.token_ids, token)) {
      expected.reason = FinishReason::kStopSequence;
    }
    if (expected.reason != FinishReason::kNone) break;
    tokens.push_back(token);
    expected.tokens.push_back(token);
    expected.text += tokenizer.TokenBytes(token);
    size_t stop_size = 0;
    for (const std::string& stop : request.stop.sequences) {
      if (expected.text.ends_with(stop)) stop_size = std::max(stop_size, stop.size());
    }
    expected.text.resize(expected.text.size() - stop_size);
    if (stop_size > 0) expected.reason = FinishReason::kStopSequence;
    if (expected.reason != FinishReason::kNone) break;
    if (static_cast<int64_t>(expected.tokens.size()) == request.stop.max_tokens || at_limit()) {
      expected.reason = FinishReason::kLength;
      break;
    }
  }
  return expected;
}

class Simulation {
 public:
  explicit Simulation(uint64_t seed)
      : random_(seed),
        options_(RandomOptions()),
        model_options_(RandomModel()),
        engine_(options_, model_options_,
                Chance(50) ? FakeBackend::Stream::kLazy : FakeBackend::Stream::kAtOnce) {
    // Four letters, so that stop sequences and their beginnings come up often.
    for (int32_t token = 0; token < kVocabulary; ++token) {
      engine_.tokenizer.SetBytes(token, std::string(1, static_cast<char>('a' + token % 4)));
    }
  }

  void Run() {
    const int step_count = Pick(20, 150);
    for (int i = 0; i < step_count && !::testing::Test::HasFailure(); ++i) {
      for (int action = Pick(0, 3); action > 0; --action) Act();
      Step();
      engine_.now += milliseconds(Pick(0, 2));
    }
    if (::testing::Test::HasFailure()) return;
    if (Chance(20)) {
      engine_.queue->Close(absl::UnavailableError("closed"), &engine_.arrivals);
      engine_.core->CancelAll(&engine_.arrivals);
    }
    WindDown();
  }

 private:
  int Pick(int low, int high) { return std::uniform_int_distribution<int>(low, high)(random_); }
  bool Chance(int percent) { return Pick(1, 100) <= percent; }

  EngineOptions RandomOptions() {
    EngineOptions options;
    options.slot_count = Pick(1, 5);
    options.batch_row_count_max = Pick(1, 6);
    options.batch_token_count_max = Pick(1, 24);
    options.prefill_chunk_token_count = Pick(1, 10);
    options.prefill_beside_decode_token_count = Pick(1, 10);
    options.submit_queue_capacity = Pick(1, 10);
    options.batch_score_count_max = Pick(1, 8);
    options.session_turn_count_max = Pick(1, 3);
    options.stream_capacity = Pick(1, 6);
    options.session_count_max = Pick(1, 8);
    options.host_state_bytes_max = Pick(0, 8) * 512;
    options.reader_stall_max = milliseconds(Pick(5, 60));
    return options;
  }

  FakeModelOptions RandomModel() {
    FakeModelOptions options;
    options.vocabulary_size = kVocabulary;
    options.position_max = Chance(20) ? Pick(10, 80) : 0;
    options.end_of_text_ids = {1, 2, 3, 4, 5, 6, 7};
    options.nan_token = kNanToken;
    options.state_float_count = Pick(1, 100);
    return options;
  }

  void Act() {
    const int what = Pick(1, 1000);
    if (what <= 650) {
      Submit();
    } else if (what <= 780) {
      CancelOne();
    } else if (what <= 870) {
      CreateOne();
    } else if (what <= 930) {
      DeleteOne();
    } else if (what <= 999) {
      engine_.now += milliseconds(Pick(0, 20));
    } else {
      engine_.backend->FailSynchronize(Pick(1, 3));
      coverage.Add("lost device");
    }
  }

  // Six names, or none.
  std::string SomeName() {
    return Chance(40) ? "" : std::string(1, static_cast<char>('a' + Pick(0, 5)));
  }

  TurnRequest SomeRequest() {
    TurnRequest request = MakeRequest({}, Pick(1, 12), SomeName());
    const bool named = !request.session_name.empty();
    for (int i = Pick(named ? 0 : 1, 20); i > 0; --i) request.prompt.push_back(Pick(0, 254));
    if (Chance(2)) request.prompt.push_back(kNanToken);
    request.create_session = named && Chance(80);
    request.stop.ignore_end_of_text = Chance(30);
    if (Chance(20)) request.stop.token_ids = {Pick(0, 254), Pick(0, 254)};
    for (int i = Chance(25) ? Pick(1, 3) : 0; i > 0; --i) {
      std::string& sequence = request.stop.sequences.emplace_back();
      for (int length = Pick(1, 4); length > 0; --length) {
        sequence.push_back(static_cast<char>('a' + Pick(0, 3)));
      }
    }
    if (Chance(20)) request.deadline = engine_.now + milliseconds(Pick(0, 40));
    request.scores = !named && request.prompt.size() <= 10 && Chance(60);  // within position_max
    if (request.scores) request.alternative_count = Pick(0, 2) * Pick(0, 128);
    return request;
  }

  void Submit() {
    TurnRequest request = SomeRequest();
    auto stream = engine_.Submit(request);
    const bool full = waiting_outside_ + pushed_count_ >= options_.submit_queue_capacity;
    EXPECT_EQ(stream.ok(), !full);
    if (!stream.ok()) {
      EXPECT_EQ(stream.status().code(), absl::StatusCode::kResourceExhausted);
      coverage.Add("full queue");
      return;
    }
    ++pushed_count_;
    if (!request.session_name.empty()) by_name_[request.session_name].push_back(clients_.size());
    Client& client = clients_.emplace_back();
    client.stream = *stream;
    client.request = std::move(request);
    client.slow = Chance(25);
  }

  void CancelOne() {
    if (clients_.empty()) return;
    clients_[static_cast<size_t>(Pick(0, static_cast<int>(clients_.size()) - 1))].stream->Cancel();
  }

  void CreateOne() {
    const std::string name = std::string(1, static_cast<char>('a' + Pick(0, 5)));
    EXPECT_TRUE(engine_.queue
                    ->PushCommand([name](EngineCore& core) {
                      const bool existed = core.GetSession(name).ok();
                      const auto created = core.CreateSession(name);
                      if (!core.health().ok()) return;
                      EXPECT_FALSE(existed && created.ok());
                      if (created.ok()) {
                        EXPECT_EQ(created->position, 0);
                      }
                    })
                    .ok());
  }

  void DeleteOne() {
    const std::string name = std::string(1, static_cast<char>('a' + Pick(0, 5)));
    const size_t client_count = clients_.size();
    EXPECT_TRUE(engine_.queue
                    ->PushCommand([this, name, client_count](EngineCore& core) {
                      const absl::Status deleted = core.DeleteSession(name);
                      // Whatever came before has ended, and the next turn begins anew.
                      Settle(name, client_count);
                      if (deleted.ok()) mirrors_.erase(name);
                      if (deleted.ok()) coverage.Add("deleted");
                      EXPECT_FALSE(core.GetSession(name).ok());
                    })
                    .ok());
  }

  void Step() {
    waiting_outside_ = engine_.core->waiting_count() + pushed_count_;
    pushed_count_ = 0;
    std::set<const Turn*> had_slot;
    for (const auto& turn : engine_.core->turns()) {
      if (turn->begun() && turn->target->slot.held()) had_slot.insert(turn.get());
    }
    const TimePoint now = engine_.now;
    engine_.Step();
    for (const auto& turn : engine_.core->turns()) {
      EXPECT_FALSE(turn->stream().cancelled()) << "a cancelled turn lives on";
      EXPECT_GT(turn->request().deadline.value_or(TimePoint::max()), now);
      EXPECT_TRUE(!had_slot.contains(turn.get()) || turn->target->slot.held() ||
                  turn->target->parked)
          << "a turn that could move has lost its slot";
    }
    for (Client& client : clients_) {
      if (!client.ended && (!client.slow || Chance(10))) Read(client);
    }
    CheckInvariants();
  }

  void Read(Client& client) { client.ended = TakeNow(*client.stream, &client.result); }

  void CheckInvariants() {
    const EngineCore& core = *engine_.core;
    const SessionTable& sessions = core.sessions();
    // Slots used are live sessions with slots, each in one.
    int32_t held_count = 0;
    for (size_t slot = 0; slot < sessions.residents().size(); ++slot) {
      const Session* session = sessions.residents()[slot];
      if (session == nullptr) continue;
      ++held_count;
      EXPECT_EQ(session->slot.index(), static_cast<int32_t>(slot));
      EXPECT_EQ(session->slot.generation(), core.pool().generation(session->slot.index()));
      EXPECT_FALSE(session->in_store);
      EXPECT_TRUE(session->active || session->named());
    }
    EXPECT_EQ(held_count + core.pool().free_count(), core.pool().slot_count());
    EXPECT_EQ(core.store().bytes(), core.store().state_count() * core.pool().state_bytes());
    EXPECT_LE(core.store().bytes(), options_.host_state_bytes_max);
    EXPECT_LE(sessions.named_count(), options_.session_count_max);
    std::set<const Session*> active;
    for (const auto& turn : core.turns()) {
      EXPECT_FALSE(turn->ended());
      EXPECT_GE(turn->target->open_turn_count, 1);
      if (!turn->begun()) continue;
      EXPECT_TRUE(turn->target->active);
      EXPECT_TRUE(active.insert(turn->target).second) << "two turns of one session at once";
    }
    EXPECT_LE(core.turn_count(), options_.submit_queue_capacity + options_.slot_count);
    EXPECT_EQ(engine_.metrics.requests_running.value() + engine_.metrics.requests_waiting.value(),
              core.turn_count());
  }

  // Readers read, time goes on, and nothing is left behind.
  void WindDown() {
    for (int i = 0; i < 5000 && (engine_.core->turn_count() > 0 || !engine_.queue->empty()); ++i) {
      for (Client& client : clients_) client.slow = false;
      Step();
    }
    EXPECT_EQ(engine_.core->turn_count(), 0) << "a turn hangs";
    for (auto& [name, indices] : by_name_) Settle(name, clients_.size());
    for (Client& client : clients_) {
      if (!client.ended) Read(client);
      EXPECT_TRUE(client.ended) << "a stream never ended";
      if (client.request.session_name.empty()) {
        Mirror empty;
        CheckClient(client, &empty);
      }
    }
    const SessionTable& sessions = engine_.core->sessions();
    EXPECT_EQ(sessions.session_count(), sessions.named_count()) << "an unnamed session is left";
    const std::vector<SessionInfo> infos = sessions.List("", 100);
    EXPECT_EQ(
        std::count_if(infos.begin(), infos.end(),
                      [](const auto& info) { return info.state == SessionInfo::State::kEvicted; }),
        engine_.core->store().state_count());
    for (const auto& [name, mirror] : mirrors_) {
      const absl::StatusOr<SessionInfo> info = engine_.core->GetSession(name);
      if (!info.ok() || mirror.broken || !engine_.core->health().ok()) continue;
      EXPECT_EQ(info->position, static_cast<int64_t>(mirror.history.size())) << name;
    }
    coverage.Add("turns", static_cast<int64_t>(clients_.size()));
    coverage.Add("parked", engine_.metrics.stream_parked.value());
    coverage.Add("moved out", engine_.metrics.state_move_out.bucket_count(0));
    coverage.Add("moved in", engine_.metrics.state_move_in.bucket_count(0));
    coverage.Add("reused tokens", engine_.metrics.prefix_reuse_tokens.value());
  }

  // Enters the turns of a session, in order, up to a client into its mirror; they have ended.
  void Settle(const std::string& name, size_t client_count) {
    for (const size_t i : by_name_[name]) {
      Client& client = clients_[i];
      if (i >= client_count || client.settled) continue;
      client.settled = true;
      if (!client.ended) Read(client);
      EXPECT_TRUE(client.ended) << "session " << name;
      CheckClient(client, &mirrors_[name]);
    }
  }

  void CheckClient(const Client& client, Mirror* mirror);
  void CheckCut(const Client& client, const Expected& expected);
  void Remember(const Client& client, Mirror* mirror);

  std::mt19937_64 random_;
  const EngineOptions options_;
  const FakeModelOptions model_options_;
  HandSteppedEngine engine_;
  std::vector<Client> clients_;
  std::map<std::string, std::vector<size_t>> by_name_;  // indices of clients
  std::map<std::string, Mirror> mirrors_;
  int32_t waiting_outside_ = 0;  // as the queue knows it
  int32_t pushed_count_ = 0;     // since
};

void Simulation::CheckClient(const Client& client, Mirror* mirror) {
  const StreamResult& result = client.result;
  const absl::Status& health = engine_.core->health();
  coverage.Add(result.status.ok()
                   ? "finished " + std::to_string(static_cast<int>(result.finish_reason))
                   : std::string(absl::StatusCodeToString(result.status.code())));
  if (client.request.scores) {
    return ExpectScores(client.request, result, kVocabulary, health.ok() ? kNanToken : -1);
  }
  EXPECT_EQ(result.status.ok(), result.finish_reason != FinishReason::kNone);
  EXPECT_EQ(result.status.ok(), result.usage.has_value());
  // One that never began: refused, cancelled or too late.
  const bool begun =
      result.usage.has_value() ? result.usage->prompt_tokens > 0 : !result.tokens.empty();
  const absl::StatusCode code = result.status.code();
  const auto history_size = static_cast<int64_t>(mirror->history.size());
  if (mirror->unsure) {
    if (begun && result.usage.has_value())
      mirror->pending = result.usage->reused_tokens < history_size;
    if (code == absl::StatusCode::kInvalidArgument) mirror->pending = false;
  }
  const Expected expected =
      Foretell(*mirror, client.request, engine_.core->model().info(), engine_.tokenizer);
  if (mirror->broken || expected.invalid) {
    EXPECT_FALSE(begun);
    EXPECT_TRUE(result.tokens.empty());
    return;
  }
  EXPECT_NE(code, absl::StatusCode::kInvalidArgument) << result.status;
  for (size_t i = 0; i < result.positions.size(); ++i) {
    EXPECT_EQ(result.positions[i],
              static_cast<int64_t>(mirror->history.size() + client.request.prompt.size() + i));
  }
  CheckCut(client, expected);
  if (begun && result.usage.has_value()) {
    EXPECT_EQ(result.usage->reused_tokens, history_size - (mirror->pending ? 1 : 0));
    EXPECT_EQ(result.usage->prompt_tokens,
              history_size + static_cast<int64_t>(client.request.prompt.size()));
    EXPECT_EQ(result.usage->generated_tokens, static_cast<int64_t>(result.tokens.size()));
  }
  const bool nan = code == absl::StatusCode::kInternal && health.ok();
  if (nan) {
    EXPECT_EQ(expected.reason, FinishReason::kNone);
    EXPECT_EQ(result.tokens, expected.tokens);
    mirror->broken = true;
  } else if (begun) {
    Remember(client, mirror);
  }
}

// Whole when it finished by itself, a beginning of it when something cut it short: then with all
// text of its tokens, but for an error, which leaves out what was held back.
void Simulation::CheckCut(const Client& client, const Expected& expected) {
  const StreamResult& result = client.result;
  std::string token_text;
  for (const int32_t token : result.tokens) token_text += engine_.tokenizer.TokenBytes(token);
  switch (result.finish_reason) {
    case FinishReason::kEndOfText:
    case FinishReason::kStopSequence:
    case FinishReason::kLength:
    case FinishReason::kScored:
      EXPECT_EQ(result.finish_reason, expected.reason);
      EXPECT_EQ(result.tokens, expected.tokens);
      EXPECT_EQ(result.text, expected.text);
      return;
    case FinishReason::kCancelled:
    case FinishReason::kDeadline:
    case FinishReason::kNone:
      ASSERT_LE(result.tokens.size(), expected.tokens.size());
      EXPECT_TRUE(std::equal(result.tokens.begin(), result.tokens.end(), expected.tokens.begin()));
      EXPECT_TRUE(token_text.starts_with(result.text));
      EXPECT_TRUE(!result.status.ok() || token_text == result.text);
      return;
  }
}

void Simulation::Remember(const Client& client, Mirror* mirror) {
  const StreamResult& result = client.result;
  const std::vector<int32_t>& prompt = client.request.prompt;
  size_t read_count = prompt.size();
  if (result.tokens.empty() && result.usage.has_value()) {
    read_count = static_cast<size_t>(result.last_position) - mirror->history.size();
  }
  ASSERT_LE(read_count, prompt.size());
  mirror->history.insert(mirror->history.end(), prompt.begin(),
                         prompt.begin() + static_cast<std::ptrdiff_t>(read_count));
  mirror->history = Joined(mirror->history, result.tokens);
  const bool stop_token_came =
      result.finish_reason == FinishReason::kEndOfText ||
      (result.finish_reason == FinishReason::kStopSequence &&
       (result.tokens.empty() || result.last_position > result.positions.back()));
  const bool cut_at_once = result.tokens.empty() && read_count == 0 && !stop_token_came;
  mirror->unsure = cut_at_once && mirror->pending;
  if (!cut_at_once) mirror->pending = !result.tokens.empty() && !stop_token_came;
}

TEST(EngineSimulation, LivesAsTheModelDemands) {
  for (int64_t i = 0; i < seed_count; ++i) {
    const auto seed = static_cast<uint64_t>(first_seed + i);
    SCOPED_TRACE("engine_sim_test --seeds=1 --first-seed=" + std::to_string(seed));
    Simulation(seed).Run();
    if (HasFailure()) return;
  }
  for (const auto& [what, count] : coverage.counts) std::cout << what << ": " << count << "\n";
  if (seed_count < 200) return;
  for (int i = 1; i <= 6; ++i) EXPECT_GT(coverage.counts["finished " + std::to_string(i)], 10);
  for (const char* what : {"turns", "parked", "moved out", "moved in", "reused tokens", "deleted",
                           "full queue", "lost device", "INTERNAL", "NOT_FOUND", "INVALID_ARGUMENT",
                           "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "UNAVAILABLE"}) {
    EXPECT_GT(coverage.counts[what], 10) << what;
  }
}

}  // namespace
}  // namespace eddy

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  if (const char* seeds = std::getenv("EDDY_SIM_SEEDS")) eddy::seed_count = std::atoll(seeds);
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    if (flag.starts_with("--seeds=")) eddy::seed_count = std::atoll(flag.c_str() + 8);
    if (flag.starts_with("--first-seed=")) eddy::first_seed = std::atoll(flag.c_str() + 13);
  }
  return RUN_ALL_TESTS();
}
