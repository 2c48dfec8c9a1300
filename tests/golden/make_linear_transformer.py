#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the goldens of the Linear Transformer: tiny random models and their logits.

An independent statement of "Transformers are RNNs" (arXiv 2006.16236) in PyTorch, float64, one token, head and
layer at a time, from the formulas and not from the server's code. Debian's python3-torch is enough:

    /usr/bin/python3 tests/golden/make_linear_transformer.py
    /usr/bin/python3 tests/golden/make_linear_transformer.py --model models/shakespeare --text "ROMEO:"

The first writes a folder per variant (config.json, model.safetensors, expected.safetensors) beside this file; the
second only the expected.safetensors of an existing byte-level model, in a folder named like it. It holds `tokens`
[T] and `logits` [T, vocabulary], both F32; for a mixture of logistics these are `logits` [T, 3 mixtures], and
`log_probs` [T - 1] are those of each token after the ones before it.
"""

import argparse
import json
import pathlib
import struct

import numpy as np
import torch

NUMPY_TYPES = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}


# ---- safetensors ---------------------------------------------------------------------------------


def to_bf16_bits(array):
    """Nearest, ties to even."""
    bits = np.ascontiguousarray(array, "<f4").view("<u4").astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")


def write_safetensors(path, tensors):
    """tensors: name -> (dtype name, array)."""
    header, parts, begin = {}, [], 0
    for name, (dtype, array) in tensors.items():
        data = (to_bf16_bits(array) if dtype == "BF16" else array.astype(NUMPY_TYPES[dtype])).tobytes()
        header[name] = {
            "dtype": dtype,
            "shape": list(array.shape),
            "data_offsets": [begin, begin + len(data)],
        }
        parts.append(data)
        begin += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(parts))


def read_safetensors(path):
    """name -> float64 tensor."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    tensors = {}
    for name, entry in json.loads(data[8 : 8 + length]).items():
        if name == "__metadata__":
            continue
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        array = np.frombuffer(data[begin:end], NUMPY_TYPES[entry["dtype"]])
        if entry["dtype"] == "BF16":
            array = (array.astype("<u4") << 16).view("<f4")
        tensors[name] = torch.from_numpy(array.astype(np.float64).reshape(entry["shape"]))
    return tensors


# ---- the model -----------------------------------------------------------------------------------


def linear(tensors, name, x):
    return tensors[name + ".weight"] @ x + tensors[name + ".bias"]


def layer_norm(tensors, name, x, eps):
    variance, mean = torch.var_mean(x, unbiased=False)
    return (x - mean) / torch.sqrt(variance + eps) * tensors[name + ".weight"] + tensors[name + ".bias"]


def phi(x):
    return torch.where(x > 0, x + 1, torch.exp(x))


