#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The table of images of "Transformers are RNNs" (arXiv 2006.16236, tables 1 and 2), in kind, on this machine.

    cmake --build --preset release --target eddy_step_bench
    /usr/bin/python3 tests/bench/paper_table.py --threads 2

Models of the paper's shapes with made-up weights: D 256, 8 heads of 32, feed-forward 1024, mixtures of 10
logistics; MNIST with 8 layers and 784 steps an image, CIFAR-10 with 16 and 3072. Four ways to make an image,
one after the other on the same cores:

    eddy       eddy-step-bench, bf16 weights, sampling included
    linear     PyTorch, linear attention as a recurrence, f32
    cached     PyTorch, softmax attention with cached keys and values, f32
    recomputed PyTorch, softmax attention over the whole prefix for every step, f32

A step of eddy and of linear costs the same at every position. The other two are timed at a few positions of the
image, the time between is interpolated, and the sum is marked ~. Needs Debian's python3-torch, but for eddy, and
libopenblas0-pthread: on the reference BLAS PyTorch is ten times slower.
"""

import argparse
import json
import math
import os
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BENCH = pathlib.Path(os.environ.get("EDDY_BIN", ROOT / "build" / "release" / "bin")) / "eddy-step-bench"
WIDTH, HEADS, INNER, OUTPUTS, VALUES = 256, 8, 1024, 30, 256
HEAD = WIDTH // HEADS
MODELS = {"mnist": (8, 784), "cifar10": (16, 3072)}  # layers, steps
WAYS = ("eddy", "linear", "cached", "recomputed")


# ---- PyTorch -------------------------------------------------------------------------------------------


class Network:
    """The layers of all baselines; `attend(layer, q, k, v)` is what they differ in. x [batch, time, WIDTH]"""

    def __init__(self, torch, layers, steps):
        torch.manual_seed(0)
        self.torch = torch
        self.layers = [self.make_layer() for _ in range(layers)]
        self.values = torch.randn(VALUES, WIDTH // 2)
        angle = torch.arange(steps)[:, None] * torch.exp(
            torch.arange(0, WIDTH // 2, 2) * (-math.log(10000.0) / (WIDTH // 2)))
        self.places = torch.stack([torch.sin(angle), torch.cos(angle)], -1).reshape(steps, WIDTH // 2)
        self.predictor = torch.nn.Linear(WIDTH, OUTPUTS)
        self.norm = torch.nn.LayerNorm(WIDTH)

    def make_layer(self):
        nn = self.torch.nn
        linears = [nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, INNER),
                   nn.Linear(INNER, WIDTH), nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)]
        return dict(zip(("qkv", "out", "up", "down", "norm1", "norm2"), linears))

    def run(self, tokens, position, attend):
        """Outputs [batch, OUTPUTS] of the last of tokens [batch, time], the first of which is at `position`."""
        torch = self.torch
        time_ = tokens.shape[1]
        place = self.places[position : position + time_].expand(tokens.shape[0], -1, -1)
        x = torch.cat([self.values[tokens], place], -1)
        for index, layer in enumerate(self.layers):
            q, k, v = layer["qkv"](x).reshape(*x.shape[:2], 3, HEADS, HEAD).permute(2, 0, 3, 1, 4)
            y = attend(index, q, k, v).transpose(1, 2).reshape(x.shape)
            x = layer["norm1"](x + layer["out"](y))
            x = layer["norm2"](x + layer["down"](torch.relu(layer["up"](x))))
        return self.predictor(self.norm(x[:, -1]))


class Linear:
    """S and z of every layer, updated in place."""

    def __init__(self, network, batch):
        self.network, torch = network, network.torch
        self.state = [torch.zeros(batch, HEADS, HEAD, HEAD) for _ in network.layers]
        self.normaliser = [torch.zeros(batch, HEADS, HEAD) for _ in network.layers]

    def attend(self, index, q, k, v):
        elu = self.network.torch.nn.functional.elu
        q, k, v = elu(q[:, :, 0]) + 1, elu(k[:, :, 0]) + 1, v[:, :, 0]
        self.state[index] += k[..., None] * v[:, :, None]
        self.normaliser[index] += k
        y = (q[:, :, None] @ self.state[index])[:, :, 0]
        return (y / ((q * self.normaliser[index]).sum(-1, keepdim=True) + 1e-6))[:, :, None]

    def step(self, tokens, position):
        return self.network.run(tokens[:, position : position + 1], position, self.attend)


class Cached:
    """Keys and values of all positions, room for them made at the start."""

    def __init__(self, network, batch, steps):
        self.network, torch = network, network.torch
        shape = (len(network.layers), batch, HEADS, steps, HEAD)
        self.keys, self.cached_values = torch.zeros(shape), torch.zeros(shape)

    def step(self, tokens, position):
        def attend(index, q, k, v):
            self.keys[index, :, :, position] = k[:, :, 0]
            self.cached_values[index, :, :, position] = v[:, :, 0]
            keys = self.keys[index, :, :, : position + 1]
            weights = (q @ keys.transpose(-1, -2) * HEAD**-0.5).softmax(-1)
            return weights @ self.cached_values[index, :, :, : position + 1]

        return self.network.run(tokens[:, position : position + 1], position, attend)


class Recomputed:
    def __init__(self, network):
        self.network = network

    def step(self, tokens, position):
        torch = self.network.torch
        mask = torch.full((position + 1, position + 1), -math.inf).triu(1)

        def attend(_, q, k, v):
            return (q @ k.transpose(-1, -2) * HEAD**-0.5 + mask).softmax(-1) @ v

        return self.network.run(tokens[:, : position + 1], 0, attend)


def integrate(positions, seconds, steps):
    """The sum over steps 0 .. steps - 1 of a time known at some of them, straight in between and beyond."""
    total, points = 0.0, list(zip(positions, seconds))
    for step in range(steps):
        after = next((i for i, (p, _) in enumerate(points) if p >= step), len(points) - 1)
        (p0, s0), (p1, s1) = points[max(after, 1) - 1], points[min(max(after, 1), len(points) - 1)]
        total += s1 if p1 == p0 else s0 + (s1 - s0) * (step - p0) / (p1 - p0)
    return total


def time_step(step, seconds):
    """Median of calls of step() for some seconds, two at least, after one more."""
    step()
    times, begun = [], time.perf_counter()
    while len(times) < 2 or time.perf_counter() - begun < seconds:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2]


def torch_image_seconds(way, layers, steps, batch, args):
    """Seconds that a batch of images takes."""
    import torch

    torch.set_num_threads(args.threads)
    with torch.no_grad():
        network = Network(torch, layers, steps)
        tokens = torch.randint(VALUES, (batch, steps))
        runner = {"linear": lambda: Linear(network, batch), "cached": lambda: Cached(network, batch, steps),
                  "recomputed": lambda: Recomputed(network)}[way]()
        count = 1 if way == "linear" else args.points
        positions = sorted({(steps - 1) * (2 * i + 1) // (2 * count) for i in range(count)})
        seconds = [time_step(lambda p=p: runner.step(tokens, p), args.seconds) for p in positions]
    return integrate(positions, seconds, steps)


# ---- eddy ----------------------------------------------------------------------------------------------


def eddy_image_seconds(model, steps, batch, args):
    command = [BENCH, "--model", f"synthetic:{model}", "--weights", "bf16", "--streams", batch, "--prefill", 0,
               "--threads", args.threads, "--seconds", args.seconds, "--json"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    return steps * batch / json.loads(done.stdout)["tokens_per_s"]


# ---- table ---------------------------------------------------------------------------------------------


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="mnist,cifar10")
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--batches", default="1,64", help="images at once")
    parser.add_argument("--recomputed-batch-max", type=int, default=1, help="larger batches are left out there")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--seconds", type=float, default=2.0, help="of each timing")
    parser.add_argument("--points", type=int, default=5, help="positions that cached and recomputed are timed at")
    parser.add_argument("--json", action="store_true", help="an object a line")
    args = parser.parse_args()
    for names, known in ((args.models, MODELS), (args.ways, WAYS)):
        for name in names.split(","):
            if name not in known:
                parser.error(f"{name!r} is none of {', '.join(known)}")
    return args


def measure(model, way, batch, args):
    layers, steps = MODELS[model]
    if way == "eddy":
        seconds = eddy_image_seconds(model, steps, batch, args)
    else:
        seconds = torch_image_seconds(way, layers, steps, batch, args)
    return {"model": model, "way": way, "batch": batch, "threads": args.threads, "seconds_per_batch": seconds,
            "images_per_s": batch / seconds, "interpolated": way in ("cached", "recomputed")}


def main():
    args = parse_args()
    cases = [(model, way, batch) for model in args.models.split(",") for way in args.ways.split(",")
             for batch in map(int, args.batches.split(","))
             if way != "recomputed" or batch <= args.recomputed_batch_max]
    if not args.json:
        print(f"{'model':8} {'way':11} {'batch':>5} {'s a batch':>12} {'images/s':>12}")
    for done, case in enumerate(cases):
        if sys.stderr.isatty():
            print(f"\r{done}/{len(cases)} {' '.join(map(str, case)):30}", end="\r", file=sys.stderr)
        row = measure(*case, args)
        if args.json:
            print(json.dumps(row), flush=True)
            continue
        mark = "~" if row["interpolated"] else ""
        seconds, rate = mark + format(row["seconds_per_batch"], ".4g"), mark + format(row["images_per_s"], ".4g")
        print(f"{row['model']:8} {row['way']:11} {row['batch']:5} {seconds:>12} {rate:>12}", flush=True)


if __name__ == "__main__":
    main()
