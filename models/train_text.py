#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Trains a byte-level Linear Transformer with a constant decay per head on a text file.

The model is that of "Transformers are RNNs" (arXiv 2006.16236): post-norm layers, feature map elu + 1,
normalised linear attention. Two changes, both options of the served family: each head forgets at its own
constant rate gamma (as in RetNet, arXiv 2307.08621), and there is no position embedding; the rates tell
the order, and the cost and the numbers of the millionth byte are those of the tenth.

    python3 -m venv venv && venv/bin/pip install -r models/requirements.txt
    venv/bin/python models/train_text.py --text models/shakespeare/tinyshakespeare.txt --run run \
        --export models/shakespeare

It saves a checkpoint every --save-every steps under --run and goes on from it when started again.
--export writes config.json, tokenizer_config.json and model.safetensors, which eddy-server serves.
"""

import argparse
import json
import math
import os
import pathlib
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

NORM_EPS = 1e-5
ATTENTION_EPS = 1e-6
VOCAB_SIZE = 256
jax.config.update("jax_default_prng_impl", "unsafe_rbg")  # dropout masks at a fifth of the cost
CHUNK = 64  # --context is a multiple of it, or less


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=pathlib.Path, required=True, help="training text; its last 10 %% is held out")
    parser.add_argument("--run", type=pathlib.Path, required=True, help="folder of checkpoints and the log")
    parser.add_argument("--export", type=pathlib.Path, help="write the model folder here at the end")
    parser.add_argument("--steps", type=int, default=3600)
    parser.add_argument("--batch", type=int, default=16, help="sequences a step")
    parser.add_argument("--context", type=int, default=256, help="bytes a sequence")
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--heads", type=int, default=6)
    parser.add_argument("--feed-forward", type=int, default=768)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--warmup", type=int, default=150)
    parser.add_argument("--weight-decay", type=float, default=0.1)
    parser.add_argument("--eval-every", type=int, default=200)
    parser.add_argument("--save-every", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


# ---- model ---------------------------------------------------------------------------------------------


def init_params(args, rng):
    """Parameters under the names of the served checkpoint; matrices are [out, in]."""
    width, inner = args.width, args.feed_forward

    def matrix(out_size, in_size, scale=1.0):
        return (rng.standard_normal((out_size, in_size)) * scale / math.sqrt(in_size)).astype(np.float32)

    params = {"embedding.weight": (rng.standard_normal((VOCAB_SIZE, width)) * 0.5).astype(np.float32)}
    half_life = np.geomspace(0.7, 150.0, args.heads)
    rate = math.log(2.0) / half_life  # gamma = exp(-rate)
    for i in range(args.layers):
        p = f"transformer.layers.{i}."
        for name, out_size, in_size, scale in [
            ("attention.query_projection", width, width, 1.0),
            ("attention.key_projection", width, width, 1.0),
            ("attention.value_projection", width, width, 0.7),
            ("attention.out_projection", width, width, 0.7),
            ("linear1", inner, width, 1.0),
            ("linear2", width, inner, 0.7),
        ]:
            params[p + name + ".weight"] = matrix(out_size, in_size, scale)
            params[p + name + ".bias"] = np.zeros(out_size, np.float32)
        params[p + "attention.log_rate"] = np.log(rate).astype(np.float32)
        for name in ("norm1", "norm2"):
            params[p + name + ".weight"] = np.ones(width, np.float32)
            params[p + name + ".bias"] = np.zeros(width, np.float32)
    params["transformer.norm.weight"] = np.ones(width, np.float32)
    params["transformer.norm.bias"] = np.zeros(width, np.float32)
    params["predictor.weight"] = matrix(VOCAB_SIZE, width, 0.3)
    params["predictor.bias"] = np.zeros(VOCAB_SIZE, np.float32)
    return params


def linear(params, name, x):
    return x @ params[name + ".weight"].T + params[name + ".bias"]


def layer_norm(params, name, x):
    mean = x.mean(-1, keepdims=True)
    centred = x - mean
    variance = (centred * centred).mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt(variance + NORM_EPS) * params[name + ".weight"] + params[name + ".bias"]


def attention(params, prefix, x, heads):
    """y_t = sum_i gamma^(t-i) (phi(q_t).phi(k_i)) v_i / (the same sum without v_i + eps), i <= t.

    Chunkwise: inside a chunk by the masked product, between chunks by the state [key, value + 1], whose last
    column is the normaliser.
    """
    batch, length, width = x.shape
    chunk = min(CHUNK, length)

    def split(name):  # [batch, head, time, width / head]
        y = linear(params, prefix + name + "_projection", x)
        return y.reshape(batch, length, heads, width // heads).transpose(0, 2, 1, 3)

    q = jax.nn.elu(split("query")) + 1.0
    k = jax.nn.elu(split("key")) + 1.0
    v = split("value")
    v = jnp.concatenate([v, jnp.ones_like(v[..., :1])], -1)
    at = np.arange(chunk)
    age = at[:, None] - at[None, :]  # t - i
    rate = jnp.exp(params[prefix + "log_rate"])[:, None, None]
    mask = jnp.where(age >= 0, jnp.exp(-rate * np.maximum(age, 0)), 0.0)  # [head, t, i]
    since_start = jnp.exp(-rate * (at[:, None] + 1.0))  # [head, t, 1]
    until_end = jnp.exp(-rate * (chunk - 1.0 - at[:, None]))
    state, outputs = None, []
    for start in range(0, length, chunk):
        qc, kc, vc = (a[:, :, start : start + chunk] for a in (q, k, v))
        y = jnp.einsum("bhti,bhid->bhtd", jnp.einsum("bhtk,bhik->bhti", qc, kc) * mask, vc)
        if state is not None:
            y = y + jnp.einsum("bhtk,bhkd->bhtd", qc * since_start, state)
        outputs.append(y)
        written = jnp.einsum("bhtk,bhtd->bhkd", kc * until_end, vc)
        state = written if state is None else state * jnp.exp(-rate * chunk) + written
    y = jnp.concatenate(outputs, 2)
    y = y[..., :-1] / (y[..., -1:] + ATTENTION_EPS)
    return linear(params, prefix + "out_projection", y.transpose(0, 2, 1, 3).reshape(batch, length, width))


def forward(params, tokens, args, dropout_key=None):
    """Logits [batch, time, vocabulary] of tokens [batch, time]."""

    def drop(x, index):
        if dropout_key is None or args.dropout == 0.0:
            return x
        bits = jax.random.bits(jax.random.fold_in(dropout_key, index), x.shape, jnp.uint8)
        keep = bits >= int(args.dropout * 256)
        return jnp.where(keep, x / (1.0 - int(args.dropout * 256) / 256), 0.0)

    x = drop(params["embedding.weight"][tokens], 0)
    for i in range(args.layers):
        p = f"transformer.layers.{i}."
        x = layer_norm(params, p + "norm1", x + drop(attention(params, p + "attention.", x, args.heads), 2 * i + 1))
        y = linear(params, p + "linear2", jax.nn.relu(linear(params, p + "linear1", x)))
        x = layer_norm(params, p + "norm2", x + drop(y, 2 * i + 2))
    return linear(params, "predictor", layer_norm(params, "transformer.norm", x))


def cross_entropy(params, tokens, args, dropout_key=None):
    """Mean nats a byte of tokens [batch, time + 1], the first of each row only read."""
    logits = forward(params, tokens[:, :-1], args, dropout_key)
    return optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:]).mean()


# ---- training ------------------------------------------------------------------------------------------


def make_optimizer(args, params):
    """Muon for the matrices inside the layers, AdamW for the rest."""
    peak = args.learning_rate
    schedule = optax.warmup_cosine_decay_schedule(0.0, peak, args.warmup, args.steps, 0.02 * peak)
    labels = {n: "muon" if n.startswith("transformer.layers.") and v.ndim == 2 else "adam" for n, v in params.items()}
    muon = optax.contrib.muon(schedule, weight_decay=args.weight_decay, consistent_rms=0.2)
    adam = optax.adamw(schedule, b1=0.9, b2=0.98, weight_decay=0.0)
    return optax.chain(optax.clip_by_global_norm(1.0), optax.partition({"muon": muon, "adam": adam}, labels))


def sample_batch(text, args, step):
    """The batch of a step depends only on (seed, step), so a resumed run sees the same data."""
    rng = np.random.default_rng((args.seed, step))
    start = rng.integers(0, len(text) - args.context - 1, args.batch)
    return np.stack([text[s : s + args.context + 1] for s in start]).astype(np.int32)


def evaluate(loss, params, text, args):
    """Nats a byte over the held-out text in windows of four contexts, each read from an empty state."""
    length = 4 * args.context
    count = (len(text) - 1) // length
    rows = np.stack([text[i * length : i * length + length + 1] for i in range(count)]).astype(np.int32)
    total = 0.0
    for i in range(0, count, 8):
        total += float(loss(params, rows[i : i + 8])) * len(rows[i : i + 8])
    return total / count


def save(path, state):
    temporary = path.with_suffix(".tmp")
    with open(temporary, "wb") as file:
        pickle.dump(jax.tree_util.tree_map(np.asarray, state), file)
    os.replace(temporary, path)


def held_out_begin(byte_count):
    return byte_count * 9 // 10


def train(args):
    text = np.frombuffer(args.text.read_bytes(), np.uint8)
    split = held_out_begin(len(text))
    training, held_out = text[:split], text[split:]
    params = init_params(args, np.random.default_rng(args.seed))
    print(f"{sum(v.size for v in params.values()):,} parameters, {len(training):,} training bytes")
    optimizer = make_optimizer(args, params)
    state = optimizer.init(params)
    args.run.mkdir(parents=True, exist_ok=True)
    checkpoint, first = args.run / "checkpoint.pkl", 0
    if checkpoint.exists():
        with open(checkpoint, "rb") as file:  # our own file, written by save()
            first, params, state = pickle.load(file)
        print(f"resumed at step {first}")

    @jax.jit
    def update(params, state, tokens, key):
        loss, gradient = jax.value_and_grad(cross_entropy)(params, tokens, args, key)
        change, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, change), state, loss

    eval_loss = jax.jit(lambda params, tokens: cross_entropy(params, tokens, args))
    key = jax.random.key(args.seed)
    bar = tqdm(range(first, args.steps), initial=first, total=args.steps, unit="step")
    average = None
    for step in bar:
        params, state, loss = update(params, state, sample_batch(training, args, step), jax.random.fold_in(key, step))
        average = float(loss) if average is None else 0.98 * average + 0.02 * float(loss)
        bar.set_postfix(loss=f"{average:.3f}")
        done = step + 1
        if done % args.save_every == 0 or done == args.steps:
            save(checkpoint, (done, params, state))
        if done % args.eval_every == 0 or done == args.steps:
            line = f"step {done} training {average:.4f} held-out {evaluate(eval_loss, params, held_out, args):.4f}"
            bar.write(line)
            with open(args.run / "log.txt", "a", encoding="utf-8") as log:
                log.write(line + "\n")
    return params


# ---- export --------------------------------------------------------------------------------------------


def export(params, args):
    """Matrices as bf16, vectors as f32; the rates as gamma."""
    from safetensors.numpy import save_file

    args.export.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for name, value in params.items():
        value = np.asarray(value)
        if name.endswith("log_rate"):
            tensors[name.replace("log_rate", "decay")] = np.exp(-np.exp(value.astype(np.float64))).astype(np.float32)
        else:
            tensors[name] = value.astype(jnp.bfloat16) if value.ndim == 2 else value
    save_file(tensors, args.export / "model.safetensors")
    config = {
        "model_type": "linear_transformer",
        "vocab_size": VOCAB_SIZE,
        "hidden_size": args.width,
        "num_hidden_layers": args.layers,
        "num_heads": args.heads,
        "query_dimensions": args.width // args.heads,
        "value_dimensions": args.width // args.heads,
        "feed_forward_dimensions": args.feed_forward,
        "activation": "relu",
        "feature_map": "elu",
        "position_embedding": "none",
        "decay": "constant",
        "final_normalization": True,
        "norm_eps": NORM_EPS,
        "attention_eps": ATTENTION_EPS,
    }
    if args.text.resolve().parent == args.export.resolve():  # where eddy quantize measures the loss
        config["eddy_text"] = args.text.name
        config["eddy_text_begin"] = held_out_begin(args.text.stat().st_size)
    (args.export / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    tokenizer = {"tokenizer_class": "ByteTokenizer"}
    (args.export / "tokenizer_config.json").write_text(json.dumps(tokenizer, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    arguments = parse_args()
    trained = train(arguments)
    if arguments.export:
        export(trained, arguments)
