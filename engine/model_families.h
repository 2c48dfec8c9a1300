// SPDX-License-Identifier: Apache-2.0
// The families, one file each in engine/models/. Each takes its settings from the configuration and
// its tensors from the weights, which it finishes; `info` has name, family and types already.
// Errors are INVALID_ARGUMENT for what does not fit together and UNIMPLEMENTED for another model,
// and name file, key or tensor, what was found and what was expected.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "engine/config.h"
#include "engine/model.h"
#include "engine/weights.h"

namespace eddy {

using MakeModel = absl::StatusOr<std::unique_ptr<Model>>(const Config& config, Weights& weights,
                                                         Backend& backend, ModelInfo info);

MakeModel MakeDeltaNet;
MakeModel MakeGatedDeltaNet;
MakeModel MakeGla;
MakeModel MakeHgrn2;
MakeModel MakeKda;
MakeModel MakeLinearAttention;
MakeModel MakeLinearTransformer;
MakeModel MakeMamba2;
MakeModel MakeRetNet;
MakeModel MakeRwkv6;
MakeModel MakeRwkv7;

}  // namespace eddy
