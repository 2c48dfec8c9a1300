# SPDX-License-Identifier: Apache-2.0
"""Every model family through the real server: what it generates greedily is what the golden's reference would.

One golden of each family of tests/golden/; all of them with EDDY_ALL_GOLDENS=1.
"""

import json
import math
import os
import struct
import unittest

from tests.e2e.programs import ROOT, Server, token_ids

ALL = os.environ.get("EDDY_ALL_GOLDENS") == "1"
# Prefixes of a golden's tokens that are tried.
PREFIX_COUNT = 6
CONTINUED_TOKEN_COUNT = 24


def goldens():
    """Folders with a model, the first of each family or all."""
    folders = [path.parent for path in (ROOT / "tests" / "golden").glob("*/*/config.json")
               if (path.parent / "expected.safetensors").exists()]
    families = {}
    for folder in sorted(folders):
        families.setdefault(folder.parent.name, []).append(folder)
    return [folder for cases in families.values() for folder in (cases if ALL else cases[:1])]


def read_f32(path):
    """name -> the numbers of a tensor that is F32."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    tensors = {}
    for name, entry in json.loads(data[8:8 + length]).items():
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        tensors[name] = struct.unpack(f"<{(end - begin) // 4}f", data[begin:end])
    return tensors


class Golden:
    """The tokens that were read, and after each prefix the one that the reference finds most probable."""

    def __init__(self, folder):
        tensors = read_f32(folder / "expected.safetensors")
        self.tokens = [int(token) for token in tensors["tokens"]]
        logits, size = tensors["logits"], len(tensors["logits"]) // len(self.tokens)
        margin = 1e-3 * (max(logits) - min(logits))
        self.best = {}  # number of tokens read -> token; only where no other comes near
        for count in range(1, len(self.tokens) + 1):
            row = logits[(count - 1) * size:count * size]
            best, second = sorted(range(size), key=row.__getitem__)[:-3:-1]
            if row[best] - row[second] > margin:
                self.best[count] = best
        self.prefixes = sorted(self.best)[::max(1, math.ceil(len(self.best) / PREFIX_COUNT))]

    def prompt(self, count):
        return ("--token-ids", ",".join(map(str, self.tokens[:count])), "--temperature", 0)


class Families(unittest.TestCase):
    def test_all_that_there_are(self):
        names = {folder.parent.name for folder in goldens()}
        self.assertLessEqual({"gated_deltanet", "linear_transformer", "mamba2", "rwkv6", "rwkv7"}, names)

    def check_prefixes(self, server, golden):
        self.assertGreaterEqual(len(golden.prefixes), 3)
        for count in golden.prefixes:
            found = server.tokens(*golden.prompt(count), "--max-tokens", 1, "--ignore-end-of-text")
            self.assertEqual(found, [golden.best[count]], f"after {count} tokens")

    def check_eviction(self, server, golden):
        """A conversation of two turns, once undisturbed, once pushed out of the only slot between them."""
        cut = golden.prefixes[len(golden.prefixes) // 2]
        found = []
        for name, is_evicted in (("undisturbed", False), ("evicted", True)):
            session = ("--session", name)
            first = server.tokens(*session, "--create", *golden.prompt(cut), "--max-tokens", 1, "--ignore-end-of-text")
            self.assertEqual(first, [golden.best[cut]])
            if is_evicted:
                server.generate(*golden.prompt(1), "--max-tokens", 5)
                code, out, err = server.run("sessions", "get", name)
                self.assertEqual(code, 0, err)
                self.assertIn(b"EVICTED", out.upper())
            found.append(server.tokens(*session, *golden.prompt(2), "--max-tokens", CONTINUED_TOKEN_COUNT,
                                       "--ignore-end-of-text"))
        self.assertEqual(found[0], found[1])
        self.assertEqual(len(found[0]), CONTINUED_TOKEN_COUNT)

    def test_greedy_tokens_are_the_references(self):
        for folder in goldens():
            golden = Golden(folder)
            with self.subTest(folder.relative_to(ROOT)), \
                    Server("--weights", "f32", "--slots", 1, "--prefill-chunk", 7, model=folder) as server:
                self.check_prefixes(server, golden)
                self.check_eviction(server, golden)

    def test_bf16_is_served_by_default(self):
        for folder in goldens():
            with self.subTest(folder.relative_to(ROOT)), Server(model=folder) as server:
                messages = server.generate(*Golden(folder).prompt(5), "--max-tokens", 3, "--ignore-end-of-text")
                self.assertEqual(len(token_ids(messages)), 3)


if __name__ == "__main__":
    unittest.main()
