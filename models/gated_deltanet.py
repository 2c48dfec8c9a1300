# SPDX-License-Identifier: Apache-2.0
"""Gated DeltaNet (arXiv 2412.06464) in fla's layout, in JAX, for training."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from linear_transformer import matrix

NORM_EPS = 1e-6
L2_EPS = 1e-6
CONV_SIZE = 4


def init_params(rng, args, vocab_size):
    """Parameters under the names of the served checkpoint; matrices are [out, in]."""
    width, inner, heads = args.width, args.feed_forward, args.heads
    params = {"model.embeddings.weight": (rng.standard_normal((vocab_size, width)) * 0.5).astype(np.float32)}
    for i in range(args.layers):
        p = f"model.layers.{i}."
        for letter in "qkvg":
            params[p + f"attn.{letter}_proj.weight"] = matrix(rng, width, width)
        for letter in "qkv":
            noise = rng.standard_normal((width, CONV_SIZE)) * 0.2
            params[p + f"attn.{letter}_conv1d.weight"] = (noise + [0.0, 0.0, 0.0, 1.0]).astype(np.float32)
        for letter in "ab":
            params[p + f"attn.{letter}_proj.weight"] = matrix(rng, heads, width, 0.5)
        params[p + "attn.A_log"] = np.log(rng.uniform(1.0, 16.0, heads)).astype(np.float32)
        step = np.exp(rng.uniform(math.log(1e-3), math.log(0.1), heads))
        params[p + "attn.dt_bias"] = np.log(np.expm1(step)).astype(np.float32)  # softplus of it is the step
        params[p + "attn.o_proj.weight"] = matrix(rng, width, width, 0.5)
        params[p + "attn.o_norm.weight"] = np.ones(width // heads, np.float32)
        params[p + "mlp.gate_proj.weight"] = matrix(rng, inner, width)
        params[p + "mlp.up_proj.weight"] = matrix(rng, inner, width)
        params[p + "mlp.down_proj.weight"] = matrix(rng, width, inner, 0.5)
        for name in ("attn_norm", "mlp_norm"):
            params[p + name + ".weight"] = np.ones(width, np.float32)
    params["model.norm.weight"] = np.ones(width, np.float32)
    params["lm_head.weight"] = matrix(rng, vocab_size, width, 0.3)
    return params


def is_inner(name):
    """Of the large matrices of the layers."""
    small = ("conv1d.weight", "a_proj.weight", "b_proj.weight")
    return name.startswith("model.layers.") and not name.endswith(small)


def rms_norm(x, weight):
    return x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + NORM_EPS) * weight


def l2_norm(x):
    return x * jax.lax.rsqrt((x * x).sum(-1, keepdims=True) + L2_EPS)


def convolve(x, weight):
    """A causal convolution of each channel with silu behind it.  x [batch, time, channel]"""
    length = x.shape[1]
    padded = jnp.pad(x, ((0, 0), (CONV_SIZE - 1, 0), (0, 0)))
    return jax.nn.silu(sum(padded[:, i : i + length] * weight[:, i] for i in range(CONV_SIZE)))


def delta_rule(q, k, v, beta, log_decay, chunk):
    """S <- e^log_decay S;  S <- S + k beta (v - S^T k)^T;  o = K^-1/2 S^T q.  All [batch, head, time, ...].

    Chunkwise: with G the sums of log_decay from a chunk's start, A[t, i] = beta_t (k_t . k_i) e^(G_t - G_i)
    for i < t and S_0 the state at that start, what the tokens write is D with
    (I + A) D = beta (V - e^G K S_0). The solve does not need S_0, so that all chunks share one.
    """
    batch, heads, length, size = q.shape
    chunk = min(chunk, length)
    count = length // chunk
    q, k, v = (a.reshape(batch, heads, count, chunk, size) for a in (q * size**-0.5, k, v))
    beta = beta.reshape(batch, heads, count, chunk, 1)
    g = jnp.cumsum(log_decay.reshape(batch, heads, count, chunk), -1)
    at = np.arange(chunk)
    age = at[:, None] - at[None, :]  # t - i
    between = jnp.where(age >= 0, g[..., :, None] - g[..., None, :], -jnp.inf)
    ratio = jnp.exp(between)  # e^(G_t - G_i), 0 for i > t
    g = g[..., None]
    products = jnp.einsum("bhctk,bhcik->bhcti", k, k)
    a = jnp.eye(chunk) + jnp.where(age > 0, beta * products * ratio, 0.0)
    right = jnp.concatenate([beta * v, beta * jnp.exp(g) * k], -1)
    solved = jax.lax.linalg.triangular_solve(a, right, left_side=True, lower=True, unit_diagonal=True)
    own, of_state = solved[..., :size], solved[..., size:]
    inside = jnp.einsum("bhctk,bhcik->bhcti", q, k) * ratio
    q_state, k_end = q * jnp.exp(g), k * jnp.exp(g[..., -1:, :] - g)
    state = jnp.zeros((batch, heads, size, size))
    outputs = []
    for c in range(count):
        written = own[:, :, c] - of_state[:, :, c] @ state
        outputs.append(q_state[:, :, c] @ state + inside[:, :, c] @ written)
        state = jnp.exp(g[:, :, c, -1:]) * state + k_end[:, :, c].swapaxes(-1, -2) @ written
    return jnp.stack(outputs, 2).reshape(batch, heads, length, size)


def attention(params, prefix, x, heads, chunk):
    batch, length, width = x.shape

    def project(letter):
        return x @ params[prefix + letter + "_proj.weight"].T

    def split(y):  # [batch, head, time, size]
        return y.reshape(batch, length, heads, -1).transpose(0, 2, 1, 3)

    q, k, v = (split(convolve(project(s), params[prefix + s + "_conv1d.weight"])) for s in "qkv")
    beta = jax.nn.sigmoid(split(project("b"))[..., 0])
    step = jax.nn.softplus(project("a") + params[prefix + "dt_bias"])
    log_decay = split(-jnp.exp(params[prefix + "A_log"]) * step)[..., 0]
    y = delta_rule(l2_norm(q), l2_norm(k), v, beta, log_decay, chunk)
    y = rms_norm(y, params[prefix + "o_norm.weight"]).transpose(0, 2, 1, 3).reshape(batch, length, width)
    return (y * jax.nn.silu(project("g"))) @ params[prefix + "o_proj.weight"].T


def logits(params, tokens, args, chunk, drop):
    x = drop(params["model.embeddings.weight"][tokens], 0)
    for i in range(args.layers):
        p = f"model.layers.{i}."
        y = attention(params, p + "attn.", rms_norm(x, params[p + "attn_norm.weight"]), args.heads, chunk)
        x = x + drop(y, 2 * i + 1)
        h = rms_norm(x, params[p + "mlp_norm.weight"])
        inner = jax.nn.silu(h @ params[p + "mlp.gate_proj.weight"].T) * (h @ params[p + "mlp.up_proj.weight"].T)
        x = x + drop(inner @ params[p + "mlp.down_proj.weight"].T, 2 * i + 2)
    return rms_norm(x, params["model.norm.weight"]) @ params["lm_head.weight"].T


def served(params):
    """The tensors of the served checkpoint: convolutions [channel, 1, width]."""
    return {n: np.asarray(v)[:, None] if n.endswith("conv1d.weight") else np.asarray(v) for n, v in params.items()}


def config(args, vocab_size):
    return {
        "model_type": "gated_deltanet",
        "vocab_size": vocab_size,
        "hidden_size": args.width,
        "num_hidden_layers": args.layers,
        "num_heads": args.heads,
        "head_dim": args.width // args.heads,
        "expand_v": 1.0,
        "conv_size": CONV_SIZE,
        "intermediate_size": args.feed_forward,
        "hidden_act": "swish",
        "norm_eps": NORM_EPS,
        "use_gate": True,
        "use_short_conv": True,
    }
