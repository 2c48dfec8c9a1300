#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes what golden_test.cc compares with: tiny random RWKV-6 models and their logits.

An independent statement of RWKV-6 (arXiv 2404.05892) in PyTorch, float64, one token, head and layer at a time, from
the formulas and not from the server's code. Debian's python3-torch is enough:

    /usr/bin/python3 tests/golden/make_rwkv6.py

It writes a folder per variant (config.json, model.safetensors, expected.safetensors) beside this file, with the names
of the official checkpoints, those of the RWKV organisation's models on Hugging Face, and those of fla, whose heads may
have keys and values of other sizes. expected.safetensors holds `tokens` [T] and `logits` [T, vocabulary], both F32.
"""

import json
import pathlib

import numpy as np
import torch

from make_linear_transformer import read_safetensors, write_expected_logits, write_safetensors

# ---- names ---------------------------------------------------------------------------------------

# Ours below -> (official, Hugging Face, fla); the order in which fla keeps the five mixes is its own.
LAYOUTS = ("official", "hf", "fla")
MIX_ORDERS = {"official": "wkvrg", "hf": "wkvrg", "fla": "rwkvg"}
GLOBAL_NAMES = {
    "embedding": ("emb.weight", "rwkv.embeddings.weight", "model.embeddings.weight"),
    "head": ("head.weight", "head.weight", "lm_head.weight"),
    "ln_out": ("ln_out", "rwkv.ln_out", "model.norm"),
    "ln0": ("blocks.0.ln0", "rwkv.blocks.0.pre_ln", "model.layers.0.pre_norm"),
}
LAYER_NAMES = {
    "ln1": ("ln1", "ln1", "attn_norm"),
    "ln2": ("ln2", "ln2", "ffn_norm"),
    "mu_x": ("att.time_maa_x", "attention.time_maa_x", "attn.x_proj.0.mu"),
    "W1": ("att.time_maa_w1", "attention.time_maa_w1", "attn.x_proj.0.linear.weight"),
    "W2": ("att.time_maa_w2", "attention.time_maa_w2", "attn.x_proj.2.weight"),
    "w": ("att.time_decay", "attention.time_decay", "attn.w_proj.linear.lora.2.bias"),
    "D1": ("att.time_decay_w1", "attention.time_decay_w1", "attn.w_proj.linear.lora.0.weight"),
    "D2": ("att.time_decay_w2", "attention.time_decay_w2", "attn.w_proj.linear.lora.2.weight"),
    "u": ("att.time_faaaa", "attention.time_faaaa", "attn.bonus"),
    "W_r": ("att.receptance.weight", "attention.receptance.weight", "attn.r_proj.linear.weight"),
    "W_k": ("att.key.weight", "attention.key.weight", "attn.k_proj.linear.weight"),
    "W_v": ("att.value.weight", "attention.value.weight", "attn.v_proj.linear.weight"),
    "W_g": ("att.gate.weight", "attention.gate.weight", "attn.g_proj.linear.weight"),
    "W_o": ("att.output.weight", "attention.output.weight", "attn.o_proj.weight"),
    "ln_x": ("att.ln_x", "attention.ln_x", "attn.g_norm"),
    "mu_k": ("ffn.time_maa_k", "feed_forward.time_maa_k", "ffn.key.mu"),
    "mu_r": ("ffn.time_maa_r", "feed_forward.time_maa_r", "ffn.receptance.mu"),
    "V_k": ("ffn.key.weight", "feed_forward.key.weight", "ffn.key.linear.weight"),
    "V_r": ("ffn.receptance.weight", "feed_forward.receptance.weight", "ffn.receptance.linear.weight"),
    "V_v": ("ffn.value.weight", "feed_forward.value.weight", "ffn.value.weight"),
}
PREFIXES = {"official": "blocks", "hf": "rwkv.blocks", "fla": "model.layers"}


def name_of(layout, layer, key, part=""):
    """`layer` None: of the whole model."""
    index = LAYOUTS.index(layout)
    if layer is None:
        return GLOBAL_NAMES[key][index] + part
    return f"{PREFIXES[layout]}.{layer}." + LAYER_NAMES[key][index] + part


# ---- the model -----------------------------------------------------------------------------------


class Rwkv6:
    """One session: the weights, each [out, in], and the state."""

    def __init__(self, shape, tensors):
        self.shape, self.tensors = shape, tensors
        zeros = lambda *size: torch.zeros(*size, dtype=torch.float64)
        width = shape["C"]
        self.state = [
            {"x1": zeros(width), "x2": zeros(width), "S": zeros(shape["H"], shape["K"], shape["N"])}
            for _ in range(shape["L"])
        ]

    def get(self, layer, key):
        return self.tensors[name_of(self.shape["layout"], layer, key)].squeeze()

    def norm(self, layer, key, x):
        variance, mean = torch.var_mean(x, unbiased=False)
        y = (x - mean) / torch.sqrt(variance + 1e-5)
        y = y * self.tensors[name_of(self.shape["layout"], layer, key, ".weight")]
        bias = self.tensors.get(name_of(self.shape["layout"], layer, key, ".bias"))
        return y if bias is None else y + bias

    def mixes(self, i, x, difference):
        """Each letter's mix, which depends on the token."""
        layout, rank = self.shape["layout"], self.shape["R"]
        x_x = x + difference * self.get(i, "mu_x")
        first, second = self.get(i, "W1"), self.get(i, "W2")
        inner = torch.tanh(first @ x_x if layout == "fla" else first.T @ x_x)
        mixes = {}
        for n, letter in enumerate(MIX_ORDERS[layout]):
            part = slice(n * rank, (n + 1) * rank)
            change = second[:, part] @ inner[part] if layout == "fla" else inner[part] @ second[n]
            if layout == "fla":
                mu = self.tensors[f"model.layers.{i}.attn.x_bias"][n]
            else:
                mu = self.tensors[name_of(layout, i, "mu_x")[:-1] + letter].squeeze()
            mixes[letter] = mu + change
        return mixes

    def time_mix(self, i, x):
        state, shape = self.state[i], self.shape
        w = lambda key: self.get(i, key)
        difference = state["x1"] - x
        state["x1"] = x
        mixed = {letter: x + difference * mix for letter, mix in self.mixes(i, x, difference).items()}
        r, k, v = w("W_r") @ mixed["r"], w("W_k") @ mixed["k"], w("W_v") @ mixed["v"]
        g = w("W_g") @ mixed["g"]
        first, second = w("D1"), w("D2")
        if shape["layout"] != "fla":
            first, second = first.T, second.T
        decay = torch.exp(-torch.exp(w("w").flatten() + second @ torch.tanh(first @ mixed["w"])))
        keys, values, out = shape["K"], shape["N"], []
        for h in range(shape["H"]):
            part, value_part = slice(h * keys, (h + 1) * keys), slice(h * values, (h + 1) * values)
            r_h, k_h, v_h = r[part], k[part], v[value_part]
            s = state["S"][h]
            y = s.T @ r_h + (r_h * w("u").reshape(-1, keys)[h] * k_h).sum() * v_h
            state["S"][h] = decay[part][:, None] * s + torch.outer(k_h, v_h)
            variance, mean = torch.var_mean(y, unbiased=False)
            y = (y - mean) / torch.sqrt(variance + shape.get("group_eps", 64e-5))
            y = y * self.tensors[name_of(shape["layout"], i, "ln_x", ".weight")][value_part]
            out.append(y + self.tensors[name_of(shape["layout"], i, "ln_x", ".bias")][value_part])
        return w("W_o") @ (torch.cat(out) * g * torch.sigmoid(g))

    def channel_mix(self, i, x):
        state = self.state[i]
        difference = state["x2"] - x
        state["x2"] = x
        k = torch.relu(self.get(i, "V_k") @ (x + difference * self.get(i, "mu_k"))) ** 2
        r = torch.sigmoid(self.get(i, "V_r") @ (x + difference * self.get(i, "mu_r")))
        return r * (self.get(i, "V_v") @ k)

    def logits(self, token):
        x = self.tensors[name_of(self.shape["layout"], None, "embedding")][token]
        x = self.norm(None, "ln0", x)
        for i in range(self.shape["L"]):
            x = x + self.time_mix(i, self.norm(i, "ln1", x))
            x = x + self.channel_mix(i, self.norm(i, "ln2", x))
        return self.tensors[name_of(self.shape["layout"], None, "head")] @ self.norm(None, "ln_out", x)


