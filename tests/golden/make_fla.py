#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the goldens of fla's families: tiny random models in fla's layout and their logits.

Independent statements of linear attention, RetNet, GLA, HGRN2, DeltaNet and KDA in PyTorch, float64, one token, head
and layer at a time, from the papers' formulas and fla's names, not from the server's code. Debian's python3-torch is
enough:

    /usr/bin/python3 tests/golden/make_fla.py [FAMILY ...]

It writes a folder per family and case (config.json, model.safetensors, expected.safetensors) beside this file.
"""

import json
import math
import pathlib
import sys

import numpy as np
import torch
from torch.nn.functional import logsigmoid, relu, silu, softplus

from make_gated_deltanet import feed_forward_size, rms
from make_linear_transformer import read_safetensors, write_expected_logits, write_safetensors

TOKEN_COUNT = 45
FUNCTIONS = {"silu": silu, "swish": silu, "relu": relu, "sigmoid": torch.sigmoid, "identity": lambda x: x,
             "sqrelu": lambda x: relu(x) ** 2,
             "elu": lambda x: torch.where(x > 0, x + 1, torch.exp(x))}


class FlaModel:
    """One session of a model: the weights and the state. A family says what a layer's mixer does."""

    def __init__(self, config, tensors):
        self.config, self.tensors = config, tensors
        self.eps = config.get("norm_eps") or config.get("rms_norm_eps") or 1e-6
        self.position = 0
        self.state, self.normaliser, self.inputs = {}, {}, {}

    def heads(self):
        """(H, K, V) of expand_k and expand_v."""
        h, d = self.config["num_heads"], self.config["hidden_size"]
        return h, round(d * self.config["expand_k"]) // h, round(d * self.config["expand_v"]) // h

    def convolve(self, name, x, activation=silu):
        history = self.inputs.setdefault(name, [])
        history.append(x)
        weight = self.tensors[name].squeeze(1)
        taps = min(len(history), weight.shape[1])
        past = torch.stack(history[-taps:], dim=1)
        return activation((past * weight[:, weight.shape[1] - taps :]).sum(dim=1))

    def project(self, i, letter, x, size, activation=silu):
        """[heads, size] of a projection, through the convolution where the model has one."""
        name = f"model.layers.{i}.attn.{letter}"
        y = self.tensors[name + "_proj.weight"] @ x
        if name + "_conv1d.weight" in self.tensors:
            y = self.convolve(name + "_conv1d.weight", y, activation)
        return y.reshape(-1, size)

    def s(self, i, h, key_size, value_size):
        return self.state.setdefault((i, h), torch.zeros(key_size, value_size, dtype=torch.float64))

    def finish(self, i, norm, out, gate=None, activation=silu):
        """W_o of the normed heads `out` [H, V]."""
        p = f"model.layers.{i}.attn."
        out = torch.cat([rms(o, self.tensors[p + norm + ".weight"], self.eps) for o in out])
        if gate is not None:
            out = out * activation(gate)
        return self.tensors[p + "o_proj.weight"] @ out

    def feed_forward(self, p, h):
        gate, inner = self.tensors[p + "gate_proj.weight"], feed_forward_size(self.config)
        up = self.tensors.get(p + "up_proj.weight")
        if up is None:
            gate, up = gate[:inner], gate[inner:]
        return self.tensors[p + "down_proj.weight"] @ (silu(gate @ h) * (up @ h))

    def logits(self, token):
        w = self.tensors
        x = w["model.embeddings.weight"][token]
        for i in range(self.config["num_hidden_layers"]):
            p = f"model.layers.{i}."
            x = x + self.mix(i, rms(x, w[p + "attn_norm.weight"], self.eps))
            x = x + self.feed_forward(p + "mlp.", rms(x, w[p + "mlp_norm.weight"], self.eps))
        self.position += 1
        head = "model.embeddings.weight" if self.config.get("tie_word_embeddings") else "lm_head.weight"
        return w[head] @ rms(x, w["model.norm.weight"], self.eps)


