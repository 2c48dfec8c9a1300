#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the goldens of Gated DeltaNet: tiny random Gated DeltaNets in fla's layout and their logits.

An independent statement of Gated DeltaNet (arXiv 2412.06464) in PyTorch, float64, one token, head and layer at a time,
from the formulas and not from the server's code. Debian's python3-torch is enough:

    /usr/bin/python3 tests/golden/make_gated_deltanet.py

It writes a folder per variant (config.json, model.safetensors, expected.safetensors) beside this file.
expected.safetensors holds `tokens` [T] and `logits` [T, vocabulary], both F32.
"""

import json
import pathlib

import numpy as np
import torch
from torch.nn.functional import silu, softplus

from make_linear_transformer import read_safetensors, write_expected_logits, write_safetensors


def rms(x, weight, eps):
    return x / torch.sqrt((x * x).mean() + eps) * weight


def feed_forward_size(config):
    wanted = int(config["hidden_size"] * config.get("hidden_ratio", 4) * 2 / 3)
    return config.get("intermediate_size") or -(-wanted // 256) * 256


class GatedDeltaNet:
    """One session: the weights and the state."""

    def __init__(self, config, tensors):
        self.config, self.tensors = config, tensors
        self.key_size = config["head_dim"]
        self.value_heads = config.get("num_v_heads") or config["num_heads"]
        self.value_size = int(config["head_dim"] * config["expand_v"])
        self.eps = config.get("norm_eps") or config.get("rms_norm_eps")
        shape = (self.value_heads, self.key_size, self.value_size)
        self.state = [torch.zeros(shape, dtype=torch.float64) for _ in range(config["num_hidden_layers"])]
        self.inputs = {}  # of each convolution, from the first token on

    def convolve(self, name, x):
        """The whole history, newest last, against the weight's last columns."""
        history = self.inputs.setdefault(name, [])
        history.append(x)
        weight = self.tensors[name].squeeze(1)
        taps = min(len(history), weight.shape[1])
        past = torch.stack(history[-taps:], dim=1)
        return silu((past * weight[:, weight.shape[1] - taps :]).sum(dim=1))

    def mix(self, i, x):
        p = f"model.layers.{i}.attn."
        w = lambda name: self.tensors[p + name]
        q, k, v = (self.convolve(p + s + "_conv1d.weight", w(s + "_proj.weight") @ x) for s in "qkv")
        q, k = (t.reshape(-1, self.key_size) for t in (q, k))
        v = v.reshape(self.value_heads, self.value_size)
        beta = torch.sigmoid(w("b_proj.weight") @ x) * (2 if self.config.get("allow_neg_eigval") else 1)
        log_decay = -torch.exp(w("A_log")) * softplus(w("a_proj.weight") @ x + w("dt_bias"))
        gate = w("g_proj.weight") @ x if self.config.get("use_gate", True) else None
        out = []
        for h in range(self.value_heads):
            source = h // (self.value_heads // self.config["num_heads"])
            q_h, k_h = (t[source] / torch.sqrt((t[source] ** 2).sum() + 1e-6) for t in (q, k))
            s = torch.exp(log_decay[h]) * self.state[i][h]
            s = s + torch.outer(k_h, beta[h] * (v[h] - s.T @ k_h))
            self.state[i][h] = s
            out.append(rms(s.T @ q_h * self.key_size**-0.5, w("o_norm.weight"), self.eps))
        out = torch.cat(out)
        return w("o_proj.weight") @ (out if gate is None else out * silu(gate))

    def logits(self, token):
        w = lambda name: self.tensors[name]
        x = w("model.embeddings.weight")[token]
        for i in range(self.config["num_hidden_layers"]):
            p = f"model.layers.{i}."
            x = x + self.mix(i, rms(x, w(p + "attn_norm.weight"), self.eps))
            h = rms(x, w(p + "mlp_norm.weight"), self.eps)
            inner = silu(w(p + "mlp.gate_proj.weight") @ h) * (w(p + "mlp.up_proj.weight") @ h)
            x = x + w(p + "mlp.down_proj.weight") @ inner
        head = "model.embeddings.weight" if self.config.get("tie_word_embeddings") else "lm_head.weight"
        return w(head) @ rms(x, w("model.norm.weight"), self.eps)


# ---- the variants --------------------------------------------------------------------------------