# ---- the variants --------------------------------------------------------------------------------

# C channels in H heads with keys of K and values of N, L layers, F between the channel mix's matrices, ranks of the
# mixes and of the decay.
VARIANTS = {
    "official": dict(layout="official", V=31, C=24, H=2, K=12, N=12, L=2, F=29, R=4, R_d=6, types=("F32", "F32")),
    "official_bf16": dict(layout="official", V=33, C=32, H=1, K=32, N=32, L=2, F=48, R=8, R_d=16,
                          types=("BF16", "BF16")),
    "hf": dict(layout="hf", V=27, C=24, H=3, K=8, N=8, L=2, F=40, R=3, R_d=5, types=("F16", "F32"), group_eps=16e-5),
    "fla": dict(layout="fla", V=29, C=32, H=2, K=8, N=16, L=2, F=36, R=5, R_d=7, types=("F16", "F32"),
                group_eps=1e-5),
}
TOKEN_COUNT = 100


def config_of(shape):
    config = {"model_type": "rwkv6"}
    if shape["layout"] == "official":  # whose checkpoints have none: all sizes come from the tensors
        return config
    config.update(vocab_size=shape["V"], hidden_size=shape["C"], num_hidden_layers=shape["L"],
                  intermediate_size=shape["F"], tie_word_embeddings=False)
    if shape["layout"] == "hf":
        config.update(attention_hidden_size=shape["C"], head_size=shape["K"], head_size_divisor=4, rescale_every=6,
                      layer_norm_epsilon=1e-5, bos_token_id=0, eos_token_id=0)
    else:
        config.update(num_heads=shape["H"], expand_k=shape["H"] * shape["K"] / shape["C"], expand_v=1.0,
                      hidden_ratio=3.5, proj_low_rank_dim=shape["R"], gate_low_rank_dim=shape["R_d"], attn=None,
                      hidden_act="sqrelu", norm_eps=1e-5, norm_first=True, norm_bias=True, eos_token_id=2)
    return config


