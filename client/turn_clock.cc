// SPDX-License-Identifier: Apache-2.0
#include "client/turn_clock.h"

#include <cctype>
#include <cstdio>

namespace eddy {

void TurnClock::OnMessage(const v1::GenerateResponse& message, Clock::time_point now) {
  if (message.token_ids_size() == 0) {
    return;
  }
  if (!first_token_) {
    first_token_ = now;
    first_message_token_count_ = message.token_ids_size();
  }
  last_token_ = now;
  token_count_ += message.token_ids_size();
}

std::string TurnClock::Summary(const v1::GenerateResponse& last) const {
  std::string summary = std::to_string(token_count_) + " tokens";
  char figure[64];
  if (token_count_ > first_message_token_count_ && last_token_ > *first_token_) {
    const double seconds = std::chrono::duration<double>(last_token_ - *first_token_).count();
    std::snprintf(figure, sizeof(figure), ", %.1f tokens/s",
                  static_cast<double>(token_count_ - first_message_token_count_) / seconds);
    summary += figure;
  }
  if (first_token_) {
    std::snprintf(figure, sizeof(figure), ", first token after %.1f ms",
                  std::chrono::duration<double, std::milli>(*first_token_ - start_).count());
    summary += figure;
  }
  summary += ", " + FinishReasonWord(last.finish_reason());
  summary += "; prompt " + std::to_string(last.usage().prompt_tokens()) + " tokens, " +
             std::to_string(last.usage().reused_tokens()) + " of them reused";
  return summary;
}

std::string FinishReasonWord(v1::FinishReason reason) {
  std::string word = v1::FinishReason_Name(reason);
  constexpr char kPrefix[] = "FINISH_REASON_";
  if (word.rfind(kPrefix, 0) != 0) {
    return "reason " + std::to_string(static_cast<int>(reason));
  }
  word.erase(0, sizeof(kPrefix) - 1);
  for (char& c : word) {
    c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  }
  return word;
}

}  // namespace eddy