PLAIN = {
    "model_type": "gated_deltanet",
    "vocab_size": 29,
    "hidden_size": 36,
    "num_hidden_layers": 2,
    "num_heads": 3,
    "head_dim": 10,
    "expand_v": 2.0,
    "conv_size": 4,
    "intermediate_size": 50,
    "hidden_act": "swish",
    "norm_eps": 1e-6,
    "use_gate": True,
    "use_short_conv": True,
    "attn": None,
    "eos_token_id": 2,
}
# name -> (changes to PLAIN, dtype of the matrices)
VARIANTS = {
    "plain": ({}, "F32"),
    # More value heads than key heads, V no multiple of a vector, another width of convolution.
    "grouped": ({"num_heads": 2, "num_v_heads": 4, "head_dim": 12, "expand_v": 1.5, "conv_size": 3}, "F16"),
    # No gate, the older spelling of eps, the feed-forward part's default size.
    "no_gate": ({"use_gate": False, "norm_eps": None, "rms_norm_eps": 1e-5, "intermediate_size": None,
                 "hidden_ratio": 4, "num_hidden_layers": 1}, "BF16"),
    "wide": ({"hidden_size": 64, "num_heads": 1, "head_dim": 64, "expand_v": 1}, "BF16"),
    "negative": ({"hidden_size": 24, "num_heads": 2, "head_dim": 8, "allow_neg_eigval": True, "num_hidden_layers": 1,
                  "tie_word_embeddings": True}, "BF16"),
}
TOKEN_COUNT = 45


def random_tensors(config, matrix_type, rng):
    """name -> (dtype, array); numbers large enough that every part of the model shows in the logits."""
    width, inner = config["hidden_size"], feed_forward_size(config)
    heads = config.get("num_v_heads") or config["num_heads"]
    keys, value_size = config["num_heads"] * config["head_dim"], int(config["head_dim"] * config["expand_v"])
    normal = lambda *size: rng.standard_normal(size)
    tensors = {}

    def add_matrix(name, out_size, in_size, gain=1.0):
        tensors[name] = (matrix_type, gain * normal(out_size, in_size) / np.sqrt(in_size))

    def add_norm(name, size):
        tensors[name] = ("F32", 1 + 0.3 * normal(size))

    add_matrix("model.embeddings.weight", config["vocab_size"], width, np.sqrt(width))
    for i in range(config["num_hidden_layers"]):
        p = f"model.layers.{i}."
        add_norm(p + "attn_norm.weight", width)
        add_norm(p + "mlp_norm.weight", width)
        for letter, channels in (("q", keys), ("k", keys), ("v", heads * value_size)):
            add_matrix(p + f"attn.{letter}_proj.weight", channels, width, 1.5)
            tensors[p + f"attn.{letter}_conv1d.weight"] = (matrix_type, normal(channels, 1, config["conv_size"]))
        add_matrix(p + "attn.a_proj.weight", heads, width)
        add_matrix(p + "attn.b_proj.weight", heads, width)
        tensors[p + "attn.A_log"] = ("F32", np.log(rng.uniform(0.05, 1.0, heads)))
        tensors[p + "attn.dt_bias"] = ("F32", normal(heads) - 1)
        if config["use_gate"]:
            add_matrix(p + "attn.g_proj.weight", heads * value_size, width)
        add_norm(p + "attn.o_norm.weight", value_size)
        add_matrix(p + "attn.o_proj.weight", width, heads * value_size)
        add_matrix(p + "mlp.gate_proj.weight", inner, width)
        add_matrix(p + "mlp.up_proj.weight", inner, width)
        add_matrix(p + "mlp.down_proj.weight", width, inner)
    add_norm("model.norm.weight", width)
    if not config.get("tie_word_embeddings"):
        add_matrix("lm_head.weight", config["vocab_size"], width, 1.5)
    return tensors


def main():
    root = pathlib.Path(__file__).parent / "gated_deltanet"
    for seed, (name, (changes, matrix_type)) in enumerate(VARIANTS.items()):
        rng = np.random.default_rng(200 + seed)
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        config = {**PLAIN, **changes}
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        write_safetensors(folder / "model.safetensors", random_tensors(config, matrix_type, rng))
        model = GatedDeltaNet(config, read_safetensors(folder / "model.safetensors"))  # as rounded
        tokens = rng.integers(0, config["vocab_size"], TOKEN_COUNT).tolist()
        write_expected_logits(folder, tokens, torch.stack([model.logits(token) for token in tokens]).numpy())


if __name__ == "__main__":
    main()
