// SPDX-License-Identifier: Apache-2.0
#include "server/metrics_page.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <map>
#include <regex>
#include <sstream>
#include <string>

#include "tests/server/server_fixture.h"

namespace eddy {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::Key;

// The body of http://ADDRESS/metrics.
std::string Fetch(const std::string& address) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in to = {};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<uint16_t>(std::stoi(address.substr(address.rfind(':') + 1))));
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof(to)), 0);
  const std::string request = "GET /metrics HTTP/1.0\r\n\r\n";
  EXPECT_EQ(write(fd, request.data(), request.size()), static_cast<ssize_t>(request.size()));
  std::string answer;
  char buffer[4096];
  for (ssize_t n = 0; (n = read(fd, buffer, sizeof(buffer))) > 0;) {
    answer.append(buffer, static_cast<size_t>(n));
  }
  close(fd);
  EXPECT_THAT(answer.substr(0, 20), HasSubstr(" 200 "));
  return answer.substr(answer.find("\r\n\r\n") + 4);
}

struct Scrape {
  std::map<std::string, std::string> types;  // family -> type
  std::map<std::string, double> values;      // name{labels} -> value
};

// Every line must be a comment or a sample.
Scrape Parse(const std::string& page) {
  Scrape scrape;
  std::istringstream lines(page);
  const std::regex sample(R"(([a-z0-9_]+(\{[^}]*\})?) ([-+0-9.eINFna]+))");
  for (std::string line; std::getline(lines, line);) {
    std::smatch match;
    if (line.rfind("# TYPE ", 0) == 0) {
      const size_t blank = line.find(' ', 7);
      scrape.types[line.substr(7, blank - 7)] = line.substr(blank + 1);
    } else if (line.rfind("# HELP ", 0) == 0) {
      EXPECT_GT(line.size(), line.find(' ', 7) + 5) << line;
    } else if (std::regex_match(line, match, sample)) {
      // The exposer adds some of its own.
      if (line.rfind("exposer_", 0) == 0) continue;
      EXPECT_EQ(line.rfind("eddy_", 0), 0u) << line;
      EXPECT_THAT(line, HasSubstr("model_name=\"fake\""));
      scrape.values[match[1]] = std::stod(match[3]);
    } else {
      ADD_FAILURE() << "not a Prometheus line: " << line;
    }
  }
  return scrape;
}

TEST(MetricsPageTest, HasEveryFamily) {
  ServedEngine served(Transport::kInProcess, SmallEngine(), {}, ServerOptions());
  const Scrape scrape = Parse(Fetch(served.server->metrics_address()));
  for (const char* name :
       {"num_requests_running", "num_requests_waiting", "state_pool_slots",
        "state_pool_usage_ratio", "state_bytes", "sessions", "build_info", "model_info"}) {
    EXPECT_EQ(scrape.types.count(std::string("eddy_") + name), 1u) << name;
    EXPECT_EQ(scrape.types.at(std::string("eddy_") + name), "gauge");
  }
  for (const char* name : {"prompt_tokens_total", "generation_tokens_total", "scored_tokens_total",
                           "prefix_reuse_tokens_total", "request_success_total",
                           "request_failure_total", "stream_parked_total"}) {
    ASSERT_EQ(scrape.types.count(std::string("eddy_") + name), 1u) << name;
    EXPECT_EQ(scrape.types.at(std::string("eddy_") + name), "counter");
  }
  for (const char* name :
       {"time_to_first_token_seconds", "inter_token_latency_seconds", "request_queue_time_seconds",
        "request_prefill_time_seconds", "request_decode_time_seconds",
        "e2e_request_latency_seconds", "step_time_seconds", "batch_rows", "iteration_tokens_total",
        "state_move_seconds"}) {
    ASSERT_EQ(scrape.types.count(std::string("eddy_") + name), 1u) << name;
    EXPECT_EQ(scrape.types.at(std::string("eddy_") + name), "histogram");
  }
  EXPECT_EQ(
      scrape.values.at(R"(eddy_state_pool_slots{tier="pool",state="free",model_name="fake"})"), 4);
  EXPECT_EQ(scrape.values.at(R"(eddy_state_bytes{tier="pool",model_name="fake"})"),
            static_cast<double>(4 * served.engine->state_bytes()));
}

TEST(MetricsPageTest, CountsWhatHappened) {
  ServedEngine served(Transport::kInProcess, SmallEngine(), {}, ServerOptions());
  ASSERT_TRUE(Generate(*served.generation, GenerateOf({1, 2, 3}, 10, "s")).status.ok());
  v1::GenerateRequest bad = GenerateOf({1}, 10);
  bad.set_model("gpt");
  EXPECT_FALSE(Generate(*served.generation, bad).status.ok());
  bad = GenerateOf({64}, 10);
  EXPECT_FALSE(Generate(*served.generation, bad).status.ok());
  bad = GenerateOf({1}, 10, "nobody");
  bad.set_create_session(false);
  EXPECT_FALSE(Generate(*served.generation, bad).status.ok());

  const Scrape scrape = Parse(Fetch(served.server->metrics_address()));
  const auto value = [&](const std::string& name, const std::string& labels = "") {
    const std::string key = "eddy_" + name + "{" + labels + "model_name=\"fake\"}";
    EXPECT_THAT(scrape.values, Contains(Key(key)));
    return scrape.values.count(key) == 0 ? -1 : scrape.values.at(key);
  };
  EXPECT_EQ(value("generation_tokens_total"), 10);
  EXPECT_GE(value("prompt_tokens_total"), 3);
  EXPECT_EQ(value("request_success_total", R"(finished_reason="length",)"), 1);
  EXPECT_EQ(value("request_success_total", R"(finished_reason="deadline",)"), 0);
  // Two unknown names: one refused by the service, one by the engine.
  EXPECT_EQ(value("request_failure_total", R"(code="NOT_FOUND",)"), 2);
  EXPECT_EQ(value("request_failure_total", R"(code="INVALID_ARGUMENT",)"), 1);
  EXPECT_EQ(value("time_to_first_token_seconds_count"), 1);
  EXPECT_EQ(value("inter_token_latency_seconds_count"), 9);
  EXPECT_GT(value("e2e_request_latency_seconds_sum"), 0);
  EXPECT_EQ(
      scrape.values.at(R"(eddy_time_to_first_token_seconds_bucket{model_name="fake",le="+Inf"})"),
      1);
  EXPECT_EQ(value("sessions", R"(state="resident",)"), 1);
  EXPECT_EQ(value("state_pool_slots", R"(tier="pool",state="idle",)"), 1);
}

}  // namespace
}  // namespace eddy
