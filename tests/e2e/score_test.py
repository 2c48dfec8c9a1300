# SPDX-License-Identifier: Apache-2.0
"""`eddy score` and `eddy perplexity` against the real server: exact, beside generation, and refused clearly."""

import json
import pathlib
import re
import struct
import subprocess
import tempfile
import unittest

from tests.e2e.programs import BIN, MODEL, Server, token_ids

PROMPT = "ROMEO:\nBut soft, what light through yonder window breaks?\n"


def bits(log_probs):
    """As the floats they are, however many digits their text has."""
    return [struct.pack("<f", x) for x in log_probs]


def score(server, *arguments):
    """The line of `eddy score --json`, which must do well."""
    code, out, err = server.run("score", "--json", *arguments)
    if code != 0:
        raise AssertionError(f"eddy score exited with {code}: {err}")
    lines = out.decode().splitlines()
    if len(lines) != 1:
        raise AssertionError(f"{len(lines)} lines, not one")
    return json.loads(lines[0])


def held_out(byte_count):
    config = json.loads((MODEL / "config.json").read_text(encoding="utf-8"))
    text = (MODEL / config["eddy_text"]).read_bytes()
    return text[config["eddy_text_begin"]:][:byte_count]


class Score(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        cls.server = Server("--numeric-path", "fma")
        cls.addClassCleanup(cls.server.__exit__)

    def file(self, name, data):
        path = pathlib.Path(self.folder.name) / name
        path.write_bytes(data)
        return path

    def test_one_line_of_json(self):
        line = score(self.server, "--token-ids", "34,105,110")
        self.assertEqual(list(line), ["token_ids", "log_probs"])
        self.assertEqual(line["token_ids"], [34, 105, 110])
        self.assertIsNone(line["log_probs"][0])
        self.assertTrue(all(x < 0 for x in line["log_probs"][1:]))
        self.assertEqual(score(self.server, "--text", '"in')["log_probs"], line["log_probs"])
        self.assertEqual(score(self.server, "--token-ids", "34"), {"token_ids": [34], "log_probs": [None]})

    def test_top_alternatives(self):
        line = score(self.server, "--text", PROMPT, "--top", 256)
        self.assertEqual(line["top"][0], [])
        for token, log_prob, top in list(zip(line["token_ids"], line["log_probs"], line["top"]))[1:]:
            self.assertEqual(len(top), 256)  # the whole vocabulary: probabilities add up to one
            falling = [one["log_prob"] for one in top]
            self.assertEqual(falling, sorted(falling, reverse=True))
            self.assertAlmostEqual(sum(2.718281828459045 ** x for x in falling), 1.0, delta=1e-5)
            self.assertIn({"token_id": token, "log_prob": log_prob}, top)
        three = score(self.server, "--text", PROMPT, "--top", 3)
        self.assertEqual([top[:3] for top in line["top"]], three["top"])

    def test_the_bits_of_generate_in_any_company_and_cut(self):
        messages = self.server.generate("--prompt", PROMPT, "--max-tokens", 150, "--seed", 3, "--log-probs")
        ids = token_ids(messages)
        told = [x["token"]["log_prob"] for message in messages for x in message["log_probs"]]
        prompt = list(PROMPT.encode())
        text = ("--token-ids", ",".join(map(str, prompt + ids)))
        alone = score(self.server, *text)["log_probs"]
        self.assertEqual(bits(alone[len(prompt):]), bits(told))
        for flags in (("--batch-scores-max", 1), ("--batch-scores-max", 512, "--prefill-chunk", 1024),
                      ("--threads", 1, "--stream-capacity", 2), ("--slots", 2, "--batch-tokens-max", 5)):
            with self.subTest(flags), Server("--numeric-path", "fma", *flags) as server:
                others = [server.start("generate", "--prompt", f"Citizen {i}:\n", "--max-tokens", 60, "--seed", i)
                          for i in range(6)]
                others += [server.start("score", "--text", f"Citizen {i}:\n" * 20, "--top", 9) for i in range(6)]
                self.assertEqual(bits(score(server, *text)["log_probs"][1:]), bits(alone[1:]))
                for process in others:
                    process.communicate(timeout=300)
                    self.assertEqual(process.returncode, 0)

    def test_those_who_generate_get_what_they_get_alone(self):
        flags = ("--prompt", PROMPT, "--max-tokens", 100, "--seed", 5)
        alone = self.server.tokens(*flags)
        path = self.file("long.txt", held_out(20_000))
        before = self.server.metric("eddy_scored_tokens_total")
        scoring = self.server.start("perplexity", path, "--window", 10_000, "--json")
        self.assertEqual(self.server.tokens(*flags), alone)
        out, _ = scoring.communicate(timeout=300)
        self.assertEqual(scoring.returncode, 0)
        self.assertEqual(json.loads(out)["tokens"], 19_999)
        self.assertEqual(self.server.metric("eddy_scored_tokens_total") - before, 19_999)

    def test_perplexity_is_what_the_quality_bench_measures(self):
        byte_count = 5000
        done = subprocess.run([str(BIN / "eddy-quality-bench"), "--model", str(MODEL), "--bytes-max", str(byte_count)],
                              check=True, stdout=subprocess.PIPE, text=True)
        expected = re.search(r"^bf16 +f32 +fma +([0-9.]+)", done.stdout, re.MULTILINE).group(1)
        path = self.file("held_out.txt", held_out(byte_count))
        code, out, err = self.server.run("perplexity", path, "--window", 1024, "--json")
        self.assertEqual(code, 0, err)
        line = json.loads(out)
        self.assertEqual(f"{line['nats_per_byte']:.5f}", expected)
        self.assertEqual(line["bytes"], byte_count - 1)
        self.assertLess(line["perplexity"], 8)
        _, table, _ = self.server.run("perplexity", path)
        self.assertIn(f"nats per byte {expected:>16}", table.decode())

    def test_refusals(self):
        with Server("--score-tokens", 10, "--prompt-bytes-max", 100) as server:
            for arguments, sentence in (
                    (("--text", "x" * 11), "prompt has 11 tokens to score: at most 10"),
                    (("--text", "x" * 101), "prompt.text has 101 bytes: at most 100"),
                    (("--text", ""), "prompt is empty: at least 1 token"),
                    (("--token-ids", "1,256"), "prompt.token_ids.ids[1] is 256"),
                    (("--text", "x", "--model", "gpt"), 'model "gpt" is not served')):
                with self.subTest(arguments):
                    code, out, err = server.run("score", *arguments)
                    self.assertEqual((code, out), (1, b""))
                    self.assertIn(sentence, err)
            path = self.file("ten.txt", b"to be or not")
            code, _, err = server.run("perplexity", path)
            self.assertEqual(code, 1)
            self.assertIn(f"{path}: INVALID_ARGUMENT: prompt has 12 tokens to score: at most 10", err)
            self.assertEqual(server.run("perplexity", path, "--window", 9)[0], 0)

    def test_without_tokenizer_by_token_ids(self):
        with Server(model="tests/golden/rwkv7/official") as server:
            line = score(server, "--token-ids", "1,2,3", "--top", 2)
            self.assertEqual(line["token_ids"], [1, 2, 3])
            self.assertEqual([len(top) for top in line["top"]], [0, 2, 2])
            _, table, _ = server.run("score", "--token-ids", "1,2,3")
            self.assertEqual(table.split()[:3], [b"POSITION", b"TOKEN_ID", b"LOG_PROB"])
            self.assertNotIn(b"TEXT", table)
            code, _, err = server.run("score", "--text", "hi")
            self.assertEqual(code, 1)
            self.assertIn("has no tokenizer", err)
            path = self.file("ids.txt", b"1 2 3, 4\n5")
            code, out, err = server.run("perplexity", path, "--token-ids", "--json")
            self.assertEqual(code, 0, err)
            self.assertEqual(json.loads(out)["tokens"], 4)
            self.assertNotIn("bytes", json.loads(out))


if __name__ == "__main__":
    unittest.main()
