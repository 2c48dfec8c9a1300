# SPDX-License-Identifier: Apache-2.0
"""A model without a tokenizer, here a synthetic one, is served by token ids."""

import json
import subprocess
import unittest

from tests.e2e.programs import BIN, Server

MODEL = "synthetic:mnist"


class NoTokenizer(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(model=MODEL)
        cls.addClassCleanup(cls.server.__exit__)

    def test_token_ids_in_and_out(self):
        flags = ("--token-ids", "1,2,3", "--max-tokens", 40, "--seed", 7)
        messages = self.server.generate(*flags)
        ids = [token for message in messages for token in message["token_ids"]]
        self.assertEqual(len(ids), 40)
        self.assertTrue(all(0 <= token < 256 for token in ids), ids)
        self.assertGreater(len(set(ids)), 5)
        self.assertEqual("".join(message["text"] for message in messages), "")
        self.assertEqual(messages[-1]["usage"]["generated_tokens"], 40)
        code, out, err = self.server.run("generate", *flags)
        self.assertEqual(code, 0, err)
        self.assertEqual(out.decode(), " ".join(map(str, ids)) + "\n")

    def test_the_weights_are_the_same_in_every_process(self):
        flags = ("--token-ids", "200,9", "--max-tokens", 30, "--temperature", 0)
        _, here, _ = self.server.run("generate", *flags)
        with Server("--threads", 1, model=MODEL) as other:
            self.assertEqual(other.run("generate", *flags)[1], here)

    def test_what_needs_text_is_refused(self):
        for flags, instead in ((("generate", "--prompt", "hi"), "use token ids"),
                               (("generate", "--token-ids", "1", "--stop", "x"), "use stop.token_ids"),
                               (("models", "tokenize", "--prompt", "hi"), "use token ids"),
                               (("models", "detokenize", "--token-ids", "1"), "no text"),
                               (("bench", "--prompt", "hi", "--requests", 2), "use token ids")):
            with self.subTest(flags):
                code, out, err = self.server.run(*flags)
                self.assertEqual(code, 1)
                self.assertIn(f'"{MODEL}" has no tokenizer', out.decode() + err)
                self.assertIn(instead, out.decode() + err)

    def test_bench_draws_token_ids(self):
        code, out, err = self.server.run("bench", "--streams", 4, "--requests", 8, "--prompt-tokens", 9,
                                         "--max-tokens", 10, "--json")
        self.assertEqual(code, 0, err)
        self.assertEqual(json.loads(out)["generated_tokens"], 80)

    def test_the_model_says_so(self):
        self.assertIn("token ids only (no tokenizer)", "".join(self.server.lines))
        self.assertEqual(self.server.name, MODEL)

    def test_an_unknown_name_lists_the_names(self):
        done = subprocess.run([BIN / "eddy-server", "--model", "synthetic:gpt"], capture_output=True, text=True,
                              timeout=60)
        self.assertEqual(done.returncode, 1)
        self.assertIn("synthetic:gpt", done.stderr)
        self.assertIn(MODEL, done.stderr)


if __name__ == "__main__":
    unittest.main()
