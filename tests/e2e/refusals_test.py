# SPDX-License-Identifier: Apache-2.0
"""Bad input over the wire: its code and sentence, and that nobody else notices."""

import pathlib
import shutil
import subprocess
import tempfile
import unittest

from tests.e2e.programs import BIN, MODEL, Server

# Flags of `eddy generate`, the code, and words of the sentence: field and limit.
BAD = [
    (("--prompt", ""), "INVALID_ARGUMENT", ["prompt"]),
    (("--prompt", "x", "--model", "gpt"), "NOT_FOUND", ["gpt", "shakespeare"]),
    (("--prompt", "x", "--session", "nobody"), "NOT_FOUND", ["nobody"]),
    (("--prompt", "x", "--session", "a b", "--create"), "INVALID_ARGUMENT", ["session", "a b"]),
    (("--token-ids", "256"), "INVALID_ARGUMENT", ["256"]),
    (("--token-ids", "3000000000"), "INVALID_ARGUMENT", ["3000000000"]),
    (("--prompt", "x", "--temperature", "nan"), "INVALID_ARGUMENT", ["temperature", "nan", "100"]),
    (("--prompt", "x", "--temperature", "-1"), "INVALID_ARGUMENT", ["temperature", "-1", "100"]),
    (("--prompt", "x", "--temperature", "inf"), "INVALID_ARGUMENT", ["temperature", "inf", "100"]),
    (("--prompt", "x", "--top-p", "0"), "INVALID_ARGUMENT", ["top_p", "1"]),
    (("--prompt", "x", "--top-k", "257"), "INVALID_ARGUMENT", ["top_k", "257", "256"]),
    (("--prompt", "x", "--min-p", "1.5"), "INVALID_ARGUMENT", ["min_p", "1.5", "1"]),
    (("--prompt", "x", "--repetition-penalty", "0"), "INVALID_ARGUMENT", ["repetition_penalty", "100"]),
    (("--prompt", "x", "--presence-penalty", "1e9"), "INVALID_ARGUMENT", ["presence_penalty", "100"]),
    (("--prompt", "x", "--frequency-penalty", "nan"), "INVALID_ARGUMENT", ["frequency_penalty", "100"]),
    (("--prompt", "x", "--logit-bias", "300=1"), "INVALID_ARGUMENT", ["logit_bias", "300"]),
    (("--prompt", "x", "--max-tokens", "0"), "INVALID_ARGUMENT", ["max_tokens", "0"]),
    (("--prompt", "x", "--max-tokens", "4000000000"), "INVALID_ARGUMENT", ["max_tokens", "4000000000"]),
    (("--prompt", "x", "--min-tokens", "9", "--max-tokens", "8"), "INVALID_ARGUMENT", ["min_tokens", "9", "8"]),
    (("--prompt", "x", "--stop", "s" * 257), "INVALID_ARGUMENT", ["stop", "257", "256"]),
    (("--prompt", "x", "--log-probs", "--top-log-probs", "21"), "INVALID_ARGUMENT", ["top_log_probs", "21", "20"]),
]


class Refusals(unittest.TestCase):
    def test_bad_requests(self):
        with Server() as server:
            undisturbed = ("generate", "--prompt", "ROMEO:\n", "--max-tokens", 3000, "--seed", 5)
            long = server.start(*undisturbed)
            for flags, code, words in BAD:
                with self.subTest(flags):
                    exit_code, out, err = server.run("generate", *flags)
                    self.assertNotEqual(exit_code, 0)
                    self.assertEqual(out, b"")
                    self.assertIn(code, err)
                    for word in words:
                        self.assertIn(word, err)
            out, err = long.communicate(timeout=300)
            self.assertEqual(long.returncode, 0, err)
            self.assertEqual(out, server.run(*undisturbed)[1])

    def test_a_prompt_of_100_megabytes(self):
        with Server() as server, tempfile.NamedTemporaryFile() as file:
            file.write(b"x" * 100_000_000)
            file.flush()
            exit_code, out, err = server.run("generate", "--prompt-file", file.name)
            self.assertNotEqual(exit_code, 0)
            self.assertEqual(out, b"")
            self.assertRegex(err, "INVALID_ARGUMENT|RESOURCE_EXHAUSTED")
            self.assertEqual(len(server.tokens("--prompt", "x", "--max-tokens", 5)), 5)
            self.assertLess(server.resident_bytes(), 1 << 30)

    def test_nobody_listens(self):
        done = subprocess.run([BIN / "eddy", "generate", "--server", "127.0.0.1:1", "--prompt", "x"],
                              capture_output=True, text=True, timeout=60, check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("UNAVAILABLE", done.stderr)
        self.assertIn("127.0.0.1:1", done.stderr)


class BrokenModels(unittest.TestCase):
    def refused(self, change, *words):
        with tempfile.TemporaryDirectory() as folder:
            copy = pathlib.Path(folder) / "model"
            shutil.copytree(MODEL, copy, ignore=shutil.ignore_patterns("*.txt"))
            change(copy)
            done = subprocess.run([BIN / "eddy-server", "--model", copy, "--listen", "127.0.0.1:0"],
                                  capture_output=True, text=True, timeout=60, check=False)
            self.assertEqual(done.returncode, 1, done.stderr)
            for word in words:
                self.assertIn(word, done.stderr)

    def test_no_config(self):
        self.refused(lambda m: (m / "config.json").unlink(), "config.json")

    def test_config_is_no_json(self):
        self.refused(lambda m: (m / "config.json").write_text("{"), "config.json")

    def test_unknown_family(self):
        self.refused(lambda m: (m / "config.json").write_text('{"model_type": "gpt2"}'), "gpt2", "linear_transformer")

    def test_weights_cut_short(self):
        def cut(model):
            data = (model / "model.safetensors").read_bytes()
            (model / "model.safetensors").write_bytes(data[:-1000])
        self.refused(cut, "model.safetensors")

    def test_weights_of_another_shape(self):
        def widen(model):
            config = (model / "config.json").read_text().replace('"hidden_size": 192', '"hidden_size": 384')
            (model / "config.json").write_text(config)
        self.refused(widen, "embedding.weight", "384", "192")


if __name__ == "__main__":
    unittest.main()
