# SPDX-License-Identifier: Apache-2.0
"""The Linear Transformer (arXiv 2006.16236) in JAX, for training: post-norm layers, feature map elu + 1.

Its heads forget nothing, or each at a constant rate gamma of its own (as in RetNet, arXiv 2307.08621).
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

NORM_EPS = 1e-5
ATTENTION_EPS = 1e-6


def init_layers(rng, args, decay):
    """Parameters of the layers under the names of the served checkpoint; matrices are [out, in]."""
    width, inner = args.width, args.feed_forward
    params = {}
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
            params[p + name + ".weight"] = matrix(rng, out_size, in_size, scale)
            params[p + name + ".bias"] = np.zeros(out_size, np.float32)
        if decay:
            half_life = np.geomspace(0.7, 150.0, args.heads)
            params[p + "attention.log_rate"] = np.log(math.log(2.0) / half_life).astype(np.float32)
        for name in ("norm1", "norm2"):
            params[p + name + ".weight"] = np.ones(width, np.float32)
            params[p + name + ".bias"] = np.zeros(width, np.float32)
    params["transformer.norm.weight"] = np.ones(width, np.float32)
    params["transformer.norm.bias"] = np.zeros(width, np.float32)
    return params


def matrix(rng, out_size, in_size, scale=1.0):
    return (rng.standard_normal((out_size, in_size)) * scale / math.sqrt(in_size)).astype(np.float32)


def is_inner(name):
    return name.startswith("transformer.layers.")


def linear(params, name, x):
    return x @ params[name + ".weight"].T + params[name + ".bias"]


def layer_norm(params, name, x):
    mean = x.mean(-1, keepdims=True)
    centred = x - mean
    variance = (centred * centred).mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt(variance + NORM_EPS) * params[name + ".weight"] + params[name + ".bias"]


def attention(params, prefix, x, heads, chunk):
    """y_t = sum_i gamma^(t-i) (phi(q_t).phi(k_i)) v_i / (the same sum without v_i + eps), i <= t.

    Chunkwise: inside a chunk by the masked product, between chunks by the state [key, value + 1], whose last
    column is the normaliser.
    """
    batch, length, width = x.shape
    chunk = min(chunk, length)
    count = length // chunk

    def split(name):  # [batch, head, chunk, time, width / head]
        y = linear(params, prefix + name + "_projection", x)
        return y.reshape(batch, count, chunk, heads, width // heads).transpose(0, 3, 1, 2, 4)

    def age(size):  # [t, i]
        return np.arange(size)[:, None] - np.arange(size)[None, :]

    q = jax.nn.elu(split("query")) + 1.0
    k = jax.nn.elu(split("key")) + 1.0
    v = split("value")
    v = jnp.concatenate([v, jnp.ones_like(v[..., :1])], -1)
    log_rate = params.get(prefix + "log_rate")
    rate = jnp.zeros(heads) if log_rate is None else jnp.exp(log_rate)  # gamma = exp(-rate)
    rate = rate[:, None, None]
    at = np.arange(chunk)[:, None]
    mask = jnp.where(age(chunk) >= 0, jnp.exp(-rate * np.maximum(age(chunk), 0)), 0.0)  # [head, t, i]
    y = jnp.einsum("bhcti,bhcid->bhctd", jnp.einsum("bhctk,bhcik->bhcti", q, k) * mask[:, None], v)
    if count > 1:
        written = jnp.einsum("bhctk,bhctd->bhckd", k * jnp.exp(-rate * (chunk - 1.0 - at))[:, None], v)
        chunks = age(count) - 1  # from the end of the one written to the start of the one that reads
        kept = jnp.where(chunks >= 0, jnp.exp(-rate * chunk * np.maximum(chunks, 0)), 0.0)  # [head, reader, written]
        state = jnp.einsum("hrc,bhckd->bhrkd", kept, written)
        y = y + jnp.einsum("bhctk,bhckd->bhctd", q * jnp.exp(-rate * (at + 1.0))[:, None], state)
    y = y[..., :-1] / (y[..., -1:] + ATTENTION_EPS)
    return linear(params, prefix + "out_projection", y.transpose(0, 2, 3, 1, 4).reshape(batch, length, width))


def run_layers(params, x, args, chunk, drop):
    """The layers and the final norm on x [batch, time, width], whose time is a multiple of chunk, or less."""
    x = drop(x, 0)
    for i in range(args.layers):
        p = f"transformer.layers.{i}."
        y = attention(params, p + "attention.", x, args.heads, chunk)
        x = layer_norm(params, p + "norm1", x + drop(y, 2 * i + 1))
        y = linear(params, p + "linear2", jax.nn.relu(linear(params, p + "linear1", x)))
        x = layer_norm(params, p + "norm2", x + drop(y, 2 * i + 2))
    return layer_norm(params, "transformer.norm", x)


def served(params):
    """The tensors of the served checkpoint: the rates as gamma."""
    tensors = {}
    for name, value in params.items():
        value = np.asarray(value)
        if name.endswith("log_rate"):
            tensors[name.replace("log_rate", "decay")] = np.exp(-np.exp(value.astype(np.float64)))
        else:
            tensors[name] = value
    return tensors


def config(args, decay, position_embedding):
    """What config.json says of the layers."""
    return {
        "model_type": "linear_transformer",
        "vocab_size": 256,
        "hidden_size": args.width,
        "num_hidden_layers": args.layers,
        "num_heads": args.heads,
        "query_dimensions": args.width // args.heads,
        "value_dimensions": args.width // args.heads,
        "feed_forward_dimensions": args.feed_forward,
        "activation": "relu",
        "feature_map": "elu",
        "position_embedding": position_embedding,
        "decay": "constant" if decay else "none",
        "final_normalization": True,
        "norm_eps": NORM_EPS,
        "attention_eps": ATTENTION_EPS,
    }
