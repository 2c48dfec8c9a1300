// SPDX-License-Identifier: Apache-2.0
// Stack: the network that most families are: sublayers on one residual stream x [T, D], each behind
// a norm of its own. A family reads its weights into StackParts; MakeStack makes the model.
//
//   x = embedding of the token, normalised where there is a first norm
//   x <- x + f(norm(x)) for each sublayer f
//   logits = head norm(x)
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/config.h"
#include "engine/model.h"
#include "engine/weights.h"
#include "kernels/backend.h"
#include "kernels/workspace.h"

namespace eddy {

struct Norm {
  NormOptions options;
  Tensor weight = {};  // [D], or absent, as bias
  Tensor bias = {};
};

// One tensor of the state, in whatever slot.
struct StatePart {
  int64_t offset_bytes = 0;
  DType dtype = DType::kF32;

  StateRef In(const StateRef& pool) const {
    return {pool.base, pool.slot_bytes, offset_bytes, dtype};
  }
};

// What a sublayer works on in one step. Without data (but with shapes) when the workspace is
// measuring.
struct Step {
  Backend& backend;
  const Rows& rows;
  const StateRef& pool;
  Workspace& workspace;
  Tensor normal;  // [T, D], its input
  Tensor change;  // [T, D], its output
  Tensor shared;  // [T, shared_size], what sublayers leave for those above them; absent if 0

  // Scratch [T, width] until the sublayer ends; absent for width 0.
  Tensor Take(int64_t width) const {
    return width == 0 ? Tensor() : workspace.Take(DType::kF32, {rows.token_count, width});
  }
};

// Constant after load; Run is the step thread's.
class Sublayer {
 public:
  virtual ~Sublayer() = default;

  // Writes step.change and moves the states of step.rows. Measuring, it only takes its scratch.
  virtual void Run(const Step& step) const = 0;
};

struct StackParts {
  struct Part {
    Norm norm;
    std::unique_ptr<Sublayer> sublayer;
  };

  ModelInfo info;
  StateLayout state_layout;
  int64_t hidden_size = 0;  // D
  int64_t shared_size = 0;
  Tensor embedding;  // [vocabulary, D]
  std::optional<Norm> first_norm;
  std::vector<Part> parts;
  Norm final_norm;
  Matrix head;  // [vocabulary, D]

  // Room in the state for a matrix of the recurrence (of info.state_dtype) or for f32.
  StatePart AddMatrices(std::string name, Shape shape) {
    return {state_layout.Add(std::move(name), info.state_dtype, shape), info.state_dtype};
  }
  StatePart AddVectors(std::string name, Shape shape) {
    return {state_layout.Add(std::move(name), DType::kF32, shape), DType::kF32};
  }
};

// INVALID_ARGUMENT when a session's state would be of more than 1 TiB: "KEY is VALUE, which with
// the other sizes makes ...", or without a key that the sizes do.
absl::Status CheckStateBytes(const Config& config, const std::string& key, int64_t state_bytes);

// Finishes the weights, of which all parts must have been read. The errors of Weights::Finish.
absl::StatusOr<std::unique_ptr<Model>> MakeStack(StackParts parts, Weights& weights,
                                                 Backend& backend);

}  // namespace eddy
