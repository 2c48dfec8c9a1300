# SPDX-License-Identifier: Apache-2.0
"""eddy-step-bench runs, says what it should, and its figures fit together. No figure is judged."""

import json
import os
import pathlib
import subprocess
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BENCH = pathlib.Path(os.environ.get("EDDY_BIN", ROOT / "build" / "release" / "bin")) / "eddy-step-bench"
QUICK = ("--steps", 3, "--seconds", "0.2", "--threads", 2)
FIELDS = ("model", "weights", "tokens_per_s", "gb_per_s", "gflop_per_s", "probe_gb_per_s", "probe_gflop_per_s",
          "share_of_roof", "threads", "target", "numeric_path")
CLASSES = {"matmul", "recurrence", "norm", "elementwise", "sampling", "wait", "other"}


def run(*flags):
    return subprocess.run([BENCH, *map(str, flags)], cwd=ROOT, capture_output=True, text=True, timeout=300)


class StepBench(unittest.TestCase):
    def lines(self, *flags):
        done = run(*flags, *QUICK, "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def test_one_object_a_case(self):
        lines = self.lines("--model", "synthetic:mnist", "--weights", "bf16", "--streams", "1,3", "--prefill", 70,
                           "--chunk", 64, "--classes")
        self.assertEqual([line.get("streams") for line in lines], [1, 3, None])
        self.assertEqual(lines[2]["prefill"], 70)
        for line in lines:
            for field in FIELDS:
                self.assertIn(field, line)
            self.assertEqual(line["model"], "synthetic:mnist")
            roof = max(line["gb_per_s"] / line["probe_gb_per_s"],
                       line["gflop_per_s"] / line["probe_gflop_per_s"])
            self.assertAlmostEqual(line["share_of_roof"] / roof, 1.0, delta=0.01)
            self.assertEqual(set(line["class_ms"]), CLASSES)
        # Two operations a weight and token, and the state's.
        self.assertAlmostEqual(1e9 * lines[0]["gflop_per_s"] / lines[0]["tokens_per_s"],
                               2 * (8 * 786432 + 30 * 256) + 4 * 65536, delta=2e4)

    def test_every_weight_format(self):
        for weights in ("f32", "bf16", "int8", "int4"):
            with self.subTest(weights):
                line, = self.lines("--weights", weights, "--streams", 2, "--prefill", 0)
                self.assertEqual(line["weights"], weights)
                self.assertEqual(line["model"], "shakespeare")

    def test_a_table_for_people(self):
        done = run("--model", "synthetic:cifar10", "--streams", 2, "--prefill", 0, "--classes", *QUICK)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("of roof", done.stdout)
        for name in CLASSES:
            self.assertIn(name, done.stdout)

    def test_unknown_model(self):
        done = run("--model", "synthetic:gpt")
        self.assertEqual(done.returncode, 1)
        self.assertIn("synthetic:mnist", done.stderr)


if __name__ == "__main__":
    unittest.main()