class LinearAttention(FlaModel):
    def feature(self, i, which, x):
        p = f"model.layers.{i}.attn.feature_map_{which}."
        w = lambda name: self.tensors[p + name]
        kind = self.config.get("feature_map", "elementwise_product")
        if kind == "elementwise_product":
            return (w("layer1.weight") @ x + w("layer1.bias")) * (w("layer2.weight") @ x + w("layer2.bias"))
        if kind == "hedgehog":
            y = 2 * (w("layer.weight") @ x + w("layer.bias"))
            return torch.softmax(torch.cat([y, -y]), dim=0)
        if kind == "t2r":
            return relu(w("layer.weight") @ x)
        return FUNCTIONS[kind](x)

    def mix(self, i, x):
        heads, key_size, value_size = self.heads()
        q, k, v = (self.project(i, s, x, n) for s, n in (("q", key_size), ("k", key_size), ("v", value_size)))
        out = []
        for h in range(heads):
            shared = h // (heads // k.shape[0])
            a = self.feature(i, "q", q[h])
            b = self.feature(i, "q" if self.config.get("tie_feature_map_qk") else "k", k[shared])
            if self.config.get("norm_q"):
                a = a / (a.sum() + 1e-4)
            if self.config.get("norm_k"):
                b = b / (b.sum() + 1e-4)
            scale = len(a) ** -0.5
            s = self.s(i, h, len(a), value_size) + torch.outer(b, v[shared])
            self.state[i, h] = s
            o = scale * (s.T @ a)
            if self.config.get("norm_feature_map"):
                z = self.normaliser.get((i, h), 0) + b
                self.normaliser[i, h] = z
                o = o / (scale * (a @ z) + 1e-10)
            out.append(o)
        return self.finish(i, "norm", out)


def rotated(x, position):
    half = len(x) // 2
    angle = position * 10000.0 ** (-torch.arange(half, dtype=torch.float64) / half)
    low, high = x[:half], x[half:]
    return torch.cat([low * angle.cos() - high * angle.sin(), high * angle.cos() + low * angle.sin()])


class RetNet(FlaModel):
    def mix(self, i, x):
        heads, key_size, value_size = self.heads()
        q, k, v = (self.project(i, s, x, n) for s, n in (("q", key_size), ("k", key_size), ("v", value_size)))
        f = FUNCTIONS[self.config.get("feature_map") or "identity"]
        out = []
        for h in range(heads):
            shared = h // (heads // k.shape[0])
            gamma = 1 - 2.0 ** (-5 - h)
            a, b = rotated(f(q[h]), self.position), rotated(f(k[shared]), self.position)
            self.state[i, h] = gamma * self.s(i, h, key_size, value_size) + torch.outer(b, v[shared])
            out.append(key_size**-0.5 * (self.state[i, h].T @ a))
        return self.finish_gated(i, x, out)

    def finish_gated(self, i, x, out):
        p = f"model.layers.{i}.attn."
        if not self.config.get("use_output_gate", True):
            return self.finish(i, "g_norm", out)
        fused = p + "g_norm_swish_gate.weight" in self.tensors
        return self.finish(i, "g_norm_swish_gate" if fused else "g_norm", out, self.tensors[p + "g_proj.weight"] @ x)


class Gla(RetNet):
    def mix(self, i, x):
        heads, key_size, value_size = self.heads()
        q, k, v = (self.project(i, s, x, n) for s, n in (("q", key_size), ("k", key_size), ("v", value_size)))
        f = FUNCTIONS[self.config.get("feature_map") or "identity"]
        w = lambda name: self.tensors[f"model.layers.{i}.attn.gk_proj.{name}"]
        log_decay = logsigmoid(w("1.weight") @ (w("0.weight") @ x) + w("1.bias")) / 16
        if self.config.get("clamp_min") is not None:
            log_decay = torch.clamp(log_decay, min=self.config["clamp_min"])
        log_decay = log_decay.reshape(-1, key_size)
        out = []
        for h in range(heads):
            shared = h // (heads // k.shape[0])
            decayed = torch.exp(log_decay[shared])[:, None] * self.s(i, h, key_size, value_size)
            self.state[i, h] = decayed + torch.outer(f(k[shared]), v[shared])
            out.append(key_size**-0.5 * (self.state[i, h].T @ f(q[h])))
        return self.finish_gated(i, x, out)


