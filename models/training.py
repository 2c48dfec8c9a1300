# SPDX-License-Identifier: Apache-2.0
"""What the training programs share: optimiser, loop with checkpoints, and the writing of model folders."""

import json
import os
import pathlib
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

jax.config.update("jax_default_prng_impl", "unsafe_rbg")  # dropout masks at a fifth of the cost


def add_arguments(parser, **defaults):
    """The options of every training program; defaults by name."""
    parser.add_argument("--run", type=pathlib.Path, required=True, help="folder of checkpoints and the log")
    parser.add_argument("--export", type=pathlib.Path, help="write the model folder here at the end")
    for name, kind, text in [
        ("steps", int, None),
        ("batch", int, "sequences a step"),
        ("layers", int, None),
        ("width", int, None),
        ("heads", int, None),
        ("feed_forward", int, None),
        ("dropout", float, None),
        ("learning_rate", float, None),
        ("warmup", int, "steps"),
        ("cool_down", int, "steps at the end in which the rate falls; 0: it falls along a cosine from the start"),
        ("weight_decay", float, None),
        ("eval_every", int, "steps"),
        ("save_every", int, "steps"),
        ("seed", int, None),
    ]:
        parser.add_argument("--" + name.replace("_", "-"), type=kind, default=defaults[name], help=text)


def make_dropout(rate, key):
    """drop(x, index): x with a share of its numbers zeroed, differently for each index; x without a key."""

    def drop(x, index):
        threshold = int(rate * 256)
        if key is None or threshold == 0:
            return x
        bits = jax.random.bits(jax.random.fold_in(key, index), x.shape, jnp.uint8)
        return jnp.where(bits >= threshold, x / (1.0 - threshold / 256), 0.0)

    return drop


def make_schedule(args):
    """The learning rate by step. With a cool-down a run may be given more or fewer steps while it is under way."""
    peak, last = args.learning_rate, 0.02 * args.learning_rate
    if args.cool_down == 0:
        return optax.warmup_cosine_decay_schedule(0.0, peak, args.warmup, args.steps, last)
    rise, fall = optax.linear_schedule(0.0, peak, args.warmup), optax.linear_schedule(peak, last, args.cool_down)
    flat = optax.constant_schedule(peak)
    return optax.join_schedules([rise, flat, fall], [args.warmup, args.steps - args.cool_down])


def make_optimizer(args, params, is_inner):
    """Muon for the matrices inside the layers, AdamW for the rest."""
    schedule = make_schedule(args)
    labels = {name: "muon" if is_inner(name) and value.ndim == 2 else "adam" for name, value in params.items()}
    muon = optax.contrib.muon(schedule, weight_decay=args.weight_decay, consistent_rms=0.2)
    adam = optax.adamw(schedule, b1=0.9, b2=0.98, weight_decay=0.0)
    return optax.chain(optax.clip_by_global_norm(1.0), optax.partition({"muon": muon, "adam": adam}, labels))


def save(path, state):
    temporary = path.with_suffix(".tmp")
    with open(temporary, "wb") as file:
        pickle.dump(jax.tree_util.tree_map(np.asarray, state), file)
    os.replace(temporary, path)


def fit(args, params, is_inner, loss, batch, evaluate, measure="{:.4f}"):
    """Trained parameters. Starts from the checkpoint under args.run where there is one.

    loss(params, data, key) is a mean to lower; batch(step) the data of a step, which depends on nothing
    else, so that a resumed run sees the same; evaluate(params) a number for the log, which measure formats
    as it does a loss.
    """
    print(f"{sum(value.size for value in params.values()):,} parameters")
    optimizer = make_optimizer(args, params, is_inner)
    state = optimizer.init(params)
    args.run.mkdir(parents=True, exist_ok=True)
    checkpoint, first = args.run / "checkpoint.pkl", 0
    if checkpoint.exists():
        with open(checkpoint, "rb") as file:  # our own file, written by save()
            first, params, state = pickle.load(file)
        print(f"resumed at step {first}")

    @jax.jit
    def update(params, state, data, key):
        value, gradient = jax.value_and_grad(loss)(params, data, key)
        change, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, change), state, value

    key = jax.random.key(args.seed)
    bar = tqdm(range(first, args.steps), initial=first, total=args.steps, unit="step")
    average = None
    for step in bar:
        params, state, value = update(params, state, batch(step), jax.random.fold_in(key, step))
        average = float(value) if average is None else 0.98 * average + 0.02 * float(value)
        bar.set_postfix(loss=measure.format(average))
        done = step + 1
        if done % args.save_every == 0 or done == args.steps:
            save(checkpoint, (done, params, state))
        if done % args.eval_every == 0 or done == args.steps:
            line = f"step {done} training {measure.format(average)} held-out {measure.format(evaluate(params))}"
            bar.write(line)
            with open(args.run / "log.txt", "a", encoding="utf-8") as log:
                log.write(line + "\n")
    return params


def write_folder(folder, config, tensors):
    """config.json and model.safetensors; matrices as bf16, all else as f32."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    arrays = {name: np.asarray(value) for name, value in tensors.items()}
    stored = {name: a.astype(jnp.bfloat16) if a.ndim >= 2 else a.astype(np.float32) for name, a in arrays.items()}
    save_file(stored, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
