// SPDX-License-Identifier: Apache-2.0
#include "engine/synthetic.h"

#include <algorithm>
#include <cmath>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "kernels/bf16.h"

namespace eddy {
namespace {

constexpr std::string_view kPrefix = "synthetic:";

struct BuiltIn {
  std::string_view name;
  std::string_view config;
};

constexpr BuiltIn kBuiltIns[] = {
    // Of the released RWKV-7 models' shapes and low ranks.
    {"rwkv7-0.19b", R"({"model_type": "rwkv7", "vocab_size": 65536, "hidden_size": 768,
      "num_hidden_layers": 12, "head_dim": 64, "intermediate_size": 3072, "decay_low_rank_dim": 64,
      "a_low_rank_dim": 64, "v_low_rank_dim": 32, "gate_low_rank_dim": 128})"},
    {"rwkv7-1.5b", R"({"model_type": "rwkv7", "vocab_size": 65536, "hidden_size": 2048,
      "num_hidden_layers": 24, "head_dim": 64, "intermediate_size": 8192, "decay_low_rank_dim": 96,
      "a_low_rank_dim": 96, "v_low_rank_dim": 64, "gate_low_rank_dim": 256})"},
    // The default shape of the paper's authors.
    {"gated-deltanet-1.3b", R"({"model_type": "gated_deltanet", "vocab_size": 32000,
      "hidden_size": 2048, "num_hidden_layers": 21, "num_heads": 6, "head_dim": 256,
      "expand_v": 2.0, "intermediate_size": 5632})"},
    // The image models of "Transformers are RNNs"; sessions may be longer than an image.
    {"mnist", R"({"model_type": "linear_transformer", "vocab_size": 256, "hidden_size": 256,
      "num_hidden_layers": 8, "num_heads": 8, "query_dimensions": 32, "value_dimensions": 32,
      "feed_forward_dimensions": 1024, "mixtures": 10, "activation": "relu", "feature_map": "elu",
      "position_embedding": "sinusoid", "decay": "none", "final_normalization": true,
      "norm_eps": 1e-5, "attention_eps": 1e-6})"},
    {"cifar10", R"({"model_type": "linear_transformer", "vocab_size": 256, "hidden_size": 256,
      "num_hidden_layers": 16, "num_heads": 8, "query_dimensions": 32, "value_dimensions": 32,
      "feed_forward_dimensions": 1024, "mixtures": 10, "activation": "relu", "feature_map": "elu",
      "position_embedding": "sinusoid", "decay": "none", "final_normalization": true,
      "norm_eps": 1e-5, "attention_eps": 1e-6})"},
};

// A bijection of 64 bits that leaves no visible pattern (splitmix64's last step).
uint64_t Mixed(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

// The random numbers of one tensor, 16 bits each: number i is a function of the name and i.
class Numbers {
 public:
  explicit Numbers(std::string_view name) {
    for (const char c : name) key_ = Mixed(key_ ^ static_cast<uint8_t>(c));
  }
  // Numbers 4i to 4i + 3, from the low bits up.
  uint64_t Four(uint64_t i) const { return Mixed(key_ + i * 0x9e3779b97f4a7c15u); }

 private:
  uint64_t key_ = 0x243f6a8885a308d3u;
};

// Calls set(i, u) for each i with u in [-1, 1], of 16 bits.
template <typename Set>
void ForEachNumber(std::string_view name, int64_t count, const Set& set) {
  const Numbers numbers(name);
  for (int64_t i = 0; i < count; i += 4) {
    uint64_t four = numbers.Four(static_cast<uint64_t>(i / 4));
    for (int64_t j = i; j < i + 4 && j < count; ++j, four >>= 16) {
      const auto bits = static_cast<int16_t>(static_cast<uint16_t>(four));
      set(j, (static_cast<float>(bits) + 0.5f) * (1.0f / 32768.0f));
    }
  }
}

bool IsNormWeight(std::string_view name, const Shape& shape) {
  return shape.rank() == 1 && name.ends_with(".weight");
}

}  // namespace

bool IsSyntheticModel(std::string_view model) { return model.starts_with(kPrefix); }

std::vector<std::string> SyntheticModelNames() {
  std::vector<std::string> names;
  for (const BuiltIn& built_in : kBuiltIns) {
    names.push_back(absl::StrCat(std::string(kPrefix), std::string(built_in.name)));
  }
  return names;
}

absl::StatusOr<Config> SyntheticConfig(std::string_view model) {
  const std::string full(model);
  for (const BuiltIn& built_in : kBuiltIns) {
    if (IsSyntheticModel(model) && model.substr(kPrefix.size()) == built_in.name) {
      return Config::Parse(built_in.config, full);
    }
  }
  return absl::NotFoundError(absl::StrCat("there is no model ", full, "; the synthetic models are ",
                                          absl::StrJoin(SyntheticModelNames(), ", ")));
}

const StoredTensor* SyntheticTensors::Provide(std::string_view name, const Shape& shape,
                                              const ValueRange& range, MadeTensor* made) const {
  const int64_t count = shape.element_count();
  StoredTensor& tensor = made->tensor;
  tensor.shape = shape;
  tensor.type = shape.rank() == 2 ? StoredType::kBF16 : StoredType::kF32;
  const auto bytes = static_cast<size_t>(count * StoredTypeBytes(tensor.type));
  made->storage.resize(bytes);
  tensor.data = made->storage;
  if (tensor.type == StoredType::kBF16) {
    float scale = std::sqrt(3.0f / static_cast<float>(shape[1]));
    if (shape[0] == vocabulary_size_) scale *= 3.0f;
    auto* values = reinterpret_cast<uint16_t*>(made->storage.data());
    ForEachNumber(name, count, [&](int64_t i, float u) { values[i] = F32ToBf16(u * scale); });
    return &tensor;
  }
  auto* values = reinterpret_cast<float*>(made->storage.data());
  if (IsNormWeight(name, shape)) {
    for (int64_t i = 0; i < count; ++i) values[i] = 1.0f;
  } else if (std::isfinite(range.above)) {
    const float width = std::min(range.max, range.above + 1.0f) - range.above;
    ForEachNumber(name, count, [&](int64_t i, float u) {
      values[i] = range.above + width * (0.75f + 0.25f * u);
    });
  } else {
    // A short convolution's taps add up, a vector's numbers do not.
    const float scale =
        shape.rank() > 2 ? std::sqrt(3.0f / static_cast<float>(shape[shape.rank() - 1])) : 0.5f;
    ForEachNumber(name, count, [&](int64_t i, float u) { values[i] = u * scale; });
  }
  return &tensor;
}

}  // namespace eddy
