// SPDX-License-Identifier: Apache-2.0
// Synthetic models: built-in configurations with made-up weights, to measure speed without a
// checkpoint. "synthetic:NAME" stands wherever a model folder may stand. They speak no language and
// have no tokenizer and no end of text.
//
// Weights are a function of (tensor name, index) alone: the same on every machine and in every run.
// Matrices and tables have bf16 values, uniform with the variance 1/in (those of the vocabulary's
// size nine times that, so that logits are about as far apart as a trained model's); norms' weights
// are 1; other vectors lie within 1/2 of 0, or in the upper half of the range they must be in.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/config.h"
#include "engine/tensor_source.h"

namespace eddy {

// Whether `model` begins with "synthetic:".
bool IsSyntheticModel(std::string_view model);
// "synthetic:mnist" and the others.
std::vector<std::string> SyntheticModelNames();
// What its config.json would say. NOT_FOUND, with the names there are, for an unknown one.
absl::StatusOr<Config> SyntheticConfig(std::string_view model);

class SyntheticTensors : public TensorSource {
 public:
  // `model` is for messages.
  SyntheticTensors(std::string model, int64_t vocabulary_size)
      : model_(std::move(model)), vocabulary_size_(vocabulary_size) {}

  const std::string& file() const override { return model_; }
  const std::map<std::string, StoredTensor, std::less<>>& tensors() const override { return none_; }
  const StoredTensor* Provide(std::string_view name, const Shape& shape, const ValueRange& range,
                              MadeTensor* made) const override;

 private:
  const std::string model_;
  const int64_t vocabulary_size_;
  const std::map<std::string, StoredTensor, std::less<>> none_;
};

}  // namespace eddy
