#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Trains a byte-level model with a state of constant size on a text file.

--family linear_transformer (the default) is that of "Transformers are RNNs" (arXiv 2006.16236): post-norm layers,
feature map elu + 1, normalised linear attention. Two changes, both options of the served family: each head
forgets at its own constant rate gamma (as in RetNet, arXiv 2307.08621), and there is no position embedding;
the rates tell the order, and the cost and the numbers of the millionth byte are those of the tenth.
--family gated_deltanet is that of arXiv 2412.06464 in fla's layout, with short convolutions.

    python3 -m venv venv && venv/bin/pip install -r models/requirements.txt
    venv/bin/python models/train_text.py --text models/shakespeare/tinyshakespeare.txt --run run \
        --export models/shakespeare

It saves a checkpoint every --save-every steps under --run and goes on from it when started again.
--export writes config.json, tokenizer_config.json and model.safetensors, which eddy-server serves.
"""

import argparse
import json
import pathlib

import gated_deltanet
import jax
import linear_transformer
import numpy as np
import optax
import training

VOCAB_SIZE = 256
CHUNK = 64  # --context is a multiple of it, or less
DEFAULTS = {
    "linear_transformer": dict(
        steps=3600, batch=16, layers=6, width=192, heads=6, feed_forward=768, dropout=0.1, learning_rate=3e-3,
        warmup=150, cool_down=0, weight_decay=0.1, eval_every=200, save_every=100, seed=1),
    "gated_deltanet": dict(
        steps=3000, batch=16, layers=4, width=128, heads=4, feed_forward=384, dropout=0.1, learning_rate=4e-3,
        warmup=100, cool_down=800, weight_decay=0.1, eval_every=200, save_every=50, seed=1),
}


def parse_args():
    family = argparse.ArgumentParser(add_help=False)
    family.add_argument("--family", choices=DEFAULTS, default="linear_transformer", help="sets the other defaults")
    known, _ = family.parse_known_args()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, parents=[family])
    parser.add_argument("--text", type=pathlib.Path, required=True, help="training text; its last 10 %% is held out")
    parser.add_argument("--context", type=int, default=256, help="bytes a sequence")
    training.add_arguments(parser, **DEFAULTS[known.family])
    return parser.parse_args()


# ---- model ---------------------------------------------------------------------------------------------


def init_params(args, rng):
    if args.family == "gated_deltanet":
        return gated_deltanet.init_params(rng, args, VOCAB_SIZE)
    params = {"embedding.weight": (rng.standard_normal((VOCAB_SIZE, args.width)) * 0.5).astype(np.float32)}
    params |= linear_transformer.init_layers(rng, args, decay=True)
    params["predictor.weight"] = linear_transformer.matrix(rng, VOCAB_SIZE, args.width, 0.3)
    params["predictor.bias"] = np.zeros(VOCAB_SIZE, np.float32)
    return params


def logits(params, tokens, args, dropout_key):
    """[batch, time, vocabulary] of tokens [batch, time]."""
    drop = training.make_dropout(args.dropout, dropout_key)
    if args.family == "gated_deltanet":
        return gated_deltanet.logits(params, tokens, args, CHUNK, drop)
    x = linear_transformer.run_layers(params, params["embedding.weight"][tokens], args, CHUNK, drop)
    return linear_transformer.linear(params, "predictor", x)


def cross_entropy(params, tokens, args, dropout_key=None):
    """Mean nats a byte of tokens [batch, time + 1], the first of each row only read."""
    found = logits(params, tokens[:, :-1], args, dropout_key)
    return optax.softmax_cross_entropy_with_integer_labels(found, tokens[:, 1:]).mean()


# ---- training ------------------------------------------------------------------------------------------


def held_out_begin(byte_count):
    return byte_count * 9 // 10


def train(args):
    text = np.frombuffer(args.text.read_bytes(), np.uint8)
    split = held_out_begin(len(text))
    known, held_out = text[:split], text[split:]
    print(f"{len(known):,} training bytes")
    nats = jax.jit(lambda params, tokens: cross_entropy(params, tokens, args))

    def batch(step):
        """Depends only on (seed, step)."""
        rng = np.random.default_rng((args.seed, step))
        start = rng.integers(0, len(known) - args.context - 1, args.batch)
        return np.stack([known[s : s + args.context + 1] for s in start]).astype(np.int32)

    def evaluate(params):
        """Nats a byte over the held-out text in windows of four contexts, each read from an empty state."""
        length = 4 * args.context
        count = (len(held_out) - 1) // length
        rows = np.stack([held_out[i * length : i * length + length + 1] for i in range(count)]).astype(np.int32)
        return sum(float(nats(params, rows[i : i + 8])) * len(rows[i : i + 8]) for i in range(0, count, 8)) / count

    def loss(params, tokens, key):
        return cross_entropy(params, tokens, args, key)

    module = gated_deltanet if args.family == "gated_deltanet" else linear_transformer
    params = init_params(args, np.random.default_rng(args.seed))
    return training.fit(args, params, module.is_inner, loss, batch, evaluate)


def export(params, args):
    if args.family == "gated_deltanet":
        config, tensors = gated_deltanet.config(args, VOCAB_SIZE), gated_deltanet.served(params)
    else:
        config = linear_transformer.config(args, decay=True, position_embedding="none")
        tensors = linear_transformer.served(params)
    if args.text.resolve().parent == args.export.resolve():  # where eddy quantize measures the loss
        config["eddy_text"] = args.text.name
        config["eddy_text_begin"] = held_out_begin(args.text.stat().st_size)
    training.write_folder(args.export, config, tensors)
    tokenizer = {"tokenizer_class": "ByteTokenizer"}
    (args.export / "tokenizer_config.json").write_text(json.dumps(tokenizer, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    arguments = parse_args()
    trained = train(arguments)
    if arguments.export:
        export(trained, arguments)