def embed(config, tensors, token, position):
    if config["position_embedding"] == "none":
        return tensors["embedding.weight"][token]
    half = config["hidden_size"] // 2
    angles = [position * 10000.0 ** (-2.0 * i / half) for i in range(half // 2)]
    pairs = [[np.sin(angle), np.cos(angle)] for angle in angles]
    sinusoid = torch.tensor(pairs, dtype=torch.float64).reshape(half)
    return torch.cat([tensors["value_embedding.weight"][token], sinusoid])


def attend(config, tensors, prefix, x, state):
    """state: per head [S, z], changed in place."""
    heads = config["num_heads"]
    q = phi(linear(tensors, prefix + "query_projection", x)).reshape(heads, -1)
    k = phi(linear(tensors, prefix + "key_projection", x)).reshape(heads, -1)
    v = linear(tensors, prefix + "value_projection", x).reshape(heads, -1)
    outputs = []
    for h in range(heads):
        gamma = tensors[prefix + "decay"][h] if config["decay"] == "constant" else 1.0
        state[h][0] = gamma * state[h][0] + torch.outer(k[h], v[h])
        state[h][1] = gamma * state[h][1] + k[h]
        outputs.append((q[h] @ state[h][0]) / (q[h] @ state[h][1] + config["attention_eps"]))
    return linear(tensors, prefix + "out_projection", torch.cat(outputs))


def all_logits(config, tensors, tokens):
    activation = {"relu": torch.relu, "gelu": torch.nn.functional.gelu}[config["activation"]]
    eps = config["norm_eps"]
    key_size, value_size = config["query_dimensions"], config["value_dimensions"]
    states = [
        [
            [torch.zeros(key_size, value_size, dtype=torch.float64), torch.zeros(key_size, dtype=torch.float64)]
            for _ in range(config["num_heads"])
        ]
        for _ in range(config["num_hidden_layers"])
    ]
    rows = []
    for position, token in enumerate(tokens):
        x = embed(config, tensors, token, position)
        for i, state in enumerate(states):
            p = f"transformer.layers.{i}."
            x = layer_norm(tensors, p + "norm1", x + attend(config, tensors, p + "attention.", x, state), eps)
            y = linear(tensors, p + "linear2", activation(linear(tensors, p + "linear1", x)))
            x = layer_norm(tensors, p + "norm2", x + y, eps)
        if config["final_normalization"]:
            x = layer_norm(tensors, "transformer.norm", x, eps)
        rows.append(linear(tensors, "predictor", x))
    return torch.stack(rows)


def mixture_log_prob(outputs, value):
    """log P(value), an integral of "Transformers are RNNs"' output over the value's width."""
    logits, means, log_scales = outputs.chunk(3)
    scales = torch.exp(torch.clamp(log_scales, min=-7.0))
    centre = 2.0 * value / 255.0 - 1.0
    upper = torch.sigmoid((centre + 1 / 255.0 - means) / scales) if value < 255 else torch.ones_like(means)
    lower = torch.sigmoid((centre - 1 / 255.0 - means) / scales) if value > 0 else torch.zeros_like(means)
    return torch.log((torch.softmax(logits, 0) * (upper - lower)).sum())


# ---- the variants --------------------------------------------------------------------------------

PLAIN = {
    "model_type": "linear_transformer",
    "vocab_size": 23,
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_heads": 3,
    "query_dimensions": 5,
    "value_dimensions": 7,
    "feed_forward_dimensions": 19,
    "activation": "relu",
    "feature_map": "elu",
    "position_embedding": "none",
    "decay": "none",
    "final_normalization": True,
    "norm_eps": 1e-5,
    "attention_eps": 1e-6,
}
WIDE = {
    "vocab_size": 40,
    "hidden_size": 48,
    "num_heads": 2,
    "query_dimensions": 32,
    "value_dimensions": 16,
    "feed_forward_dimensions": 64,
}
IMAGE = {"position_embedding": "sinusoid", "vocab_size": 256, "image_width": 5, "image_height": 8}
# name -> (changes to PLAIN, dtype of the matrices)
VARIANTS = {
    "plain": ({}, "F32"),
    "decay": ({"decay": "constant", "eos_token_id": 3}, "F32"),
    "gelu_no_final_norm": ({"activation": "gelu", "final_normalization": False}, "F16"),
    "sinusoid": ({"position_embedding": "sinusoid", "max_position_embeddings": 64}, "F32"),
    "wide": ({**WIDE, "decay": "constant", "activation": "gelu", "attention_eps": 0.01}, "BF16"),
    # The paper's images, of one channel and of three; the second without a token before the first value.
    "image": ({**IMAGE, "mixtures": 10, "image_channels": 1, "bos_token_id": 0}, "F32"),
    "image_rgb": ({**IMAGE, "mixtures": 3, "image_width": 7, "image_height": 2, "image_channels": 3}, "F32"),
}
TOKEN_COUNT = 41


def random_tensors(config, matrix_type, rng):
    """name -> (dtype, array); numbers large enough that every part of the model shows in the logits."""
    tensors = {}
    width, inner, heads = config["hidden_size"], config["feed_forward_dimensions"], config["num_heads"]
    keys, values = heads * config["query_dimensions"], heads * config["value_dimensions"]

    def add_linear(name, out_size, in_size):
        weight = rng.standard_normal((out_size, in_size)) * 1.5 / np.sqrt(in_size)
        tensors[name + ".weight"] = (matrix_type, weight)
        tensors[name + ".bias"] = ("F32", 0.3 * rng.standard_normal(out_size))

    def add_norm(name):
        tensors[name + ".weight"] = ("F32", 1.0 + 0.3 * rng.standard_normal(width))
        tensors[name + ".bias"] = ("F32", 0.3 * rng.standard_normal(width))

    if config["position_embedding"] == "none":
        tensors["embedding.weight"] = (matrix_type, rng.standard_normal((config["vocab_size"], width)))
    else:
        table = rng.standard_normal((config["vocab_size"], width // 2))
        tensors["value_embedding.weight"] = (matrix_type, table)
        tensors["pos_embedding.pe"] = ("F32", np.zeros((1, 64, width // 2)))  # never read
    for i in range(config["num_hidden_layers"]):
        p = f"transformer.layers.{i}."
        add_linear(p + "attention.query_projection", keys, width)
        add_linear(p + "attention.key_projection", keys, width)
        add_linear(p + "attention.value_projection", values, width)
        add_linear(p + "attention.out_projection", width, values)
        if config["decay"] == "constant":
            tensors[p + "attention.decay"] = ("F32", np.linspace(0.5, 1.0, heads))
        add_linear(p + "linear1", inner, width)
        add_linear(p + "linear2", width, inner)
        add_norm(p + "norm1")
        add_norm(p + "norm2")
    if config["final_normalization"]:
        add_norm("transformer.norm")
    add_linear("predictor", 3 * config["mixtures"] if "mixtures" in config else config["vocab_size"], width)
    return tensors


def write_expected_logits(folder, tokens, expected, log_probs=None):
    arrays = {"tokens": ("F32", np.array(tokens, np.float64)), "logits": ("F32", expected)}
    if log_probs is not None:
        arrays["log_probs"] = ("F32", log_probs)
    write_safetensors(folder / "expected.safetensors", arrays)
    print(f"{folder.name}: {len(tokens)} tokens, logits from {expected.min():.2f} to {expected.max():.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, help="folder of a byte-level model instead of the variants")
    parser.add_argument("--text", default="ROMEO:\nWhat light through", help="what that model reads")
    args = parser.parse_args()
    root = pathlib.Path(__file__).parent / "linear_transformer"
    if args.model:
        folder = root / args.model.resolve().name
        folder.mkdir(parents=True, exist_ok=True)
        config = json.loads((args.model / "config.json").read_text(encoding="utf-8"))
        tensors = read_safetensors(args.model / "model.safetensors")
        tokens = list(args.text.encode())
        write_expected_logits(folder, tokens, all_logits(config, tensors, tokens).numpy())
        return
    for seed, (name, (changes, matrix_type)) in enumerate(VARIANTS.items()):
        rng = np.random.default_rng(seed)
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        config = {**PLAIN, **changes}
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        write_safetensors(folder / "model.safetensors", random_tensors(config, matrix_type, rng))
        tensors = read_safetensors(folder / "model.safetensors")  # as rounded
        tokens = rng.integers(0, config["vocab_size"], TOKEN_COUNT).tolist()
        if "mixtures" in config:
            tokens[3:5] = [0, 255]  # the ends take what lies beyond
        logits, log_probs = all_logits(config, tensors, tokens), None
        if "mixtures" in config:
            log_probs = np.array([mixture_log_prob(row, value) for row, value in zip(logits, tokens[1:])])
        write_expected_logits(folder, tokens, logits.numpy(), log_probs)


if __name__ == "__main__":
    main()
