#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What is lost between the step and the client, and what a prompt does to those who decode.

    EDDY_BIN=build/release/bin python3 tests/bench/server_load.py [--case step|grpc|prompt|score] [--seconds 20]

step    synthetic:rwkv7-0.19b, 64 streams: tokens/s through gRPC as a share of eddy-step-bench in the same run
grpc    models/shakespeare, 256 streams: tokens/s as a share of a bare gRPC streaming loop in the same run
prompt  synthetic:rwkv7-0.19b, 32 streams that decode: time between their tokens alone, and while prompts of
        512 tokens arrive at random times; time to first token of those prompts
score   synthetic:rwkv7-0.19b, 32 streams that decode: time between their tokens alone, and while a text is
        scored; tokens scored a second beside them and alone

The two sides of a share alternate, several rounds, and medians are printed: a shared machine's speed drifts.
"""

import argparse
import contextlib
import json
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent))
from tests.e2e.programs import BIN, Server, wait_until  # noqa: E402

MODEL = "synthetic:rwkv7-0.19b"


def bench(address, *flags):
    command = [BIN / "eddy", "bench", "--server", address, "--json", "--ignore-end-of-text", *flags]
    done = subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)


@contextlib.contextmanager
def bare_server():
    process = subprocess.Popen([str(BIN / "eddy-bare-server")], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               text=True)
    try:
        yield process.stdout.readline().strip()
    finally:
        process.communicate(timeout=30)


def step_tokens_per_s(args, streams):
    command = [BIN / "eddy-step-bench", "--model", args.model, "--streams", streams, "--prefill", 0, "--json",
               "--seconds", args.seconds / args.rounds]
    done = subprocess.run(list(map(str, command)), check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout.splitlines()[0])["tokens_per_s"]


def print_share(what, ours, yardstick, theirs):
    share = statistics.median(a / b for a, b in zip(ours, theirs))
    print(f"{what}: {statistics.median(ours):,.0f} tokens/s; {yardstick}: {statistics.median(theirs):,.0f}; "
          f"share {share:.3f} ({len(ours)} rounds, medians)")


def step_case(args):
    streams, ours, theirs = args.streams or 64, [], []
    for _ in range(args.rounds):
        theirs.append(step_tokens_per_s(args, streams))
        with Server("--slots", streams, model=args.model, timeout_s=300) as server:
            # The first requests start together and so do prompts later: long turns, counted while all decode.
            report = bench(server.address, "--streams", streams, "--prompt-tokens", 1, "--max-tokens", 100_000,
                           "--duration-s", args.seconds / args.rounds)
            ours.append(report["generated_tokens_per_s"])
    print_share(f"{args.model}, {streams} streams by gRPC", ours, "eddy-step-bench", theirs)


def grpc_case(args):
    streams, ours, theirs = args.streams or 256, [], []
    flags = ("--streams", streams, "--token-ids", 10, "--max-tokens", 4096,
             "--duration-s", args.seconds / args.rounds)
    with Server("--slots", streams) as server, bare_server() as bare:
        for _ in range(args.rounds):
            ours.append(bench(server.address, *flags)["generated_tokens_per_s"])
            theirs.append(bench(bare, *flags)["generated_tokens_per_s"])
    print_share(f"models/shakespeare, {streams} streams", ours, "bare gRPC loop", theirs)


@contextlib.contextmanager
def decoders(server, flags, seconds):
    """In the background for as long as something else is measured, and a little longer; the report is filled in."""
    command = [BIN / "eddy", "bench", "--server", server.address, "--json", "--ignore-end-of-text", *flags,
               "--duration-s", seconds + 2]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE)
    time.sleep(1)
    report = {}
    try:
        yield report
    finally:
        report.update(json.loads(process.communicate(timeout=seconds + 120)[0]))


def print_gaps(streams, reports):
    for name, report in reports.items():
        gaps = report["inter_token_ms"]
        print(f"{streams} decoding {name}: {gaps['p50']:.1f} ms between tokens (median), p99 {gaps['p99']:.1f}, "
              f"max {gaps['max']:.1f}")


def prompt_case(args):
    streams = args.streams or 32
    with Server("--slots", 2 * streams, model=args.model, timeout_s=300) as server:
        decode = ("--streams", streams, "--prompt-tokens", 1, "--max-tokens", 100_000)
        alone = bench(server.address, *decode, "--duration-s", args.seconds)
        with decoders(server, decode, args.seconds) as beside:
            prompts = bench(server.address, "--rate", args.rate, "--prompt-tokens", args.prompt_tokens,
                            "--max-tokens", 1, "--duration-s", args.seconds)
    print_gaps(streams, {"alone": alone, f"beside prompts of {args.prompt_tokens}": beside})
    first = prompts["time_to_first_token_ms"]
    print(f"{prompts['requests_finished']} prompts, {args.rate} a second: time to first token p50 "
          f"{first['p50']:.0f} ms, p99 {first['p99']:.0f} ms")


def scored_per_s(server, path, seconds):
    """Tokens scored a second while `eddy perplexity` has a text for longer than that."""
    def scored():
        return server.metric("eddy_scored_tokens_total")

    idle = scored()
    scorer = server.start("perplexity", path, "--token-ids", "--window", 8192)
    wait_until(lambda: scored() > idle)  # it reads a large file first
    before, begun = scored(), time.monotonic()
    time.sleep(seconds)
    rate = (scored() - before) / (time.monotonic() - begun)
    scorer.terminate()
    scorer.communicate(timeout=30)
    return rate


def score_case(args):
    streams = args.streams or 32
    with Server("--slots", 2 * streams, model=args.model, timeout_s=300) as server, \
            tempfile.NamedTemporaryFile("w", suffix=".txt") as ids:
        ids.write(" ".join(str(random.randrange(64)) for _ in range(1_000_000)))
        ids.flush()
        decode = ("--streams", streams, "--prompt-tokens", 1, "--max-tokens", 100_000)
        alone = bench(server.address, *decode, "--duration-s", args.seconds)
        with decoders(server, decode, args.seconds + 3) as beside:
            rate_beside = scored_per_s(server, ids.name, args.seconds)
        rate_alone = scored_per_s(server, ids.name, args.seconds)
    print_gaps(streams, {"alone": alone, "beside scoring": beside})
    print(f"tokens scored a second: {rate_beside:,.0f} beside them, {rate_alone:,.0f} alone")


CASES = {"step": step_case, "grpc": grpc_case, "prompt": prompt_case, "score": score_case}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=CASES, action="append", help="default: all")
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--seconds", type=float, default=20, help="of each side of a case")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--streams", type=int, help="default: the case's own")
    parser.add_argument("--rate", type=float, default=0.5, help="prompts a second")
    parser.add_argument("--prompt-tokens", type=int, default=512)
    args = parser.parse_args()
    for name in args.case or CASES:
        CASES[name](args)


if __name__ == "__main__":
    main()
