#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares the tokenizers with the libraries they stand in for, on as many texts as asked.

    cmake --build --preset release --target tokenizer_pipe
    .venv/bin/python tests/tokenizers/compare.py --texts 1000000 [FOLDER ...]

FOLDER: a model's, with tokenizer.json, tokenizer.model or rwkv_vocab_v20230424.txt; default: all of
tests/golden/tokenizers. Needs what tests/golden/make_tokenizers.py needs. Exit code: 0 all the same, 1 not.
"""

import argparse
import ast
import json
import pathlib
import random
import struct
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/golden"))

from make_tokenizers import HuggingFace, SentencePiece, World  # noqa: E402
from tokenizer_texts import FIXED, INVALID, random_bytes, random_text  # noqa: E402

DIFFERENCES_MAX = 10


def oracle_of(folder):
    """What says how it should be, and the names of its special tokens."""
    config = folder / "tokenizer_config.json"
    config = json.loads(config.read_text(encoding="utf-8")) if config.exists() else {}
    if (folder / "rwkv_vocab_v20230424.txt").exists():
        lines = (folder / "rwkv_vocab_v20230424.txt").read_text(encoding="utf-8").splitlines()
        literals = (ast.literal_eval(line[line.index(" ") : line.rindex(" ")].strip()) for line in lines)
        return World([t.encode() if isinstance(t, str) else t for t in literals]), []
    if (folder / "tokenizer.json").exists():
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        names = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
        return HuggingFace(tokenizer, config), names
    oracle = SentencePiece((folder / "tokenizer.model").read_bytes())
    return oracle, ["<s>", "</s>", "<unk>", "<0x41>", "<think>", "fox"]


class Pipe:
    def __init__(self, program, folder):
        self.process = subprocess.Popen([program, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, kind, data):
        self.process.stdin.write(kind + struct.pack("=I", len(data)) + data)
        self.process.stdin.flush()
        (length,) = struct.unpack("=I", self.process.stdout.read(4))
        return None if length == 0xFFFFFFFF else self.process.stdout.read(length)

    def ids(self, kind, text):
        data = self.ask(kind, text)
        return None if data is None else list(struct.unpack(f"={len(data) // 4}i", data))

    def text(self, kind, ids):
        data = self.ask(kind, struct.pack(f"={len(ids)}i", *ids))
        return None if data is None else data.decode("utf-8")


def differences(oracle, pipe, text, ids):
    """Pairs of a question and the two answers that differ."""
    expected = oracle.encode(text)
    decoded = oracle.decode(expected)
    random_decoded = oracle.decode(ids)
    answers = [("encode", expected, pipe.ids(b"E", text)), ("plain", oracle.plain(text), pipe.ids(b"P", text)),
               ("decode", decoded, pipe.text(b"D", expected)), ("stream", decoded, pipe.text(b"S", expected)),
               (f"decode {ids}", random_decoded, pipe.text(b"D", ids))]
    return [(question, theirs, ours) for question, theirs, ours in answers if theirs != ours]


def compare(folder, args):
    oracle, special = oracle_of(folder)
    pipe = Pipe(args.program, str(folder))
    rng = random.Random(args.seed)
    fixed = [text.encode() for text in FIXED] + INVALID
    found, start, byte_count = 0, time.monotonic(), 0
    for number in range(args.texts):
        if number < len(fixed):
            text = fixed[number]
        else:
            text = (random_bytes(rng, special) if number % 8 == 0 else random_text(rng, special).encode())
        byte_count += len(text)
        for question, theirs, ours in differences(oracle, pipe, text, oracle.random_ids(rng)):
            found += 1
            print(f"\n{folder.name}: {question} of {text!r}\n  theirs {theirs!r}\n  ours   {ours!r}")
        if found >= DIFFERENCES_MAX:
            break
        if number % 500 == 499 and sys.stderr.isatty():
            share = (number + 1) / args.texts
            left = (time.monotonic() - start) * (1 - share) / share
            print(f"\r{folder.name} [{'#' * int(30 * share):30}] {number + 1}/{args.texts}, {left:.0f} s left ",
                  end="", file=sys.stderr, flush=True)
    seconds = time.monotonic() - start
    print(f"{folder.name}: {number + 1} texts, {byte_count} bytes, {found} differences, {seconds:.0f} s", flush=True)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=pathlib.Path, metavar="FOLDER")
    parser.add_argument("--texts", type=int, default=10000, help="texts for each folder (default 10000)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--program", default=str(ROOT / "build/release/bin/tokenizer_pipe"))
    args = parser.parse_args()
    golden = ROOT / "tests/golden/tokenizers"
    folders = args.folders or sorted(path for path in golden.iterdir() if path.is_dir())
    sys.exit(1 if sum(compare(folder, args) for folder in folders) else 0)


if __name__ == "__main__":
    main()
