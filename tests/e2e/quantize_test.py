# SPDX-License-Identifier: Apache-2.0
"""eddy quantize with the model that ships: the report, the new folder served, what is refused."""

import os
import pathlib
import pty
import re
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

from tests.e2e.programs import BIN, MODEL, Server

TURN = ("--prompt", "ROMEO:\n", "--max-tokens", 64, "--temperature", 0.8, "--seed", 5, "--log-probs")


def log_probs(server):
    """(token, its log-probability) of each token of the turn: all bits count."""
    entries = [entry["token"] for message in server.generate(*TURN) for entry in message["log_probs"]]
    return [(entry["token_id"], entry["log_prob"]) for entry in entries]


def quantize(*arguments, program=BIN / "eddy", **kwargs):
    command = [str(program), "quantize", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, **kwargs)


class Quantize(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def loss_rows(self, text):
        """{(weights, numeric path): nats per byte} of the report."""
        rows = re.findall(r"^(\w+) +(\w+) +(\d+\.\d+) +[+-]\d+\.\d+ +\d+\.\d+$", text, re.MULTILINE)
        return {row[:2]: float(row[2]) for row in rows}

    def test_the_folder_gives_the_tokens_of_quantising_at_load(self):
        plain = None
        for weights, share in (("int8", 0.55), ("int4", 0.31)):
            out = self.folder / weights
            done = quantize(MODEL, out, "--weights", weights, "--text-bytes-max", 4096)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(done.stderr, "")
            self.assertEqual(len(re.findall(r"^(?:transformer|predictor)\S*\.weight ", done.stdout, re.MULTILINE)), 37)
            self.assertNotIn("embedding", done.stdout)
            self.assertIn("from byte 1003854, 4096 bytes", done.stdout)
            rows = self.loss_rows(done.stdout)
            self.assertEqual({row[0] for row in rows}, {"bf16", weights}, done.stdout)
            for row, nats in rows.items():
                self.assertTrue(1.0 < nats < 1.7, (row, nats))
            self.assertLess((out / "model.safetensors").stat().st_size,
                            share * (MODEL / "model.safetensors").stat().st_size)
            self.assertEqual(sorted(p.name for p in out.iterdir()),
                             ["config.json", "model.safetensors", "tokenizer_config.json"])
            with Server(model=out) as server:
                ahead = log_probs(server)
                self.assertIn(f"{weights} weights", "".join(server.lines))
            with Server("--weights", weights) as server:
                self.assertEqual(log_probs(server), ahead)
            with Server() as server:
                plain = plain or log_probs(server)
            self.assertEqual(len(ahead), 64)
            self.assertNotEqual(ahead, plain)
        refused = subprocess.run([BIN / "eddy-server", "--model", self.folder / "int8", "--weights", "bf16"],
                                 capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(refused.returncode, 1)
        self.assertIn('eddy_quantization is "int8"', refused.stderr)

    def test_a_text_of_ones_own(self):
        text = self.folder / "text"
        text.write_text("not this" + "To be, or not to be. " * 20, encoding="ascii")
        done = quantize(MODEL, self.folder / "out", "--weights", "int8", "--text", text, "--text-begin", 8)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn(f"loss on {text} from byte 8, 420 bytes:", done.stdout)
        self.assertGreaterEqual(len(self.loss_rows(done.stdout)), 2)
        done = quantize(MODEL, self.folder / "quiet", "--weights", "int8", "--no-text")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertNotIn("loss on", done.stdout)

    def test_what_is_refused(self):
        out = self.folder / "out"
        for arguments, code, told in (
                ((MODEL, out), 2, "--weights is required"),
                ((MODEL, out, "--weights", "int2"), 2, "int2"),
                ((self.folder / "none", out, "--weights", "int8", "--no-text"), 1, "does not exist"),
                ((MODEL, self.folder, "--weights", "int8"), 1, "is there already"),
                ((MODEL, out, "--weights", "int8", "--text", self.folder / "none"), 1, "none"),
                (("synthetic:mnist", out, "--weights", "int8", "--no-text"), 1, "has no files")):
            with self.subTest(arguments):
                done = quantize(*arguments)
                self.assertEqual(done.returncode, code, done.stderr)
                self.assertIn("eddy-quantize: ", done.stderr)
                self.assertIn(told, done.stderr)
                self.assertEqual(list(self.folder.iterdir()), [])

    def test_help_is_the_programs(self):
        done = quantize("--help")
        self.assertEqual(done.returncode, 0)
        self.assertIn("relative error", done.stdout)

    def test_eddy_alone_says_what_is_missing(self):
        shutil.copy(BIN / "eddy", self.folder / "eddy")
        done = quantize("--help", program=self.folder / "eddy")
        self.assertEqual(done.returncode, 1)
        self.assertIn("eddy-quantize: No such file or directory", done.stderr)

    def test_progress_on_a_terminal_and_ctrl_c(self):
        primary, secondary = pty.openpty()
        out = self.folder / "out"
        process = subprocess.Popen([BIN / "eddy", "quantize", MODEL, out, "--weights", "int8"], stderr=secondary,
                                   stdout=subprocess.PIPE)
        os.close(secondary)
        seen = b""
        while b"reading the text with" not in seen:
            seen += os.read(primary, 1000)
        process.send_signal(signal.SIGINT)
        end = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < end:
            try:
                seen += os.read(primary, 1000)
            except OSError:  # the other side is closed
                break
        process.stdout.read()
        process.stdout.close()
        self.assertEqual(process.wait(60), 130)
        os.close(primary)
        self.assertIn(b"[####################] 100 %  quantising", seen)
        # The folder was whole before the text was read.
        self.assertEqual([p.name for p in self.folder.iterdir()], ["out"])


if __name__ == "__main__":
    unittest.main()
