// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/step_case.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/status_macros.h"
#include "kernels/workspace.h"

namespace eddy {
namespace {

using Clock = std::chrono::steady_clock;

// The probe is measured before, between and after so many parts of a case's passes.
constexpr int kRoundCount = 3;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// The host's arrays of one step's rows, as the engine's batch has them.
class StepRows {
 public:
  StepRows(int row_count, int row_token_count, int32_t vocabulary_size)
      : vocabulary_size_(vocabulary_size), row_token_count_(row_token_count) {
    for (int r = 0; r < row_count; ++r) {
      slot_.push_back(r);
      logits_token_.push_back((r + 1) * row_token_count - 1);
    }
    for (int r = 0; r <= row_count; ++r) token_begin_.push_back(r * row_token_count);
    for (int i = 0; i < row_count * row_token_count; ++i) {
      tokens_.push_back(static_cast<int32_t>(int64_t{i} * 7919 % vocabulary_size));
    }
    position_.resize(slot_.size());
    sample_.resize(slot_.size());
    results_.resize(slot_.size());
    for (size_t r = 0; r < sample_.size(); ++r) sample_[r].seed = r;
  }

  Rows rows(bool wants_logits) const {
    return {static_cast<int32_t>(slot_.size()),
            static_cast<int32_t>(tokens_.size()),
            wants_logits ? static_cast<int32_t>(slot_.size()) : 0,
            tokens_.data(),
            token_begin_.data(),
            slot_.data(),
            position_.data(),
            logits_token_.data()};
  }
  std::span<const SampleRow> ToSample() {
    for (size_t r = 0; r < sample_.size(); ++r) {
      sample_[r].position = position_[r] + row_token_count_;
    }
    return sample_;
  }
  std::span<SampleResult> results() { return results_; }

  // After a step: rows go on, those of one token with the one that was sampled.
  absl::Status Advance(bool sampled) {
    for (size_t r = 0; r < slot_.size(); ++r) {
      position_[r] += row_token_count_;
      if (!sampled) continue;
      if (results_[r].token < 0 || results_[r].token >= vocabulary_size_) {
        return absl::InternalError(absl::StrCat("The logits of row ", r, " at position ",
                                                position_[r], " are not finite."));
      }
      if (row_token_count_ == 1) tokens_[r] = results_[r].token;
    }
    return absl::OkStatus();
  }

 private:
  const int32_t vocabulary_size_;
  const int row_token_count_;
  std::vector<int32_t> tokens_, token_begin_, slot_, logits_token_;
  std::vector<int64_t> position_;
  std::vector<SampleRow> sample_;
  std::vector<SampleResult> results_;
};

// The lengths of the steps that one pass consists of.
std::vector<int> StepLengths(const StepCase& step_case, const StepBenchOptions& options) {
  if (step_case.kind == StepCase::Kind::kDecode) return {1};
  std::vector<int> lengths;
  for (int left = step_case.size; left > 0; left -= lengths.back()) {
    lengths.push_back(std::min(left, options.chunk_token_count));
  }
  return lengths;
}

int RowCount(const StepCase& step_case) {
  return step_case.kind == StepCase::Kind::kDecode ? step_case.size : 1;
}

int64_t ScratchBytes(Model& model, const Rows& rows, const Shape& logits_shape) {
  Workspace measuring;
  model.Forward(rows, {}, measuring, Tensor(nullptr, DType::kF32, logits_shape));
  return measuring.peak_bytes();
}

// Runs passes of one case.
class CaseRunner {
 public:
  static absl::StatusOr<CaseRunner> Make(const StepCase& step_case, const StepBenchOptions& options,
                                         MeteredBackend& backend, Model& model) {
    CaseRunner runner(backend, model);
    const int row_count = RowCount(step_case);
    const int32_t vocabulary_size = model.info().vocabulary_size;
    runner.logits_shape_ = {row_count, model.info().output_size()};
    int64_t scratch_bytes = 0;
    for (const int length : StepLengths(step_case, options)) {
      runner.steps_.emplace_back(row_count, length, vocabulary_size);
      scratch_bytes = std::max(scratch_bytes, ScratchBytes(model, runner.steps_.back().rows(true),
                                                           runner.logits_shape_));
    }
    EDDY_ASSIGN_OR_RETURN(Buffer scratch, backend.Allocate(scratch_bytes));
    runner.workspace_ = Workspace(std::move(scratch));
    EDDY_ASSIGN_OR_RETURN(runner.pool_, backend.Allocate(row_count * model.state_layout().bytes()));
    EDDY_ASSIGN_OR_RETURN(runner.logits_,
                          backend.Allocate(runner.logits_shape_.element_count() * 4));
    return runner;
  }

