// SPDX-License-Identifier: Apache-2.0
// The plain double-precision twin of Backend::Sample: sorts everything, sums in double.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cpu/philox.h"

namespace eddy::reference {

// The logits after penalties, biases and bans.
inline std::vector<float> Penalised(std::vector<float> logits, const SampleRow& row) {
  for (const TokenCount& seen : row.seen) {
    float& logit = logits[static_cast<size_t>(seen.token)];
    logit = logit > 0 ? logit / row.repetition_penalty : logit * row.repetition_penalty;
    logit -= row.presence_penalty;
    logit -= row.frequency_penalty * static_cast<float>(seen.count);
  }
  for (const LogitBias& bias : row.biases) logits[static_cast<size_t>(bias.token)] += bias.bias;
  for (const int32_t token : row.banned) logits[static_cast<size_t>(token)] = -INFINITY;
  return logits;
}

// Tokens by falling logit, ties by the lower id; none of -inf.
inline std::vector<int32_t> Ranked(const std::vector<float>& logits) {
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)];
  });
  std::erase_if(order, [&](int32_t t) { return logits[static_cast<size_t>(t)] == -INFINITY; });
  return order;
}

inline std::vector<double> LogProbs(const std::vector<float>& logits) {
  const double max = *std::max_element(logits.begin(), logits.end());
  double sum = 0.0;
  for (const float logit : logits) sum += std::exp(logit - max);
  std::vector<double> out;
  for (const float logit : logits) out.push_back(logit - max - std::log(sum));
  return out;
}

struct Kept {
  int32_t token = 0;
  double probability = 0.0;  // among the kept ones
};

// What temperature, top_k, top_p and min_p leave, by falling probability.
inline std::vector<Kept> KeptTokens(const std::vector<float>& logits, const SampleRow& row) {
  const std::vector<float> penalised = Penalised(logits, row);
  std::vector<int32_t> order = Ranked(penalised);
  if (order.empty()) return {};
  if (row.temperature == 0.0f) return {{order[0], 1.0}};
  if (row.top_k > 0) {
    order.resize(std::min(order.size(), static_cast<size_t>(row.top_k)));
  }
  const float max = penalised[static_cast<size_t>(order[0])];
  std::vector<Kept> kept;
  double total = 0.0;
  for (const int32_t token : order) {
    const float logit = penalised[static_cast<size_t>(token)];
    kept.push_back({token, std::exp((double{logit} - max) / row.temperature)});
    total += kept.back().probability;
  }
  if (row.top_p < 1.0f) {
    double sum = 0.0;
    size_t count = 0;
    while (count < kept.size() && (count == 0 || sum < row.top_p * total)) {
      sum += kept[count++].probability;
    }
    kept.resize(count);
  }
  std::erase_if(kept, [&](const Kept& k) { return k.probability < row.min_p; });
  total = 0.0;
  for (const Kept& k : kept) total += k.probability;
  for (Kept& k : kept) k.probability /= total;
  return kept;
}

inline int32_t Choose(const std::vector<float>& logits, const SampleRow& row) {
  std::vector<Kept> kept = KeptTokens(logits, row);
  if (kept.empty()) return -1;
  std::sort(kept.begin(), kept.end(),
            [](const Kept& a, const Kept& b) { return a.token < b.token; });
  const double u = std::ldexp(static_cast<double>(cpu::RandomBits53(row.seed, row.position)), -53);
  double sum = 0.0;
  for (const Kept& k : kept) {
    sum += k.probability;
    if (sum > u) return k.token;
  }
  return kept.back().token;
}

}  // namespace eddy::reference
