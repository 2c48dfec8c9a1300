// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/sample.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cpu/philox.h"
#include "kernels/cpu/scalar_math.h"

namespace eddy::cpu {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kWeightOne = 1099511627776.0f;  // 2^40
// Ranges shorter than this are sorted rather than split again.
constexpr int64_t kSortMax = 24;
// Candidates this far below the largest logit (over the temperature) are looked at only when those
// above do not suffice.
constexpr float kDepths[] = {5.0f, 10.0f, kInfinity};

// Falling probability, ties by the lower id: a total order.
bool Before(const Candidate& a, const Candidate& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.token < b.token);
}

// What a row of logits says as it is. Not const: its parts write to the scratch.
class LogitsReader {
 public:
  LogitsReader(const Ops& ops, const float* logits, int64_t vocabulary, SampleScratch& scratch)
      : ops_(ops), logits_(logits), vocabulary_(vocabulary), scratch_(scratch) {}

  // Before all else, and again after a change. False when a logit is NaN or +inf, or none is
  // finite.
  bool FindMax() {
    if (!ops_.block_max(logits_, vocabulary_, scratch_.block_max.data())) return false;
    max_ = *std::max_element(scratch_.block_max.data(), scratch_.block_max.data() + BlockCount());
    return max_ > -kInfinity;
  }

  // The logarithm of the sum of all exp(logit).
  double LogTotal() {
    return max_ + Log(ops_.exp_sum(logits_, vocabulary_, max_, 1.0f, scratch_.exp.data()));
  }

  // The most probable tokens, `count` or as many as there are, most probable first. Good until the
  // scratch is used again.
  std::span<const Candidate> MostProbable(int64_t count) {
    if (count == 0) return {};
    Candidate* candidates = scratch_.candidates.data();
    const int64_t found = KeepLargest(std::min(count, vocabulary_));
    std::sort(candidates, candidates + found, Before);
    return {candidates, static_cast<size_t>(found)};
  }

 protected:
  int64_t BlockCount() const { return (vocabulary_ + kLogitsBlock - 1) / kLogitsBlock; }

  // Gathers the tokens with a logit of at least `floor` (never those of -inf) by rising id; returns
  // their count. Each is written first and counted after: no branch to mispredict, and never past
  // the end.
  int64_t Gather(float floor) {
    Candidate* candidates = scratch_.candidates.data();
    int64_t count = 0;
    for (int64_t block = 0; block < BlockCount(); ++block) {
      if (scratch_.block_max[static_cast<size_t>(block)] < floor) continue;
      const int64_t end = std::min(vocabulary_, (block + 1) * kLogitsBlock);
      for (int64_t i = block * kLogitsBlock; i < end; ++i) {
        candidates[count].logit = logits_[i];
        candidates[count].token = static_cast<int32_t>(i);
        count += logits_[i] >= floor && logits_[i] > -kInfinity ? 1 : 0;
      }
    }
    return count;
  }

  // Leaves the k largest logits in candidates, in any order; returns how many there are.
  int64_t KeepLargest(int64_t k) {
    float floor = -kInfinity;
    if (k <= BlockCount()) {
      // The k-th largest of the blocks' largest is no larger than the k-th largest of all.
      float* selection = scratch_.selection.data();
      std::copy(scratch_.block_max.data(), scratch_.block_max.data() + BlockCount(), selection);
      std::nth_element(selection, selection + (k - 1), selection + BlockCount(),
                       [](float a, float b) { return a > b; });
      floor = selection[k - 1];
    }
    const int64_t count = Gather(floor);
    if (count <= k) return count;
    Candidate* candidates = scratch_.candidates.data();
    std::nth_element(candidates, candidates + k, candidates + count, Before);
    return k;
  }

  const Ops& ops_;
  const float* const logits_;
  const int64_t vocabulary_;
  SampleScratch& scratch_;
  float max_ = 0.0f;
};

// One row's work; holds what the steps share.
class RowSampler : private LogitsReader {
 public:
  RowSampler(const Ops& ops, float* logits, int64_t vocabulary, const SampleRow& row,
             SampleScratch& scratch)
      : LogitsReader(ops, logits, vocabulary, scratch), changing_(logits), row_(row) {}