  // Only the last step of a prompt wants logits.
  absl::Status RunPass() {
    for (StepRows& step : steps_) {
      const bool is_last = &step == &steps_.back();
      const StateRef states = {static_cast<std::byte*>(pool_.data()), model_.state_layout().bytes(),
                               0};
      const Tensor logits = logits_.View(DType::kF32, logits_shape_);
      workspace_.Reset();
      const Rows host = step.rows(is_last);
      model_.Forward(backend_.BeginStep(host), states, workspace_, logits);
      if (is_last) {
        SampleOutputs(backend_, model_.info(), logits, step.ToSample(), step.results());
      }
      EDDY_RETURN_IF_ERROR(backend_.Synchronize());
      EDDY_RETURN_IF_ERROR(step.Advance(is_last));
    }
    return absl::OkStatus();
  }

 private:
  CaseRunner(MeteredBackend& backend, Model& model) : backend_(backend), model_(model) {}

  MeteredBackend& backend_;
  Model& model_;
  Shape logits_shape_;
  std::vector<StepRows> steps_;
  Workspace workspace_;
  Buffer pool_;
  Buffer logits_;
};

// Runs passes until their time or number is over, at least one; appends the time of each.
absl::Status RunFor(double seconds, int pass_count_max, CaseRunner& runner,
                    std::vector<double>* pass_seconds) {
  const Clock::time_point start = Clock::now();
  for (int pass = 0; pass < pass_count_max; ++pass) {
    const Clock::time_point begun = Clock::now();
    EDDY_RETURN_IF_ERROR(runner.RunPass());
    pass_seconds->push_back(SecondsSince(begun));
    if (SecondsSince(start) >= seconds) break;
  }
  return absl::OkStatus();
}

double MedianOf(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// Means of a pass of the time per class.
absl::Status MeasureClasses(const StepBenchOptions& options, MeteredBackend& backend,
                            CaseRunner& runner, StepResult* result) {
  std::vector<double> seconds;
  backend.Reset();
  backend.set_timed(true);
  const absl::Status status =
      RunFor(options.seconds / 4, std::max(1, options.step_count_max / 4), runner, &seconds);
  backend.set_timed(false);
  const auto count = static_cast<double>(seconds.size());
  for (int i = 0; i < kOpClassCount; ++i) {
    OpCost& cost = result->cost.ops[static_cast<size_t>(i)];
    cost.seconds = backend.cost().ops[static_cast<size_t>(i)].seconds / count;
    cost.wait_seconds = backend.cost().ops[static_cast<size_t>(i)].wait_seconds / count;
  }
  for (const double each : seconds) result->timed_pass_seconds += each / count;
  return status;
}

}  // namespace

int64_t CaseBytes(const StepCase& step_case, const StepBenchOptions& options, Model& model) {
  const int row_count = RowCount(step_case);
  const Shape logits_shape = {row_count, model.info().output_size()};
  const StepRows largest(row_count, StepLengths(step_case, options).front(),
                         model.info().vocabulary_size);
  return ScratchBytes(model, largest.rows(true), logits_shape) +
         row_count * model.state_layout().bytes() + logits_shape.element_count() * 4;
}

absl::StatusOr<StepResult> RunCase(const StepCase& step_case, const StepBenchOptions& options,
                                   MeteredBackend& backend, Model& model, Probe& probe) {
  EDDY_ASSIGN_OR_RETURN(CaseRunner runner, CaseRunner::Make(step_case, options, backend, model));
  StepResult result;
  result.step_case = step_case;
  result.token_count = step_case.size;
  std::vector<double> warm_up, seconds;
  backend.Reset();
  EDDY_RETURN_IF_ERROR(RunFor(0.0, 1, runner, &warm_up));
  result.cost = backend.cost();
  if (warm_up[0] < options.seconds / 10) {
    EDDY_RETURN_IF_ERROR(RunFor(options.seconds / 10, options.step_count_max, runner, &warm_up));
  }
  const Clock::time_point start = Clock::now();
  for (int round = 0; round < kRoundCount; ++round) {
    probe.Measure();
    EDDY_RETURN_IF_ERROR(RunFor(options.seconds / kRoundCount,
                                (options.step_count_max + kRoundCount - 1) / kRoundCount, runner,
                                &seconds));
    // A pass may take longer than all rounds should.
    if (SecondsSince(start) > 2.0 * options.seconds) break;
  }
  probe.Measure();
  result.probe = probe.TakeMedians();
  result.pass_count = static_cast<int>(seconds.size());
  result.pass_seconds = MedianOf(std::move(seconds));
  if (options.classes) EDDY_RETURN_IF_ERROR(MeasureClasses(options, backend, runner, &result));
  return result;
}

}  // namespace eddy
