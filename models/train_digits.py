#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Trains the image model of "Transformers are RNNs" (arXiv 2006.16236) on the digits of MNIST, pixel by pixel.

A pixel is a token, 0 to 255, in raster order. The input is the pixel before, its embedding beside the sinusoid
of its place; the first pixel follows a 0. The output is a mixture of ten logistics, integrated over the width
of a pixel's value (as in PixelCNN++, arXiv 1701.05517).

    python3 -m venv venv && venv/bin/pip install -r models/requirements.txt
    venv/bin/python models/train_digits.py --images t10k-images-idx3-ubyte.gz --run run --export models/digits

It saves a checkpoint every --save-every steps under --run and goes on from it when started again.
--export writes config.json and model.safetensors, which eddy-server serves.
"""

import argparse
import gzip
import math
import pathlib

import jax
import jax.numpy as jnp
import linear_transformer
import numpy as np
import training

HELD_OUT = 1000  # the last images of the file
VALUES = 256
LOG_SCALE_MIN = -7.0
CHUNK = 56
EVAL_BATCH = 8


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=pathlib.Path, required=True, help="images in MNIST's idx3 format, gzipped")
    parser.add_argument("--mixtures", type=int, default=10, help="logistics of a pixel")
    parser.add_argument("--eval-images", type=int, default=200, help="held-out images for the log")
    training.add_arguments(
        parser, steps=2000, batch=8, layers=4, width=128, heads=4, feed_forward=512, dropout=0.0,
        learning_rate=4e-3, warmup=100, cool_down=500, weight_decay=0.05, eval_every=200, save_every=50, seed=1)
    return parser.parse_args()


def read_images(path):
    """[image, row, column] of an idx3 file."""
    data = gzip.decompress(path.read_bytes())
    magic, count, rows, columns = np.frombuffer(data, ">u4", 4)
    if magic != 0x803 or len(data) != 16 + count * rows * columns:
        raise SystemExit(f"{path}: not a whole idx3 file of bytes")
    return np.frombuffer(data, np.uint8, offset=16).reshape(count, rows, columns)


# ---- model ---------------------------------------------------------------------------------------------


def init_params(args, rng):
    half, m = args.width // 2, args.mixtures
    params = {"value_embedding.weight": (rng.standard_normal((VALUES, half)) * 0.5).astype(np.float32)}
    params |= linear_transformer.init_layers(rng, args, decay=False)
    params["predictor.weight"] = linear_transformer.matrix(rng, 3 * m, args.width, 0.1)
    bias = np.concatenate([np.zeros(m), np.linspace(-1.0, 1.0, m), np.full(m, -2.0)])
    params["predictor.bias"] = bias.astype(np.float32)
    return params


def sinusoid(length, width):
    """[position, width]: sine and cosine by turns, of ever slower waves."""
    angle = np.arange(length)[:, None] * np.exp(np.arange(0, width, 2) * (-math.log(10000.0) / width))
    return np.stack([np.sin(angle), np.cos(angle)], -1).reshape(length, width).astype(np.float32)


def log_probs(outputs, values):
    """Nats of values [...] under outputs [..., 3 mixtures]: mixture logits, means and log scales.

    Value b is y = 2 b / 255 - 1 and takes the mass of y - h to y + h, h = 1 / 255; 0 and 255 also take all
    beyond. With A = (y + h - mean) / scale and B = (y - h - mean) / scale the mass is
    sigmoid(A) - sigmoid(B) = sigmoid(A) sigmoid(-B) (1 - exp(B - A)), a form that loses no digits.
    """
    logits, means, log_scales = jnp.split(outputs, 3, -1)
    inverse = jnp.exp(-jnp.maximum(log_scales, LOG_SCALE_MIN))
    values = values[..., None]
    y = values * (2.0 / 255.0) - 1.0 - means
    upper, lower = jax.nn.log_sigmoid((y + 1 / 255) * inverse), jax.nn.log_sigmoid((1 / 255 - y) * inverse)
    inside = upper + lower + jnp.log(-jnp.expm1(inverse * (-2.0 / 255.0)))
    mass = jnp.where(values == 0, upper, jnp.where(values == 255, lower, inside))
    return jax.nn.logsumexp(jax.nn.log_softmax(logits) + mass, -1)


def loss(params, images, args, key=None):
    """Mean nats a pixel of images [batch, pixel]."""
    before = jnp.pad(images[:, :-1], ((0, 0), (1, 0)))
    value = params["value_embedding.weight"][before]
    place = jnp.broadcast_to(sinusoid(images.shape[1], args.width // 2), value.shape)
    x = jnp.concatenate([value, place], -1)
    x = linear_transformer.run_layers(params, x, args, CHUNK, training.make_dropout(args.dropout, key))
    return -log_probs(linear_transformer.linear(params, "predictor", x), images).mean()


# ---- training ------------------------------------------------------------------------------------------


def train(args):
    images = read_images(args.images)
    images = images.reshape(len(images), -1).astype(np.int32)
    known, held_out = images[:-HELD_OUT], images[-HELD_OUT:]
    per_epoch = len(known) // args.batch
    nats_loss = jax.jit(lambda params, data: loss(params, data, args))

    def batch(step):
        """Every image once an epoch, in an order that depends only on (seed, epoch)."""
        order = np.random.default_rng((args.seed, step // per_epoch)).permutation(len(known))
        at = step % per_epoch * args.batch
        return known[order[at : at + args.batch]]

    def bits(params, count):
        rows = [held_out[i : i + EVAL_BATCH] for i in range(0, count, EVAL_BATCH)]
        return sum(float(nats_loss(params, r)) * len(r) for r in rows) / count / math.log(2.0)

    def bits_loss(params, data, key):
        return loss(params, data, args, key) / math.log(2.0)

    params = init_params(args, np.random.default_rng(args.seed))
    params = training.fit(
        args, params, linear_transformer.is_inner, bits_loss, batch, lambda p: bits(p, args.eval_images))
    line = f"{HELD_OUT} held-out images: {bits(params, HELD_OUT):.4f} bits a pixel"
    print(line)
    with open(args.run / "log.txt", "a", encoding="utf-8") as log:
        log.write(line + "\n")
    return params, read_images(args.images).shape[1:]


def export(params, args, shape):
    config = linear_transformer.config(args, decay=False, position_embedding="sinusoid")
    config |= {
        "mixtures": args.mixtures,
        "bos_token_id": 0,
        "image_width": int(shape[1]),
        "image_height": int(shape[0]),
        "image_channels": 1,
    }
    training.write_folder(args.export, config, linear_transformer.served(params))


if __name__ == "__main__":
    arguments = parse_args()
    trained, image_shape = train(arguments)
    if arguments.export:
        export(trained, arguments, image_shape)