class Hgrn2(FlaModel):
    def mix(self, i, x):
        key_size = self.config["expand_ratio"]
        heads = self.config.get("num_heads") or self.config["hidden_size"] // key_size
        value_size = self.config["hidden_size"] // heads
        q, f, v = (self.project(i, s, x, n, FUNCTIONS["identity"])
                   for s, n in (("q", key_size), ("f", key_size), ("i", value_size)))
        bound = torch.zeros_like(f)
        if self.config.get("use_lower_bound", True) and i > 0:
            mass = torch.softmax(self.tensors["model.lower_bounds"], dim=0)
            bound = mass[1 : i + 1].sum(dim=0).reshape(heads, key_size)
        decay = bound + (1 - bound) * torch.sigmoid(f)
        out = []
        for h in range(heads):
            s = decay[h][:, None] * self.s(i, h, key_size, value_size) + torch.outer(1 - decay[h], v[h])
            self.state[i, h] = s
            out.append(key_size**-0.5 * (s.T @ silu(q[h])))
        p = f"model.layers.{i}.attn."
        return self.tensors[p + "o_proj.weight"] @ rms(torch.cat(out), self.tensors[p + "g_norm.weight"], 1e-5)


class DeltaNet(FlaModel):
    def mix(self, i, x):
        heads, key_size, value_size = self.heads()
        p = f"model.layers.{i}.attn."
        f = FUNCTIONS[self.config.get("qk_activation", "silu")]
        convolves = self.config.get("use_short_conv", True)
        q, k = (self.project(i, s, x, key_size, f) for s in "qk")
        v = self.project(i, "v", x, value_size)
        if not convolves:
            q, k, v = f(q), f(k), silu(v)
        beta = torch.ones(heads, dtype=torch.float64)
        if self.config.get("use_beta", True):
            beta = torch.sigmoid(self.tensors[p + "b_proj.weight"] @ x)
        if self.config.get("allow_neg_eigval"):
            beta = 2 * beta
        if self.config.get("qk_norm", "l2") == "sum":
            unit = lambda y: y / y.sum()
        else:
            unit = lambda y: y / torch.sqrt((y * y).sum() + 1e-6)
        out = []
        for h in range(heads):
            a, b = unit(q[h]), unit(k[h])
            s = self.s(i, h, key_size, value_size)
            s = s + torch.outer(b, beta[h] * (v[h] - s.T @ b))
            self.state[i, h] = s
            out.append(key_size**-0.5 * (s.T @ a))
        gate = self.tensors[p + "g_proj.weight"] @ x if self.config.get("use_gate") else None
        return self.finish(i, "o_norm", out, gate)


class Kda(FlaModel):
    def mix(self, i, x):
        key_size, value_heads = self.config["head_dim"], self.config.get("num_v_heads") or self.config["num_heads"]
        value_size = round(key_size * self.config["expand_v"])
        w = lambda name: self.tensors[f"model.layers.{i}.attn.{name}"]
        q, k, v = (self.project(i, s, x, n) for s, n in (("q", key_size), ("k", key_size), ("v", value_size)))
        beta = torch.sigmoid(w("b_proj.weight") @ x) * (2 if self.config.get("allow_neg_eigval") else 1)
        f = w("f_proj.1.weight") @ (w("f_proj.0.weight") @ x) + w("dt_bias")
        rate, f = torch.exp(w("A_log").reshape(-1)), f.reshape(value_heads, key_size)
        unit = lambda y: y / torch.sqrt((y * y).sum() + 1e-6)
        out = []
        for h in range(value_heads):
            shared = h // (value_heads // self.config["num_heads"])
            bound = self.config.get("lower_bound")
            log_decay = -rate[h] * softplus(f[h]) if bound is None else bound * torch.sigmoid(rate[h] * f[h])
            a, b = unit(q[shared]), unit(k[shared])
            s = torch.exp(log_decay)[:, None] * self.s(i, h, key_size, value_size)
            s = s + torch.outer(b, beta[h] * (v[h] - s.T @ b))
            self.state[i, h] = s
            out.append(key_size**-0.5 * (s.T @ a))
        gate = w("g_proj.1.weight") @ (w("g_proj.0.weight") @ x) + w("g_proj.1.bias")
        return self.finish(i, "o_norm", out, gate, torch.sigmoid)