  void Run(SampleResult& result) {
    result.token = -1;
    result.log_prob = 0.0f;
    result.alternative_count = 0;
    if (!FindMax()) return;
    double log_total = 0.0;
    if (row_.wants_log_prob || row_.alternative_count > 0) {
      log_total = LogTotal();
      SetAlternatives(log_total, result);
    }
    if (Penalise() && !FindMax()) {
      result.alternative_count = 0;
      return;
    }
    result.token = row_.temperature == 0.0f ? Largest() : Draw();
    if (row_.wants_log_prob) {
      result.log_prob = static_cast<float>(ModelsOwnLogit(result.token) - log_total);
    }
  }

 private:
  void SetAlternatives(double log_total, SampleResult& result) {
    for (const Candidate& candidate : MostProbable(row_.alternative_count)) {
      const int32_t i = result.alternative_count++;
      result.alternative_token[i] = candidate.token;
      result.alternative_log_prob[i] = static_cast<float>(candidate.logit - log_total);
    }
  }

  // The logit, about to change.
  float& Changing(int32_t token) {
    scratch_.changed.push_back({changing_[token], token, 0});
    return changing_[token];
  }

  // False when there was nothing to do.
  bool Penalise() {
    scratch_.changed.clear();
    for (const TokenCount& seen : row_.seen) {
      float& logit = Changing(seen.token);
      logit = logit > 0.0f ? logit / row_.repetition_penalty : logit * row_.repetition_penalty;
      logit -= row_.presence_penalty;
      logit -= row_.frequency_penalty * static_cast<float>(seen.count);
    }
    for (const LogitBias& bias : row_.biases) Changing(bias.token) += bias.bias;
    for (const int32_t token : row_.banned) Changing(token) = -kInfinity;
    return !scratch_.changed.empty();
  }

  float ModelsOwnLogit(int32_t token) const {
    for (const Candidate& first : scratch_.changed) {
      if (first.token == token) return first.logit;
    }
    return logits_[token];
  }

  int32_t Largest() const {
    for (int64_t block = 0;; ++block) {
      if (scratch_.block_max[static_cast<size_t>(block)] < max_) continue;
      const float* begin = logits_ + block * kLogitsBlock;
      const float* end = logits_ + vocabulary_;
      return static_cast<int32_t>(std::find(begin, end, max_) - logits_);
    }
  }

  // Sets the weights of the first `count` candidates and returns their sum.
  uint64_t Weigh(int64_t count) {
    uint64_t total = 0;
    for (int64_t i = 0; i < count; ++i) {
      Candidate& candidate = scratch_.candidates[static_cast<size_t>(i)];
      candidate.weight = Weight(candidate.token);
      total += candidate.weight;
    }
    return total;
  }

  uint64_t Weight(int64_t token) const {
    const float exp = scratch_.exp[static_cast<size_t>(token)];
    return static_cast<uint64_t>(static_cast<int64_t>(exp * kWeightOne));
  }

  // The length of the shortest prefix, in order of falling probability, whose weight is at least
  // `target`. The first `count` candidates are rearranged so that the prefix lies in front, its
  // last member at its end.
  int64_t Cut(int64_t count, uint64_t target) {
    Candidate* all = scratch_.candidates.data();
    int64_t begin = 0;
    int64_t end = count;
    uint64_t before = 0;
    while (end - begin > kSortMax) {
      const int64_t middle = begin + (end - begin) / 2;
      std::nth_element(all + begin, all + middle, all + end, Before);
      uint64_t sum = 0;
      for (int64_t i = begin; i < middle; ++i) sum += all[i].weight;
      if (before + sum >= target) {
        end = middle;
      } else {
        before += sum;
        begin = middle;
      }
    }
    std::sort(all + begin, all + end, Before);
    for (int64_t i = begin; i < end; ++i) {
      before += all[i].weight;
      if (before >= target) return i + 1;
    }
    return end;
  }

  static uint64_t ShareOf(uint64_t total, float share) {
    const double part = std::ceil(static_cast<double>(share) * static_cast<double>(total));
    return std::clamp<uint64_t>(static_cast<uint64_t>(std::max(part, 1.0)), 1, total);
  }

  // The first token whose cumulated weight exceeds u * total.
  uint64_t DrawTarget(uint64_t total) const {
    __extension__ using Wide = unsigned __int128;
    const Wide product = static_cast<Wide>(RandomBits53(row_.seed, row_.position)) * total;
    return static_cast<uint64_t>(product >> 53) + 1;
  }

