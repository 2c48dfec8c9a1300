# SPDX-License-Identifier: Apache-2.0
"""The same prompt and seed give the same bytes, whatever the server did meanwhile."""

import json
import pathlib
import unittest

from tests.e2e.programs import ROOT, Server, token_ids

PROMPT = "ROMEO:\nBut soft, what light through yonder window breaks?\nIt is the east, and Juliet is the sun."
SAMPLED = ("--prompt", PROMPT, "--max-tokens", 160, "--temperature", 1.0, "--seed", 42)


def cpu_targets():
    """The instruction sets this machine can run, of those the backend has."""
    flags = set(pathlib.Path("/proc/cpuinfo").read_text(encoding="ascii").split())
    targets = ["v2"]
    if {"avx2", "fma", "bmi2"} <= flags:
        targets.append("v3")
    if {"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512cd"} <= flags:
        targets.append("v4")
    if "v4" in targets and {"avx512_bf16", "avx512_vnni"} <= flags:
        targets.append("v4dot")
    return targets


class Exactness(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with Server("--threads", 1) as server:
            cls.expected = server.tokens(*SAMPLED)

    def test_the_golden_tokens(self):
        # Recorded once; another machine, compiler or instruction set must give them too.
        golden = json.loads((ROOT / "tests/golden/shakespeare_tokens.json").read_text(encoding="utf-8"))
        with Server("--numeric-path", "fma") as server:
            for case in golden:
                with self.subTest(case["prompt"]):
                    found = server.tokens("--prompt", case["prompt"], "--max-tokens", len(case["token_ids"]),
                                          "--temperature", case["temperature"], "--seed", case["seed"])
                    self.assertEqual(found, case["token_ids"])

    def test_threads_and_instruction_sets(self):
        for weights in ("bf16", "int8"):
            path = ("--numeric-path", "fma", "--weights", weights)
            with Server("--threads", 1, "--cpu-target", "v2", *path) as server:
                expected = server.tokens(*SAMPLED)
            for threads, target in [(2, "auto")] + [(1, t) for t in cpu_targets()]:
                with self.subTest(weights=weights, threads=threads, target=target):
                    with Server("--threads", threads, "--cpu-target", target, *path) as server:
                        self.assertEqual(server.tokens(*SAMPLED), expected)

    def test_prompt_chunks(self):
        for chunk in (1, 7, 256):
            with self.subTest(chunk=chunk):
                with Server("--prefill-chunk", chunk) as server:
                    self.assertEqual(server.tokens(*SAMPLED), self.expected)

    def test_among_63_others(self):
        with Server("--slots", 64) as server:
            others = [server.start("generate", "--prompt", f"Citizen {i}:\n" * (1 + i % 5), "--max-tokens", 400,
                                   "--seed", i) for i in range(63)]
            self.assertEqual(server.tokens(*SAMPLED), self.expected)
            for process in others:
                process.communicate(timeout=300)
                self.assertEqual(process.returncode, 0)

    def test_in_turns_with_evictions_between(self):
        # One conversation of two turns, once undisturbed, once pushed out of the only slot between them.
        first = ("--session", "a", "--create", "--prompt", PROMPT, "--max-tokens", 40, "--seed", 1)
        second = ("--session", "a", "--prompt", "\nJULIET:\n", "--max-tokens", 120, "--seed", 2)
        with Server("--slots", 1) as server:
            undisturbed = server.tokens(*first) + server.tokens(*second)
        with Server("--slots", 1) as server:
            begun = server.tokens(*first)
            server.generate("--session", "b", "--create", "--prompt", "KING:\n", "--max-tokens", 20)
            self.assertEqual(server.metric("eddy_sessions"), 2)
            code, out, _ = server.run("sessions", "get", "a")
            self.assertEqual(code, 0)
            self.assertIn(b"EVICTED", out.upper())
            self.assertEqual(begun + server.tokens(*second), undisturbed)

    def test_greedy_needs_no_seed(self):
        with Server() as server:
            greedy = ("--prompt", PROMPT, "--max-tokens", 64, "--temperature", 0)
            one, other = server.generate(*greedy), server.generate(*greedy, "--seed", 9)
            self.assertEqual(token_ids(one), token_ids(other))


if __name__ == "__main__":
    unittest.main()