# ---- random weights --------------------------------------------------------------------------------------


class Writer:
    """Random tensors; numbers large enough that every part of the model shows in the logits."""

    def __init__(self, config, matrix_type, rng):
        self.config, self.matrix_type, self.rng, self.tensors = config, matrix_type, rng, {}
        self.width = config["hidden_size"]

    def matrix(self, name, out_size, in_size=None, gain=1.0):
        in_size = in_size or self.width
        self.tensors[name] = (self.matrix_type, gain * self.rng.standard_normal((out_size, in_size)) / in_size**0.5)

    def vector(self, name, *shape, dtype="F32", mean=0.0, deviation=1.0):
        self.tensors[name] = (dtype, mean + deviation * self.rng.standard_normal(shape))

    def norm(self, name, size):
        self.vector(name, size, mean=1.0, deviation=0.3)

    def convolution(self, name, channels):
        self.vector(name, channels, 1, self.config["conv_size"], dtype=self.matrix_type)

    def model(self, write_mixer):
        config, inner = self.config, feed_forward_size(self.config)
        self.matrix("model.embeddings.weight", config["vocab_size"], gain=self.width**0.5)
        for i in range(config["num_hidden_layers"]):
            p = f"model.layers.{i}."
            self.norm(p + "attn_norm.weight", self.width)
            self.norm(p + "mlp_norm.weight", self.width)
            write_mixer(self, p + "attn.")
            if config.get("fused_gate_proj"):
                self.matrix(p + "mlp.gate_proj.weight", 2 * inner)
            else:
                self.matrix(p + "mlp.gate_proj.weight", inner)
                self.matrix(p + "mlp.up_proj.weight", inner)
            self.matrix(p + "mlp.down_proj.weight", self.width, inner)
        self.norm("model.norm.weight", self.width)
        if not config.get("tie_word_embeddings"):
            self.matrix("lm_head.weight", config["vocab_size"], gain=1.5)
        return self.tensors

    def expanded(self):
        """(stored heads, heads, K, V)"""
        h = self.config["num_heads"]
        sizes = [round(self.width * self.config[key]) // h for key in ("expand_k", "expand_v")]
        return self.config.get("num_kv_heads") or h, h, *sizes


def write_linear_attention(writer, p):
    stored, heads, key_size, value_size = writer.expanded()
    writer.matrix(p + "q_proj.weight", heads * key_size)
    writer.matrix(p + "k_proj.weight", stored * key_size)
    writer.matrix(p + "v_proj.weight", stored * value_size)
    kind, tied = writer.config.get("feature_map", "elementwise_product"), writer.config.get("tie_feature_map_qk")
    for which in "q" if tied else "qk":
        name = p + f"feature_map_{which}."
        layers = {"elementwise_product": ("layer1", "layer2"), "hedgehog": ("layer",), "t2r": ("layer",)}.get(kind, ())
        for layer in layers:
            writer.matrix(name + layer + ".weight", key_size, key_size)
            if kind != "t2r":
                writer.vector(name + layer + ".bias", key_size)
    writer.norm(p + "norm.weight", value_size)
    writer.matrix(p + "o_proj.weight", writer.width, heads * value_size)


def write_gated(writer, p, fused):
    _, heads, _, value_size = writer.expanded()
    gated = writer.config.get("use_output_gate", True)
    if gated:
        writer.matrix(p + "g_proj.weight", heads * value_size)
    writer.norm(p + ("g_norm_swish_gate.weight" if gated and fused else "g_norm.weight"), value_size)
    writer.matrix(p + "o_proj.weight", writer.width, heads * value_size)


def write_streams(writer, p):
    stored, heads, key_size, value_size = writer.expanded()
    for letter, channels in (("q", heads * key_size), ("k", stored * key_size), ("v", stored * value_size)):
        writer.matrix(p + f"{letter}_proj.weight", channels, gain=1.5)
        if writer.config.get("use_short_conv"):
            writer.convolution(p + f"{letter}_conv1d.weight", channels)


def write_retnet(writer, p):
    write_streams(writer, p)
    write_gated(writer, p, writer.config.get("fuse_norm", True))


def write_gla(writer, p):
    stored, _, key_size, _ = writer.expanded()
    write_streams(writer, p)
    writer.matrix(p + "gk_proj.0.weight", 5)
    writer.matrix(p + "gk_proj.1.weight", stored * key_size, 5, gain=8.0)
    writer.vector(p + "gk_proj.1.bias", stored * key_size)
    write_gated(writer, p, writer.config.get("fuse_norm", True))


def write_hgrn2(writer, p):
    width, key_size = writer.width, writer.config["expand_ratio"]
    keys = (writer.config.get("num_heads") or width // key_size) * key_size
    for letter, channels in (("q", keys), ("f", keys), ("i", width)):
        writer.matrix(p + f"{letter}_proj.weight", channels, gain=1.5)
    writer.norm(p + "g_norm.weight", width)
    writer.matrix(p + "o_proj.weight", width, width)
    if writer.config.get("use_lower_bound", True) and "model.lower_bounds" not in writer.tensors:
        writer.vector("model.lower_bounds", writer.config["num_hidden_layers"], keys)


def write_delta_net(writer, p):
    _, heads, key_size, value_size = writer.expanded()
    for letter, channels in (("q", heads * key_size), ("k", heads * key_size), ("v", heads * value_size)):
        writer.matrix(p + f"{letter}_proj.weight", channels, gain=1.5)
        if writer.config.get("use_short_conv", True):
            writer.convolution(p + f"{letter}_conv1d.weight", channels)
    if writer.config.get("use_beta", True):
        writer.matrix(p + "b_proj.weight", heads)
    if writer.config.get("use_gate"):
        writer.matrix(p + "g_proj.weight", heads * value_size)
    writer.norm(p + "o_norm.weight", value_size)
    writer.matrix(p + "o_proj.weight", writer.width, heads * value_size)


def write_kda(writer, p):
    config = writer.config
    heads, key_size = config.get("num_v_heads") or config["num_heads"], config["head_dim"]
    value_size, keys = round(key_size * config["expand_v"]), config["num_heads"] * key_size
    for letter, channels in (("q", keys), ("k", keys), ("v", heads * value_size)):
        writer.matrix(p + f"{letter}_proj.weight", channels, gain=1.5)
        writer.convolution(p + f"{letter}_conv1d.weight", channels)
    writer.matrix(p + "f_proj.0.weight", value_size)
    writer.matrix(p + "f_proj.1.weight", heads * key_size, value_size)
    writer.matrix(p + "b_proj.weight", heads)
    writer.tensors[p + "A_log"] = ("F32", np.log(writer.rng.uniform(0.05, 1.0, heads)))
    writer.vector(p + "dt_bias", heads * key_size, mean=-1.0)
    writer.matrix(p + "g_proj.0.weight", value_size)
    writer.matrix(p + "g_proj.1.weight", heads * value_size, value_size)
    writer.vector(p + "g_proj.1.bias", heads * value_size)
    writer.norm(p + "o_norm.weight", value_size)
    writer.matrix(p + "o_proj.weight", writer.width, heads * value_size)


# ---- the cases -------------------------------------------------------------------------------------------

BASE = {"vocab_size": 29, "hidden_size": 24, "num_hidden_layers": 2, "hidden_act": "swish", "intermediate_size": 40,
        "norm_eps": 1e-6, "attn": None, "eos_token_id": 2}
# family -> (reference, writer, settings of all cases, {case: (changes, dtype of the matrices)})
FAMILIES = {
    "linear_attn": (LinearAttention, write_linear_attention, {"num_heads": 2, "expand_k": 1.0, "expand_v": 1.0}, {
        "product": ({}, "F16"),
        "hedgehog": ({"feature_map": "hedgehog", "norm_feature_map": True}, "BF16"),
        "t2r_tied": ({"feature_map": "t2r", "tie_feature_map_qk": True, "expand_v": 2.0}, "F16"),
        # The paper's own, fewer heads of keys and values, the older layout of the feed-forward part.
        "elu": ({"feature_map": "elu", "norm_q": True, "norm_k": True, "norm_feature_map": True, "num_heads": 4,
                 "num_kv_heads": 2, "fused_gate_proj": True}, "BF16"),
    }),
    "retnet": (RetNet, write_retnet, {"num_heads": 2, "expand_k": 1.0, "expand_v": 2.0}, {
        "plain": ({}, "F16"),
        "no_gate": ({"use_output_gate": False, "feature_map": "relu", "num_heads": 4, "num_kv_heads": 2,
                     "hidden_ratio": 2, "rms_norm_eps": 1e-5, "norm_eps": None}, "BF16"),
        "unfused": ({"fuse_norm": False, "expand_v": 1.0, "tie_word_embeddings": True}, "F32"),
    }),
    "gla": (Gla, write_gla, {"num_heads": 2, "expand_k": 0.5, "expand_v": 1.0}, {
        "plain": ({}, "F16"),
        "convolved": ({"use_short_conv": True, "conv_size": 3, "clamp_min": -0.05, "feature_map": "relu"}, "BF16"),
        "shared": ({"num_heads": 4, "num_kv_heads": 1, "expand_k": 1.0, "use_output_gate": False,
                    "tie_word_embeddings": True}, "F16"),
    }),
    "hgrn2": (Hgrn2, write_hgrn2, {"expand_ratio": 8}, {
        "plain": ({"num_hidden_layers": 3}, "F16"),
        "no_bound": ({"use_lower_bound": False, "num_heads": 2}, "BF16"),
    }),
    "delta_net": (DeltaNet, write_delta_net, {"num_heads": 2, "expand_k": 1.0, "expand_v": 1.0, "conv_size": 4}, {
        "plain": ({}, "F16"),
        "gated": ({"use_gate": True, "expand_k": 0.5, "expand_v": 2.0, "conv_size": 2, "num_hidden_layers": 1}, "BF16"),
        "unconvolved": ({"use_short_conv": False, "qk_activation": "elu", "qk_norm": "sum"}, "BF16"),
        "no_beta": ({"use_beta": False, "num_hidden_layers": 1}, "BF16"),
        "negative": ({"allow_neg_eigval": True, "num_hidden_layers": 1}, "BF16"),
    }),
    "kda": (Kda, write_kda, {"num_heads": 2, "head_dim": 10, "expand_v": 1.0, "conv_size": 4}, {
        "plain": ({}, "F16"),
        "bounded": ({"num_v_heads": 4, "lower_bound": -5.0, "expand_v": 0.8, "conv_size": 3,
                     "allow_neg_eigval": True}, "BF16"),
    }),
}


def main():
    for number, (family, (reference, write_mixer, settings, cases)) in enumerate(FAMILIES.items()):
        if sys.argv[1:] and family not in sys.argv[1:]:
            continue
        for case_number, (case, (changes, matrix_type)) in enumerate(cases.items()):
            rng = np.random.default_rng(1000 + 20 * number + case_number)
            folder = pathlib.Path(__file__).parent / family / case
            folder.mkdir(parents=True, exist_ok=True)
            config = {"model_type": family, **BASE, **settings, **changes}
            tensors = Writer(config, matrix_type, rng).model(write_mixer)
            config.pop("fused_gate_proj", None)
            (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
            write_safetensors(folder / "model.safetensors", tensors)
            model = reference(config, read_safetensors(folder / "model.safetensors"))  # as rounded
            tokens = rng.integers(0, config["vocab_size"], TOKEN_COUNT).tolist()
            logits = torch.stack([model.logits(token) for token in tokens])
            assert all(map(math.isfinite, logits.flatten().tolist())), (family, case)
            write_expected_logits(folder, tokens, logits.numpy())


if __name__ == "__main__":
    main()
