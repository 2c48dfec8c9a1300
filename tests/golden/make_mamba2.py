#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes what golden_test.cc compares with: tiny random Mamba-2 models and their logits.

An independent statement of Mamba-2 (arXiv 2405.21060) in PyTorch, float64, one token, head and layer at a time, from
the formulas and not from the server's code. Debian's python3-torch is enough:

    /usr/bin/python3 tests/golden/make_mamba2.py
    python tests/golden/make_mamba2.py --transformers

The first writes a folder per variant (config.json, model.safetensors, expected.safetensors) beside this file: with the
names of Hugging Face and with those of state-spaces, whose config.json has no model_type. expected.safetensors holds
`tokens` [T] and `logits` [T, vocabulary], both F32. The second compares the goldens of Hugging Face's layout that have
one group with transformers' own Mamba2ForCausalLM and writes nothing (seen with transformers 4.45.2, whose norms are
F32: at most 4e-6 apart, logits up to 6). With more groups transformers normalises over all of them at once, unlike
state-spaces, whose models those are; and that version does not know `time_step_limit`.
"""

import argparse
import json
import pathlib

import numpy as np
import torch

from make_linear_transformer import read_safetensors, write_expected_logits, write_safetensors

# ---- the model -----------------------------------------------------------------------------------


def softplus(x):
    return torch.clamp(x, min=0) + torch.log1p(torch.exp(-x.abs()))


def silu(x):
    return x / (1 + torch.exp(-x))


def rms(x, weight):
    return x / torch.sqrt((x * x).mean() + 1e-5) * weight


class Mamba2:
    """One session: the weights, each [out, in], and the state."""

    def __init__(self, shape, tensors):
        self.shape, self.tensors = shape, tensors
        inner, groups, size = shape["H"] * shape["P"], shape["G"], shape["N"]
        self.channels = inner + 2 * groups * size
        zeros = lambda *dims: torch.zeros(*dims, dtype=torch.float64)
        self.state = [
            {"inputs": zeros(shape["W"], self.channels), "S": zeros(shape["H"], shape["P"], size)}
            for _ in range(shape["L"])
        ]

    def mixer(self, i, u):
        shape, state = self.shape, self.state[i]
        get = lambda name: self.tensors.get(f"backbone.layers.{i}.mixer.{name}")
        inner, groups, size = shape["H"] * shape["P"], shape["G"], shape["N"]
        bias = get("in_proj.bias")
        projected = get("in_proj.weight") @ u + (0 if bias is None else bias)
        z, xbc, dt = projected.split([inner, self.channels, shape["H"]])
        state["inputs"] = torch.cat([state["inputs"][1:], xbc[None]])
        convolved = (get("conv1d.weight").squeeze(1).T * state["inputs"]).sum(0)
        if get("conv1d.bias") is not None:
            convolved = convolved + get("conv1d.bias")
        x, b, c = silu(convolved).split([inner, groups * size, groups * size])
        dt = softplus(dt + get("dt_bias")).clamp(*shape.get("limit", (0.0, float("inf"))))
        y = []
        for h in range(shape["H"]):
            group = h // (shape["H"] // groups)
            part = slice(group * size, (group + 1) * size)
            x_h = x[h * shape["P"] : (h + 1) * shape["P"]]
            # S is [head size, state size], as published.
            state["S"][h] = torch.exp(-torch.exp(get("A_log")[h]) * dt[h]) * state["S"][h] + dt[h] * torch.outer(
                x_h, b[part]
            )
            y.append(state["S"][h] @ c[part] + get("D")[h] * x_h)
        gated = torch.cat(y) * silu(z)
        width = inner // groups
        normal = [rms(gated[g : g + width], get("norm.weight")[g : g + width]) for g in range(0, inner, width)]
        bias = get("out_proj.bias")
        return get("out_proj.weight") @ torch.cat(normal) + (0 if bias is None else bias)

    def logits(self, token):
        table = self.tensors[embedding_name(self.shape)]
        x = table[token]
        for i in range(self.shape["L"]):
            x = x + self.mixer(i, rms(x, self.tensors[f"backbone.layers.{i}.norm.weight"]))
        return self.tensors.get("lm_head.weight", table) @ rms(x, self.tensors["backbone.norm_f.weight"])


# ---- the variants --------------------------------------------------------------------------------

# D channels, L layers, H heads of P values, state size N, G groups, convolutions of W, the types of matrices and
# vectors. Those of state-spaces pad the vocabulary (of V here) to a multiple of 16.
VARIANTS = {
    "plain": dict(hf=True, V=37, D=24, L=2, H=3, P=16, N=12, G=1, W=4, types=("F32", "F32"), conv_bias=True),
    "biases": dict(hf=True, V=29, D=20, L=2, H=5, P=8, N=16, G=1, W=3, types=("F32", "F32"), conv_bias=False,
                   bias=True, eos=3),
    "groups": dict(hf=True, V=53, D=32, L=2, H=8, P=8, N=10, G=2, W=4, types=("BF16", "BF16"), conv_bias=True,
                   tied=True, limit=(0.2, 1.5)),
    "state_spaces": dict(hf=False, V=35, D=24, L=3, H=6, P=8, N=16, G=3, W=4, types=("F16", "F32"), conv_bias=True,
                         tied=True),
}
TOKEN_COUNT = 100


def embedding_name(shape):
    return "backbone.embeddings.weight" if shape["hf"] else "backbone.embedding.weight"


def padded_vocabulary(shape):
    return shape["V"] if shape["hf"] else -(-shape["V"] // 16) * 16


def config_of(shape):
    if not shape["hf"]:
        return {
            "d_model": shape["D"], "d_intermediate": 0, "n_layer": shape["L"], "vocab_size": shape["V"],
            "ssm_cfg": {"layer": "Mamba2", "d_state": shape["N"], "headdim": shape["P"], "ngroups": shape["G"]},
            "attn_layer_idx": [], "attn_cfg": {}, "rms_norm": True, "residual_in_fp32": True, "fused_add_norm": True,
            "pad_vocab_size_multiple": 16, "tie_embeddings": True,
        }
    config = {
        "model_type": "mamba2", "vocab_size": shape["V"], "hidden_size": shape["D"], "num_hidden_layers": shape["L"],
        "num_heads": shape["H"], "head_dim": shape["P"], "state_size": shape["N"], "n_groups": shape["G"],
        "expand": shape["H"] * shape["P"] // shape["D"], "conv_kernel": shape["W"], "use_conv_bias": shape["conv_bias"],
        "use_bias": shape.get("bias", False), "layer_norm_epsilon": 1e-5, "hidden_act": "silu", "rms_norm": True,
        "residual_in_fp32": True, "chunk_size": 256, "tie_word_embeddings": shape.get("tied", False),
    }
    # As transformers writes it: not JSON, but what Python's json makes of it.
    config["time_step_limit"] = list(shape.get("limit", (0.0, float("inf"))))
    if "eos" in shape:
        config["eos_token_id"] = shape["eos"]
    return config


def random_tensors(shape, rng):
    """name -> (dtype, array); numbers large enough that every part of the model shows in the logits."""
    matrix_type, vector_type = shape["types"]
    inner = shape["H"] * shape["P"]
    channels = inner + 2 * shape["G"] * shape["N"]
    normal = lambda *size: rng.standard_normal(size)
    tensors = {}

    def add_linear(name, out_size, in_size):
        tensors[name + ".weight"] = (matrix_type, 1.5 * normal(out_size, in_size) / np.sqrt(in_size))
        if shape.get("bias"):
            tensors[name + ".bias"] = (vector_type, 0.3 * normal(out_size))

    tensors[embedding_name(shape)] = (matrix_type, normal(padded_vocabulary(shape), shape["D"]))
    for i in range(shape["L"]):
        p = f"backbone.layers.{i}."
        tensors[p + "norm.weight"] = (vector_type, 1 + 0.3 * normal(shape["D"]))
        add_linear(p + "mixer.in_proj", inner + channels + shape["H"], shape["D"])
        tensors[p + "mixer.conv1d.weight"] = (vector_type, 0.6 * normal(channels, 1, shape["W"]))
        if shape["conv_bias"]:
            tensors[p + "mixer.conv1d.bias"] = (vector_type, 0.3 * normal(channels))
        tensors[p + "mixer.dt_bias"] = (vector_type, normal(shape["H"]) - 0.5)
        tensors[p + "mixer.A_log"] = (vector_type, np.log(rng.uniform(0.1, 2.0, shape["H"])))
        tensors[p + "mixer.D"] = (vector_type, normal(shape["H"]))
        tensors[p + "mixer.norm.weight"] = (vector_type, 1 + 0.3 * normal(inner))
        add_linear(p + "mixer.out_proj", shape["D"], inner)
    tensors["backbone.norm_f.weight"] = (vector_type, 1 + 0.3 * normal(shape["D"]))
    if not shape.get("tied"):
        tensors["lm_head.weight"] = (matrix_type, 1.5 * normal(shape["V"], shape["D"]) / np.sqrt(shape["D"]))
    return tensors


def compare_with_transformers(folder):
    from transformers import Mamba2Config, Mamba2ForCausalLM

    config = Mamba2Config(**json.loads((folder / "config.json").read_text(encoding="utf-8")))
    model = Mamba2ForCausalLM(config).double().eval()
    tensors = read_safetensors(folder / "model.safetensors")
    if config.tie_word_embeddings:
        tensors["lm_head.weight"] = tensors["backbone.embeddings.weight"]
    model.load_state_dict(tensors)
    expected = read_safetensors(folder / "expected.safetensors")
    with torch.no_grad():
        logits = model(expected["tokens"].long()[None], use_cache=False).logits[0]
    difference = float((logits - expected["logits"]).abs().max())
    print(f"{folder.name}: at most {difference:.1e} from transformers, logits up to {float(logits.abs().max()):.1f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--transformers", action="store_true", help="compare with transformers instead of writing")
    args = parser.parse_args()
    root = pathlib.Path(__file__).parent / "mamba2"
    for seed, (name, shape) in enumerate(VARIANTS.items()):
        folder = root / name
        if args.transformers:
            if shape["hf"] and shape["G"] == 1:
                compare_with_transformers(folder)
            continue
        rng = np.random.default_rng(300 + seed)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(config_of(shape), indent=2) + "\n", encoding="utf-8")
        write_safetensors(folder / "model.safetensors", random_tensors(shape, rng))
        model = Mamba2(shape, read_safetensors(folder / "model.safetensors"))  # as rounded
        tokens = rng.integers(0, shape["V"], TOKEN_COUNT).tolist()
        write_expected_logits(folder, tokens, torch.stack([model.logits(token) for token in tokens]).numpy())


if __name__ == "__main__":
    main()