def random_tensors(shape, rng):
    """name -> (dtype, array); numbers large enough that every part of the model shows in the logits."""
    layout, (matrix_type, vector_type) = shape["layout"], shape["types"]
    width, keys, values, rank = shape["C"], shape["H"] * shape["K"], shape["H"] * shape["N"], shape["R"]
    fla = layout == "fla"
    normal = lambda *size: rng.standard_normal(size)
    tensors = {}

    def add_matrix(layer, key, out_size, in_size, gain=1.0, transposed=False):
        matrix = gain * normal(out_size, in_size) / np.sqrt(in_size)
        tensors[name_of(layout, layer, key)] = (matrix_type, matrix.T if transposed else matrix)

    def add_channels(name, values):
        tensors[name] = (vector_type, values if fla else values.reshape(1, 1, -1))

    def add_norm(layer, key, size):
        tensors[name_of(layout, layer, key, ".weight")] = (vector_type, 1 + 0.3 * normal(size))
        tensors[name_of(layout, layer, key, ".bias")] = (vector_type, 0.3 * normal(size))

    tensors[name_of(layout, None, "embedding")] = (matrix_type, normal(shape["V"], width))
    add_norm(None, "ln0", width)
    for i in range(shape["L"]):
        add_norm(i, "ln1", width)
        add_norm(i, "ln2", width)
        add_channels(name_of(layout, i, "mu_x"), rng.random(width))
        if fla:
            tensors[f"model.layers.{i}.attn.x_bias"] = (vector_type, rng.random((5, width)))
        else:
            for letter in "wkvrg":
                add_channels(name_of(layout, i, "mu_x")[:-1] + letter, rng.random(width))
        add_matrix(i, "W1", 5 * rank, width, 1.5, transposed=not fla)
        second = normal(width, 5 * rank) / np.sqrt(rank)
        if not fla:
            second = np.stack([second[:, n * rank : (n + 1) * rank].T for n in range(5)])
        tensors[name_of(layout, i, "W2")] = (matrix_type, 0.5 * second)
        add_channels(name_of(layout, i, "w"), normal(keys) - 1)
        add_matrix(i, "D1", shape["R_d"], width, 1.5, transposed=not fla)
        add_matrix(i, "D2", keys, shape["R_d"], 1.0, transposed=not fla)
        tensors[name_of(layout, i, "u")] = (vector_type, normal(shape["H"], shape["K"]))
        for key, out_size, in_size in (("W_r", keys, width), ("W_k", keys, width), ("W_v", values, width),
                                       ("W_g", values, width), ("W_o", width, values)):
            add_matrix(i, key, out_size, in_size)
        add_norm(i, "ln_x", values)
        for key in ("mu_k", "mu_r"):
            add_channels(name_of(layout, i, key), rng.random(width))
        add_matrix(i, "V_k", shape["F"], width)
        add_matrix(i, "V_r", width, width)
        add_matrix(i, "V_v", width, shape["F"])
    add_norm(None, "ln_out", width)
    add_matrix(None, "head", shape["V"], width, 1.5)
    return tensors


def main():
    root = pathlib.Path(__file__).parent / "rwkv6"
    for seed, (name, shape) in enumerate(VARIANTS.items()):
        rng = np.random.default_rng(200 + seed)
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(config_of(shape), indent=2) + "\n", encoding="utf-8")
        write_safetensors(folder / "model.safetensors", random_tensors(shape, rng))
        model = Rwkv6(shape, read_safetensors(folder / "model.safetensors"))  # as rounded
        tokens = rng.integers(0, shape["V"], TOKEN_COUNT).tolist()
        write_expected_logits(folder, tokens, torch.stack([model.logits(token) for token in tokens]).numpy())


if __name__ == "__main__":
    main()
