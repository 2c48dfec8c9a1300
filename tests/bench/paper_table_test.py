# SPDX-License-Identifier: Apache-2.0
"""paper_table.py runs, and its baselines compute what they say. No figure is judged."""

import importlib.util
import json
import pathlib
import subprocess
import sys
import unittest

from tests.bench import paper_table

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


class PaperTable(unittest.TestCase):
    def test_ours(self):
        done = subprocess.run(
            [sys.executable, ROOT / "tests/bench/paper_table.py", "--models", "mnist", "--ways", "eddy",
             "--batches", "1,3", "--seconds", "0.2", "--threads", "2", "--json"],
            capture_output=True, text=True, timeout=300, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual([row["batch"] for row in rows], [1, 3])
        for row in rows:
            self.assertFalse(row["interpolated"])
            self.assertAlmostEqual(row["images_per_s"] * row["seconds_per_batch"], row["batch"])

    def test_the_sum_of_a_straight_line_is_exact(self):
        for positions in ([0, 99], [7, 40, 90], [30, 31]):
            total = paper_table.integrate(positions, [3 + 2 * p for p in positions], 100)
            self.assertAlmostEqual(total, sum(3 + 2 * step for step in range(100)))
        self.assertAlmostEqual(paper_table.integrate([50], [0.25], 100), 25)

    @unittest.skipUnless(importlib.util.find_spec("torch"), "python3-torch is not installed")
    def test_the_baselines_agree_with_attention_over_the_prefix(self):
        import torch

        steps, batch = 9, 2
        with torch.no_grad():
            network = paper_table.Network(torch, 2, steps)
            tokens = torch.randint(paper_table.VALUES, (batch, steps))
            cached, recomputed = paper_table.Cached(network, batch, steps), paper_table.Recomputed(network)
            linear = paper_table.Linear(network, batch)

            def masked(_, q, k, v):  # the paper's equation 9
                q, k = (torch.nn.functional.elu(a) + 1 for a in (q, k))
                weights = (q @ k.transpose(-1, -2)).tril()
                return weights @ v / (weights.sum(-1, keepdim=True) + 1e-6)

            for step in range(steps):
                torch.testing.assert_close(cached.step(tokens, step), recomputed.step(tokens, step))
                whole = network.run(tokens[:, : step + 1], 0, masked)
                torch.testing.assert_close(linear.step(tokens, step), whole)


if __name__ == "__main__":
    unittest.main()
