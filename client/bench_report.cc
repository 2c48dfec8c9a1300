// SPDX-License-Identifier: Apache-2.0
#include "client/bench_report.h"

#include <nlohmann/json.hpp>
#include <vector>

#include "client/table.h"

namespace eddy {
namespace {

double PerSecond(int64_t count, const LoadResult& result) {
  return result.elapsed_s > 0 ? static_cast<double>(count) / result.elapsed_s : 0;
}

std::vector<std::string> DurationRow(const char* name, const Samples& samples) {
  const SampleSummary summary = samples.Summarize();
  return {name,
          std::to_string(summary.count),
          FormatNumber(summary.mean, 2),
          FormatNumber(summary.p50, 2),
          FormatNumber(summary.p90, 2),
          FormatNumber(summary.p99, 2),
          FormatNumber(summary.max, 2)};
}

nlohmann::ordered_json DurationObject(const Samples& samples) {
  const SampleSummary summary = samples.Summarize();
  return {{"count", summary.count}, {"mean", summary.mean}, {"p50", summary.p50},
          {"p90", summary.p90},     {"p99", summary.p99},   {"max", summary.max}};
}

std::string CountsByName(const std::map<std::string, int64_t>& counts) {
  std::string text;
  for (const auto& [name, count] : counts) {
    text += (text.empty() ? "" : ", ") + name + " " + std::to_string(count);
  }
  return text;
}

std::string Mode(const BenchSetting& setting) {
  const std::string connections = std::to_string(setting.connection_count) +
                                  (setting.connection_count == 1 ? " connection" : " connections");
  if (setting.load.rate_per_s > 0) {
    return "open loop, " + FormatNumber(setting.load.rate_per_s, 2) +
           " requests/s by a Poisson process, " + connections;
  }
  return "closed loop, " + std::to_string(setting.load.stream_count) + " streams, " + connections;
}

}  // namespace

std::string FormatBenchTable(const BenchSetting& setting, const LoadResult& result) {
  std::string report = Mode(setting) + ", " + FormatNumber(result.elapsed_s, 2) + " s\n\n";
  report += FormatTable({{"milliseconds", "count", "mean", "p50", "p90", "p99", "max"},
                         DurationRow("time to first token", result.time_to_first_token_ms),
                         DurationRow("between tokens", result.inter_token_ms),
                         DurationRow("between messages", result.message_gap_ms),
                         DurationRow("end to end", result.end_to_end_ms)});
  report += "\nrequests  " + std::to_string(result.finished()) + " finished (" +
            FormatNumber(PerSecond(result.finished(), result), 2) + "/s)";
  if (!result.finished_by_reason.empty()) {
    report += ": " + CountsByName(result.finished_by_reason);
  }
  if (result.cut > 0) {
    report += "; " + std::to_string(result.cut) + " cut when the run ended";
  }
  if (result.not_sent > 0) {
    report += "; " + std::to_string(result.not_sent) + " not sent, too many were running";
  }
  report += "\n";
  for (const auto& [code, count] : result.failed_by_code) {
    report += "failed    " + std::to_string(count) + " " + code +
              ", the first: " + result.failure_by_code.at(code) + "\n";
  }
  report += "tokens    " + std::to_string(result.generated_tokens) +
            " generated: " + FormatNumber(PerSecond(result.generated_tokens, result), 1) +
            " tokens/s; " + std::to_string(result.prompt_tokens) + " in prompts\n";
  return report;
}

std::string FormatBenchJson(const BenchSetting& setting, const LoadResult& result) {
  const bool open_loop = setting.load.rate_per_s > 0;
  nlohmann::ordered_json report;
  report["mode"] = open_loop ? "open" : "closed";
  if (open_loop) {
    report["rate_per_s"] = setting.load.rate_per_s;
  } else {
    report["stream_count"] = setting.load.stream_count;
  }
  report["connection_count"] = setting.connection_count;
  report["max_tokens"] = setting.max_tokens;
  report["seed"] = setting.load.seed;
  report["elapsed_s"] = result.elapsed_s;
  report["requests_started"] = result.started;
  report["requests_finished"] = result.finished();
  report["requests_cut"] = result.cut;
  report["requests_not_sent"] = result.not_sent;
  report["finished_by_reason"] = result.finished_by_reason;
  report["failed_by_code"] = result.failed_by_code;
  report["requests_per_s"] = PerSecond(result.finished(), result);
  report["prompt_tokens"] = result.prompt_tokens;
  report["generated_tokens"] = result.generated_tokens;
  report["generated_tokens_per_s"] = PerSecond(result.generated_tokens, result);
  report["time_to_first_token_ms"] = DurationObject(result.time_to_first_token_ms);
  report["inter_token_ms"] = DurationObject(result.inter_token_ms);
  report["message_gap_ms"] = DurationObject(result.message_gap_ms);
  report["end_to_end_ms"] = DurationObject(result.end_to_end_ms);
  return report.dump();
}

}  // namespace eddy
