// SPDX-License-Identifier: Apache-2.0
#include "engine/sublayers/stack.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/status_macros.h"

namespace eddy {
namespace {

class Stack : public Model {
 public:
  Stack(StackParts parts, std::vector<Buffer> buffers, Backend& backend)
      : parts_(std::move(parts)), buffers_(std::move(buffers)), backend_(backend) {}

  const ModelInfo& info() const override { return parts_.info; }
  const StateLayout& state_layout() const override { return parts_.state_layout; }
  void Forward(const Rows& rows, const StateRef& pool, Workspace& workspace,
               const Tensor& logits) override;

 private:
  void Normalise(const Norm& norm, const Tensor& x, const Tensor& residual, const Tensor& sum,
                 const Tensor& out) {
    backend_.Normalise(norm.options, {x, residual, norm.weight, norm.bias, Tensor()}, sum, out);
  }
  void Predict(const Step& step, const Tensor& x, const Tensor& logits);

  const StackParts parts_;
  const std::vector<Buffer> buffers_;  // of all tensors of parts_
  Backend& backend_;
};

void Stack::Forward(const Rows& rows, const StateRef& pool, Workspace& workspace,
                    const Tensor& logits) {
  Step step = {backend_, rows, pool, workspace, {}, {}, {}};
  const Tensor x = step.Take(parts_.hidden_size);  // but for what `change` adds to it
  step.normal = step.Take(parts_.hidden_size);
  step.change = step.Take(parts_.hidden_size);
  step.shared = step.Take(parts_.shared_size);
  const bool measuring = workspace.measuring();
  if (!measuring) {
    backend_.Embed(rows, parts_.embedding, 0, x);
    if (parts_.first_norm) Normalise(*parts_.first_norm, x, Tensor(), Tensor(), x);
  }
  bool first = true;
  for (const StackParts::Part& part : parts_.parts) {
    if (!measuring) {
      Normalise(part.norm, x, first ? Tensor() : step.change, first ? Tensor() : x, step.normal);
    }
    const int64_t mark = workspace.Mark();
    part.sublayer->Run(step);
    workspace.Release(mark);
    first = false;
  }
  Predict(step, x, logits);
}

// Only the tokens whose logits are wanted.
void Stack::Predict(const Step& step, const Tensor& x, const Tensor& logits) {
  const Shape shape = {step.rows.logits_count, parts_.hidden_size};
  const Tensor last = step.workspace.Take(DType::kF32, shape);
  const Tensor change = step.workspace.Take(DType::kF32, shape);
  if (step.workspace.measuring() || step.rows.logits_count == 0) return;
  backend_.GatherLogitsRows(step.rows, x, last);
  backend_.GatherLogitsRows(step.rows, step.change, change);
  Normalise(parts_.final_norm, last, change, Tensor(), last);
  backend_.MatMul(last, parts_.head, Tensor(), logits);
}

constexpr int64_t kStateBytesMax = int64_t{1} << 40;  // of one session

}  // namespace

absl::Status CheckStateBytes(const Config& config, const std::string& key, int64_t state_bytes) {
  if (state_bytes <= kStateBytesMax) return absl::OkStatus();
  const std::string found =
      absl::StrCat(state_bytes, " bytes of state per session, expected at most ", kStateBytesMax);
  if (!key.empty()) {
    return config.Error(key, absl::StrCat("which with the other sizes makes ", found));
  }
  return absl::InvalidArgumentError(absl::StrCat(config.file(), ": the sizes make ", found));
}

absl::StatusOr<std::unique_ptr<Model>> MakeStack(StackParts parts, Weights& weights,
                                                 Backend& backend) {
  EDDY_ASSIGN_OR_RETURN(LoadedWeights loaded, weights.Finish());
  parts.info.parameter_count = loaded.parameter_count;
  parts.info.weight_bytes = loaded.weight_bytes;
  return std::make_unique<Stack>(std::move(parts), std::move(loaded.buffers), backend);
}

}  // namespace eddy
