// SPDX-License-Identifier: Apache-2.0
#include "engine/sublayers/swiglu.h"

#include <utility>

namespace eddy {
namespace {

class SwiGlu : public Sublayer {
 public:
  SwiGlu(Matrix gate, Matrix up, Matrix down)
      : gate_(std::move(gate)), up_(std::move(up)), down_(std::move(down)) {}

  void Run(const Step& step) const override {
    const Tensor gate = step.Take(gate_.out_size), up = step.Take(gate_.out_size);
    if (step.workspace.measuring()) return;
    const Product products[] = {{step.normal, &gate_, {}, gate}, {step.normal, &up_, {}, up}};
    step.backend.MatMulGroup(products);
    step.backend.Gate(Activation::kSilu, gate, up, gate);
    step.backend.MatMul(gate, down_, Tensor(), step.change);
  }

 private:
  const Matrix gate_, up_;  // [inner, D]
  const Matrix down_;       // [D, inner]
};

}  // namespace

std::unique_ptr<Sublayer> ReadSwiGlu(Weights& weights, const std::string& prefix,
                                     int64_t hidden_size, int64_t inner_size) {
  const std::string gate_name = prefix + "gate_proj.weight", up_name = prefix + "up_proj.weight";
  const Shape inner = {inner_size, hidden_size}, both = {2 * inner_size, hidden_size};
  Matrix gate, up;
  if (!weights.StoredShape(up_name) && weights.StoredShape(gate_name) == both) {
    gate = weights.ReadMatrixRows(gate_name, both, 0, inner_size);
    up = weights.ReadMatrixRows(gate_name, both, inner_size, 2 * inner_size);
  } else {
    gate = weights.ReadMatrix(gate_name, inner);
    up = weights.ReadMatrix(up_name, inner);
  }
  Matrix down = weights.ReadMatrix(prefix + "down_proj.weight", {hidden_size, inner_size});
  return std::make_unique<SwiGlu>(std::move(gate), std::move(up), std::move(down));
}

}  // namespace eddy
