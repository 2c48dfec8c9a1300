#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One session of a million tokens: does a token at its end cost what one at its start did, and is memory flat?

    EDDY_BIN=build/release/bin python3 tests/bench/million_tokens.py [--tokens 1000000]

The session grows in turns. Since a shared machine's speed drifts over minutes, the end is also compared in
pairs: turns of the old session and of a fresh one alternate, and the median of the ratios is printed.
"""

import argparse
import pathlib
import statistics
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent))
from tests.e2e.programs import Server  # noqa: E402


def turn_us_per_token(server, session, tokens, create=False):
    """Generates `tokens` in one turn; microseconds a token between the first and the last."""
    flags = ["--session", session, "--prompt", "\n", "--max-tokens", tokens, "--seed", 1]
    messages = server.generate(*flags, *(["--create"] if create else []))
    usage = messages[-1]["usage"]
    return usage["decode_ms"] * 1000 / (usage["generated_tokens"] - 1), usage


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--turn", type=int, default=10_000, help="tokens a turn")
    parser.add_argument("--pairs", type=int, default=15)
    args = parser.parse_args()
    with Server("--max-tokens-limit", args.turn) as server:
        turn_us_per_token(server, "warm", args.turn, create=True)
        times, resident = [], []
        generated = 0
        while generated < args.tokens:
            time_us, usage = turn_us_per_token(server, "long", args.turn, create=not times)
            generated += usage["generated_tokens"]
            times.append(time_us)
            resident.append(server.resident_bytes() / (1 << 20))
            print(f"\r{generated:>9,} of {args.tokens:,} tokens, {time_us:.1f} us a token", end="", file=sys.stderr)
        print(file=sys.stderr)
        ratios = []
        for i in range(args.pairs):
            fresh, _ = turn_us_per_token(server, f"fresh-{i}", args.turn, create=True)
            old, usage = turn_us_per_token(server, "long", args.turn)
            ratios.append(old / fresh)
        edge = max(1, len(times) // 10)
        print(f"session of {usage['prompt_tokens'] + usage['generated_tokens']:,} tokens, "
              f"{usage['reused_tokens']:,} of them not read again at its last turn")
        print(f"us a token, median: first tenth {statistics.median(times[:edge]):.1f}, "
              f"last tenth {statistics.median(times[-edge:]):.1f}")
        print(f"old session / fresh session, {args.pairs} pairs: median {statistics.median(ratios):.3f}, "
              f"{min(ratios):.3f} to {max(ratios):.3f}")
        print(f"resident memory of the server: {resident[0]:.1f} MiB after the first turn, "
              f"{resident[-1]:.1f} MiB at the end")


if __name__ == "__main__":
    main()
