#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes what golden_test.cc compares with: tiny random RWKV-7 models and their logits.

An independent statement of RWKV-7 (arXiv 2503.14456) in PyTorch, float64, one token, head and layer at a time, from
the formulas and not from the server's code. Debian's python3-torch is enough:

    /usr/bin/python3 tests/golden/make_rwkv7.py

It writes a folder per variant (config.json, model.safetensors, expected.safetensors) beside this file. Both kinds of
checkpoint are there: with the names of the official ones, whose low-rank matrices are stored as [in, out], and with
those of fla (Hugging Face). One is RWKV-7a, whose channel mix has a matrix of S by S numbers for each token of the
vocabulary (the deep embedding of rwkv-lm's RWKV-v7/rwkv_v7a_demo.py). expected.safetensors holds `tokens` [T] and
`logits` [T, vocabulary], both F32.
"""

import json
import pathlib

import numpy as np
import torch

from make_linear_transformer import read_safetensors, write_expected_logits, write_safetensors

# ---- names ---------------------------------------------------------------------------------------

# Ours below -> (official, fla). Behind "{p}" stand the layer and its number.
GLOBAL_NAMES = {
    "embedding": ("emb.weight", "model.embeddings.weight"),
    "head": ("head.weight", "lm_head.weight"),
    "ln_out": ("ln_out", "model.norm"),
    "ln0": ("blocks.0.ln0", "model.layers.0.pre_norm"),
}
LAYER_NAMES = {
    "ln1": ("ln1", "attn_norm"),
    "ln2": ("ln2", "ffn_norm"),
    "W_r": ("att.receptance.weight", "attn.r_proj.weight"),
    "W_k": ("att.key.weight", "attn.k_proj.weight"),
    "W_v": ("att.value.weight", "attn.v_proj.weight"),
    "W_o": ("att.output.weight", "attn.o_proj.weight"),
    "ln_x": ("att.ln_x", "attn.g_norm"),
    "k_k": ("att.k_k", "attn.k_k"),
    "k_a": ("att.k_a", "attn.k_a"),
    "r_k": ("att.r_k", "attn.r_k"),
    "x_ffn": ("ffn.x_k", "ffn.x_k"),
    "V_k": ("ffn.key.weight", "ffn.key.weight"),
    "V_v": ("ffn.value.weight", "ffn.value.weight"),
}
for letter in "rwkvag":
    LAYER_NAMES["x_" + letter] = ("att.x_" + letter, "attn.x_" + letter)
for letter in "wavg":
    lora = f"attn.{letter}_lora.lora."
    LAYER_NAMES[letter + "1"] = (f"att.{letter}1", lora + "0.weight")
    LAYER_NAMES[letter + "2"] = (f"att.{letter}2", lora + "2.weight")
    LAYER_NAMES[letter + "0"] = (f"att.{letter}0", lora + "2.bias")
LOW_RANK_MATRICES = {letter + number for letter in "wavg" for number in "12"} | {"s1", "s2"}
for name in ("s_emb.weight", "s_emb_x.weight", "s0", "s1", "s2"):  # the deep embedding's
    LAYER_NAMES[name] = (f"ffn.{name}", None)


def name_of(official, layer, key, part=""):
    """`layer` None: of the whole model."""
    index = 0 if official else 1
    if layer is None:
        return GLOBAL_NAMES[key][index] + part
    return f"{'blocks' if official else 'model.layers'}.{layer}." + LAYER_NAMES[key][index] + part


# ---- the model -----------------------------------------------------------------------------------


class Rwkv7:
    """One session: the weights, each [out, in], and the state."""

    def __init__(self, shape, tensors):
        self.shape, self.tensors = shape, tensors
        width, n = shape["C"], shape["N"]
        zeros = lambda *size: torch.zeros(*size, dtype=torch.float64)
        self.state = [
            {"x1": zeros(width), "x2": zeros(width), "S": zeros(width // n, n, n)} for _ in range(shape["L"])
        ]

    def get(self, layer, key):
        value = self.tensors[name_of(self.shape["official"], layer, key)].squeeze()
        return value.T if self.shape["official"] and key in LOW_RANK_MATRICES else value

    def norm(self, layer, key, x):
        official = self.shape["official"]
        variance, mean = torch.var_mean(x, unbiased=False)
        y = (x - mean) / torch.sqrt(variance + 1e-5) * self.tensors[name_of(official, layer, key, ".weight")]
        bias = self.tensors.get(name_of(official, layer, key, ".bias"))
        return y if bias is None else y + bias

    def mix(self, layer, letter):
        if self.shape.get("x_x"):
            return self.tensors[f"model.layers.{layer}.attn.x_x"]["rwkvag".index(letter)]
        return self.get(layer, "x_" + letter)

    def time_mix(self, i, x, v_first):
        """The change of the residual stream, and v of the first layer."""
        state, n = self.state[i], self.shape["N"]
        w = lambda key: self.get(i, key)
        xs = {s: x + (state["x1"] - x) * self.mix(i, s) for s in "rwkvag"}
        state["x1"] = x
        r, k, v = w("W_r") @ xs["r"], w("W_k") @ xs["k"], w("W_v") @ xs["v"]
        decay = torch.exp(-np.exp(-0.5) * torch.sigmoid(w("w0") + w("w2") @ torch.tanh(w("w1") @ xs["w"])))
        a = torch.sigmoid(w("a0") + w("a2") @ (w("a1") @ xs["a"]))
        g = w("g2") @ torch.sigmoid(w("g1") @ xs["g"])
        if i == 0:
            v_first = v
        else:
            v = v + (v_first - v) * torch.sigmoid(w("v0") + w("v2") @ (w("v1") @ xs["v"]))
        kappa_all = k * w("k_k")
        k = k * (1 + (a - 1) * w("k_a"))
        official = self.shape["official"]
        out = []
        for h in range(self.shape["C"] // n):
            part = slice(h * n, (h + 1) * n)
            kappa = kappa_all[part] / max(float(torch.linalg.norm(kappa_all[part])), 1e-12)
            # S is [value, key], as published.
            s = state["S"][h]
            s = s * decay[part] + torch.outer(s @ -kappa, kappa * a[part]) + torch.outer(v[part], k[part])
            state["S"][h] = s
            y = s @ r[part]
            variance, mean = torch.var_mean(y, unbiased=False)
            y = (y - mean) / torch.sqrt(variance + n * 1e-5)
            y = y * self.tensors[name_of(official, i, "ln_x", ".weight")][part]
            y = y + self.tensors[name_of(official, i, "ln_x", ".bias")][part]
            out.append(y + (r[part] * k[part] * w("r_k").reshape(-1, n)[h]).sum() * v[part])
        return w("W_o") @ (torch.cat(out) * g), v_first

    def deep_embedding(self, i, x, token):
        """What it multiplies the inner channels with."""
        size = self.shape["S"]
        first = self.norm(None, "ln0", self.tensors["emb.weight"][token])
        matrix = self.get(i, "s_emb.weight")[token] + self.get(i, "s_emb_x.weight") @ first
        return self.get(i, "s0") + self.get(i, "s2") @ ((self.get(i, "s1") @ x) @ matrix.reshape(size, size))

    def channel_mix(self, i, x, token):
        state = self.state[i]
        x_k = x + (state["x2"] - x) * self.get(i, "x_ffn")
        state["x2"] = x
        inner = torch.relu(self.get(i, "V_k") @ x_k) ** 2
        if "S" in self.shape:
            inner = inner * self.deep_embedding(i, x, token)
        return self.get(i, "V_v") @ inner

    def logits(self, token):
        x = self.tensors[name_of(self.shape["official"], None, "embedding")][token]
        if self.shape.get("norm_first", True):
            x = self.norm(None, "ln0", x)
        v_first = None
        for i in range(self.shape["L"]):
            change, v_first = self.time_mix(i, self.norm(i, "ln1", x), v_first)
            x = x + change
            x = x + self.channel_mix(i, self.norm(i, "ln2", x), token)
        return self.tensors[name_of(self.shape["official"], None, "head")] @ self.norm(None, "ln_out", x)


# ---- the variants --------------------------------------------------------------------------------

# C channels in heads of N, L layers, F between the channel mix's matrices, ranks of w, a, v and g.
VARIANTS = {
    "official": dict(official=True, V=29, C=40, N=20, L=3, F=53, ranks=(5, 6, 3, 9), types=("F32", "F32")),
    "official_bf16": dict(official=True, V=33, C=64, N=64, L=2, F=96, ranks=(8, 8, 4, 16), types=("BF16", "BF16")),
    "fla": dict(official=False, V=31, C=36, N=12, L=3, F=50, ranks=(7, 4, 3, 10), types=("F32", "F32")),
    "fla_f16": dict(official=False, V=23, C=64, N=32, L=2, F=64, ranks=(8, 8, 8, 8), types=("F16", "F32")),
    "fla_first": dict(official=False, V=21, C=48, N=16, L=2, F=40, ranks=(5, 5, 5, 5), types=("F16", "F32"), x_x=True,
                      norm_first=False, norm_bias=False),
    "deep_embedding": dict(official=True, V=19, C=24, N=12, L=2, F=40, ranks=(5, 4, 3, 7), types=("BF16", "F32"), S=5),
}
TOKEN_COUNT = 45


def config_of(shape):
    config = {"model_type": "rwkv7"}
    if shape["official"]:  # whose checkpoints have none: all sizes come from the tensors
        return config
    w, a, v, g = shape["ranks"]
    config.update(vocab_size=shape["V"], hidden_size=shape["C"], num_hidden_layers=shape["L"], head_dim=shape["N"],
                  intermediate_size=shape["F"], decay_low_rank_dim=w, a_low_rank_dim=a, v_low_rank_dim=v,
                  gate_low_rank_dim=g, hidden_act="sqrelu", norm_eps=1e-5, norm_first=shape.get("norm_first", True),
                  norm_bias=shape.get("norm_bias", True), tie_word_embeddings=False, attn=None, eos_token_id=2)
    return config


def random_tensors(shape, rng):
    """name -> (dtype, array); numbers large enough that every part of the model shows in the logits."""
    official, (matrix_type, vector_type) = shape["official"], shape["types"]
    width, n = shape["C"], shape["N"]
    normal = lambda *size: rng.standard_normal(size)
    tensors = {}

    def add_matrix(layer, key, out_size, in_size, gain=1.0):
        matrix = gain * normal(out_size, in_size) / np.sqrt(in_size)
        if official and key in LOW_RANK_MATRICES:
            matrix = matrix.T
        tensors[name_of(official, layer, key)] = (matrix_type, matrix)

    def add_channels(layer, key, values, wide=False):
        tensors[name_of(official, layer, key)] = (vector_type, values.reshape(1, 1, -1) if wide else values)

    def add_norm(layer, key, has_bias=shape.get("norm_bias", True)):
        tensors[name_of(official, layer, key, ".weight")] = (vector_type, 1 + 0.3 * normal(width))
        if has_bias:
            tensors[name_of(official, layer, key, ".bias")] = (vector_type, 0.3 * normal(width))

    tensors[name_of(official, None, "embedding")] = (matrix_type, normal(shape["V"], width))
    if shape.get("norm_first", True):
        add_norm(None, "ln0")
    for i in range(shape["L"]):
        add_norm(i, "ln1")
        add_norm(i, "ln2")
        if shape.get("x_x"):
            tensors[f"model.layers.{i}.attn.x_x"] = (vector_type, rng.random((6, width)))
        else:
            for letter in "rwkvag":
                add_channels(i, "x_" + letter, rng.random(width), wide=True)
        for letter, rank in zip("wavg", shape["ranks"]):
            if letter == "v" and i == 0 and not official:
                continue  # official checkpoints may have it in the first layer: never read
            add_matrix(i, letter + "1", rank, width, 1.5)
            add_matrix(i, letter + "2", width, rank, 1.5)
            if letter != "g":
                add_channels(i, letter + "0", normal(width), wide=official)
        for key in ("W_r", "W_k", "W_v", "W_o"):
            add_matrix(i, key, width, width)
        add_channels(i, "k_k", 0.8 + 0.3 * normal(width), wide=official)
        add_channels(i, "k_a", 1 + 0.3 * normal(width), wide=official)
        tensors[name_of(official, i, "r_k")] = (vector_type, 0.4 * normal(width // n, n))
        add_norm(i, "ln_x", has_bias=True)
        add_channels(i, "x_ffn", rng.random(width), wide=official)
        add_matrix(i, "V_k", shape["F"], width)
        add_matrix(i, "V_v", width, shape["F"])
        if "S" in shape:
            size = shape["S"]
            table = normal(shape["V"], size * size)
            tensors[name_of(official, i, "s_emb.weight")] = (matrix_type, table / np.sqrt(size))
            add_matrix(i, "s_emb_x.weight", size * size, width, 0.5)
            add_matrix(i, "s1", size, width)
            add_matrix(i, "s2", shape["F"], size)
            add_channels(i, "s0", 1 + 0.3 * normal(shape["F"]), wide=True)
    add_norm(None, "ln_out")
    add_matrix(None, "head", shape["V"], width, 1.5)
    return tensors


def main():
    root = pathlib.Path(__file__).parent / "rwkv7"
    for seed, (name, shape) in enumerate(VARIANTS.items()):
        rng = np.random.default_rng(100 + seed)
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(config_of(shape), indent=2) + "\n", encoding="utf-8")
        write_safetensors(folder / "model.safetensors", random_tensors(shape, rng))
        model = Rwkv7(shape, read_safetensors(folder / "model.safetensors"))  # as rounded
        tokens = rng.integers(0, shape["V"], TOKEN_COUNT).tolist()
        write_expected_logits(folder, tokens, torch.stack([model.logits(token) for token in tokens]).numpy())


if __name__ == "__main__":
    main()