  int32_t Draw() {
    ExpWeightsArgs args;
    args.x = logits_;
    args.block_max = scratch_.block_max.data();
    args.exp = scratch_.exp.data();
    args.block_weight = scratch_.block_weight.data();
    args.count = vocabulary_;
    args.max = max_;
    args.temperature = row_.temperature;
    uint64_t total = ops_.exp_weights(args);
    const bool cuts_k = row_.top_k > 0 && row_.top_k < vocabulary_;
    const bool cuts_p = row_.top_p < 1.0f;
    if (!cuts_k && !cuts_p && row_.min_p == 0.0f) return DrawOfAll(DrawTarget(total));
    Candidate last = {-kInfinity, std::numeric_limits<int32_t>::max(), 0};
    int64_t count = 0;
    if (cuts_k) {
      count = KeepLargest(row_.top_k);
      total = Weigh(count);
      last =
          *std::max_element(scratch_.candidates.data(), scratch_.candidates.data() + count, Before);
    }
    if (cuts_p) {
      const uint64_t share = ShareOf(total, row_.top_p);
      if (!cuts_k) count = GatherEnough(share);
      last = scratch_.candidates[static_cast<size_t>(Cut(count, share) - 1)];
    }
    return DrawOfKept(last);
  }

  // By rising id, from the whole vocabulary.
  int32_t DrawOfAll(uint64_t target) const {
    int64_t block = 0;
    while (target > scratch_.block_weight[static_cast<size_t>(block)]) {
      target -= scratch_.block_weight[static_cast<size_t>(block++)];
    }
    int64_t token = block * kLogitsBlock;
    while (target > Weight(token)) target -= Weight(token++);
    return static_cast<int32_t>(token);
  }

  // By rising id, from the tokens down to `last` in probability that min_p leaves.
  int32_t DrawOfKept(const Candidate& last) {
    Candidate* all = scratch_.candidates.data();
    int64_t count = Gather(last.logit);
    const Candidate* end = std::remove_if(all, all + count, [&](const Candidate& candidate) {
      return Before(last, candidate) ||
             scratch_.exp[static_cast<size_t>(candidate.token)] < row_.min_p;
    });
    count = end - all;
    uint64_t target = DrawTarget(Weigh(count));
    for (int64_t i = 0; i < count; ++i) {
      if (target <= all[i].weight) return all[i].token;
      target -= all[i].weight;
    }
    return Largest();
  }

  // Gathers and weighs the most probable tokens, as many as it takes to reach `target`; returns
  // their count.
  int64_t GatherEnough(uint64_t target) {
    int64_t count = 0;
    for (const float depth : kDepths) {
      count = Gather(max_ - depth * row_.temperature);
      if (Weigh(count) >= target) break;
    }
    return count;
  }

  float* const changing_;  // the logits
  const SampleRow& row_;
};

}  // namespace

void SampleScratch::Reserve(int64_t vocabulary) {
  const auto size = static_cast<size_t>(vocabulary);
  if (exp.size() >= size) return;
  const size_t blocks = (size + kLogitsBlock - 1) / kLogitsBlock;
  exp.resize(size);
  block_max.resize(blocks);
  block_weight.resize(blocks);
  selection.resize(blocks);
  candidates.resize(size);
  changed.reserve(size);
}

void SampleToken(const Ops& ops, float* logits, int64_t vocabulary, const SampleRow& row,
                 SampleScratch& scratch, SampleResult& result) {
  RowSampler(ops, logits, vocabulary, row, scratch).Run(result);
}

void ScoreToken(const Ops& ops, const float* logits, int64_t vocabulary, const ScoreRow& row,
                SampleScratch& scratch, ScoreResult& result) {
  result = ScoreResult();
  LogitsReader reader(ops, logits, vocabulary, scratch);
  if (!reader.FindMax()) return;
  result.is_finite = true;
  const double log_total = reader.LogTotal();
  result.log_prob = static_cast<float>(logits[row.token] - log_total);
  for (const Candidate& candidate :
       reader.MostProbable(static_cast<int64_t>(row.alternatives.size()))) {
    LogitBias& alternative = row.alternatives[static_cast<size_t>(result.alternative_count++)];
    alternative = {candidate.token, static_cast<float>(candidate.logit - log_total)};
  }
}

}  // namespace eddy::cpu
