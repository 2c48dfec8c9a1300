// SPDX-License-Identifier: Apache-2.0
// Choosing a token from a row of logits, and telling how probable one is: the contracts of
// Backend::Sample and Backend::Score for one row.
//
// Probabilities are summed as integers, in units of 2^-40 of the largest one: sums are exact, so
// the token does not depend on the order in which candidates are visited, and nothing is ever
// sorted whole. Without top_k, top_p and min_p two passes over the logits are all there is.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cpu/ops.h"

namespace eddy::cpu {

// A token in the running: its logit (penalised) and its weight, the probability as an integer.
struct Candidate {
  float logit = 0.0f;
  int32_t token = 0;
  uint64_t weight = 0;
};

// The scratch of one thread, for vocabularies up to the size it was last made for.
struct SampleScratch {
  std::vector<float> exp;              // [vocabulary]
  std::vector<float> block_max;        // [vocabulary / kLogitsBlock]
  std::vector<uint64_t> block_weight;  // [vocabulary / kLogitsBlock]
  std::vector<float> selection;        // [vocabulary / kLogitsBlock]
  std::vector<Candidate> candidates;   // [vocabulary]
  std::vector<Candidate> changed;      // the logits that penalties, biases and bans replaced

  void Reserve(int64_t vocabulary);
};

// Penalties, biases and bans are applied to `logits` [vocabulary] in place.
void SampleToken(const Ops& ops, float* logits, int64_t vocabulary, const SampleRow& row,
                 SampleScratch& scratch, SampleResult& result);
void ScoreToken(const Ops& ops, const float* logits, int64_t vocabulary, const ScoreRow& row,
                SampleScratch& scratch, ScoreResult& result);

}  // namespace eddy::cpu
