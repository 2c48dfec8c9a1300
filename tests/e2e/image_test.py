# SPDX-License-Identifier: Apache-2.0
"""Images: eddy image against a real server with a small model of 5 x 8 grey pixels."""

import json
import pathlib
import struct
import tempfile
import unittest
import zlib

from tests.e2e.programs import ROOT, Server

MODEL = ROOT / "tests" / "golden" / "linear_transformer" / "image"
WIDTH, HEIGHT = 5, 8


def read_grey_png(path):
    """Rows of a PNG file of 8-bit grey."""
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    at, compressed = 8, b""
    while at < len(data):
        (length,), kind = struct.unpack(">I", data[at : at + 4]), data[at + 4 : at + 8]
        body = data[at + 8 : at + 8 + length]
        if kind == b"IHDR":
            width, height, depth, colour = struct.unpack(">IIBB", body[:10])
            assert (depth, colour) == (8, 0)
        elif kind == b"IDAT":
            compressed += body
        at += 12 + length
    raw, above, rows = zlib.decompress(compressed), [0] * width, []
    for y in range(height):
        line = raw[y * (width + 1) : (y + 1) * (width + 1)]
        row = []
        for x in range(width):
            left, up, corner = row[x - 1] if x else 0, above[x], above[x - 1] if x else 0
            paeth = min((left, up, corner), key=lambda value: abs(left + up - corner - value))
            row.append((line[x + 1] + [0, left, up, (left + up) // 2, paeth][line[0]]) % 256)
        above = row
        rows.append(row)
    return rows


class Images(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server("--threads", 2, model=MODEL)
        cls.addClassCleanup(cls.server.__exit__)
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = pathlib.Path(folder.name)

    def draw(self, *flags):
        path = self.folder / "out.png"
        code, out, err = self.server.run("image", "--png", path, *flags)
        self.assertEqual(code, 0, err)
        self.assertEqual(out, b"")
        return read_grey_png(path)

    def values(self, seed, *given):
        prompt = ",".join(map(str, (0, *given)))
        return self.server.tokens("--token-ids", prompt, "--seed", seed, "--max-tokens", 100)

    def test_the_model_tells_its_format(self):
        code, out, err = self.server.run("models", "get", "--json")
        self.assertEqual(code, 0, err)
        model = json.loads(out)
        self.assertEqual(model["mixture_size"], 10)
        self.assertEqual(model["image"], {"width": WIDTH, "height": HEIGHT, "channels": 1, "start_token": 0})
        self.assertIn("images of 5 x 8 x 1, mixtures of 10 logistics", "".join(self.server.lines))

    def test_a_file_has_the_tokens_of_its_seed(self):
        image = self.draw("--seed", 5)
        self.assertEqual(len(image), HEIGHT)
        tokens = self.values(5)  # the turn ends with the image
        self.assertEqual([value for row in image for value in row], tokens)
        self.assertGreater(len(set(tokens)), 5)

    def test_a_grid_has_the_same_images(self):
        grid = self.draw("--grid", "3x2", "--seed", 20)
        self.assertEqual((len(grid[0]), len(grid)), (3 * WIDTH + 4, 2 * HEIGHT + 2))
        for i in range(6):
            left, top = i % 3 * (WIDTH + 2), i // 3 * (HEIGHT + 2)
            image = [row[left : left + WIDTH] for row in grid[top : top + HEIGHT]]
            self.assertEqual(image, self.draw("--seed", 20 + i), i)

    def test_an_image_goes_on_from_given_rows(self):
        whole = self.draw("--seed", 9)
        given = self.folder / "given.png"
        code, _, err = self.server.run("image", "--seed", 9, "--png", given)
        self.assertEqual(code, 0, err)
        self.assertEqual(self.draw("--given", given, "--seed", 9), whole)
        other = self.draw("--given", given, "--rows", 3, "--seed", 10)
        self.assertEqual(other[:3], whole[:3])
        self.assertNotEqual(other[3:], whole[3:])

    def test_a_pipe_gets_plain_text(self):
        code, out, err = self.server.run("image", "--seed", 5)
        self.assertEqual(code, 0, err)
        lines = out.decode().splitlines()
        self.assertEqual([len(line) for line in lines], [2 * WIDTH] * HEIGHT)
        shades = " .:-=+*#%@"
        expected = ["".join(2 * shades[value * 10 // 256] for value in row) for row in self.draw("--seed", 5)]
        self.assertEqual(lines, expected)

    def test_what_needs_logits_is_refused_by_its_field(self):
        for flags, field in ((("--top-k", 5), "sampling.top_k"), (("--top-p", 0.5), "sampling.top_p"),
                             (("--repetition-penalty", 1.2), "sampling.repetition_penalty"),
                             (("--logit-bias", "3=1"), "sampling.logit_bias")):
            with self.subTest(field):
                code, _, err = self.server.run("generate", "--token-ids", "0", *flags)
                self.assertEqual(code, 1)
                self.assertIn(f"{field} is set, but the model predicts a mixture of logistics", err)

    def test_log_probabilities_are_of_the_values(self):
        messages = self.server.generate("--token-ids", "0", "--seed", 1, "--log-probs")
        found = [p["token"]["log_prob"] for message in messages for p in message["log_probs"]]
        self.assertEqual(len(found), WIDTH * HEIGHT)
        self.assertTrue(all(value <= 0 for value in found), found)
        self.assertLess(min(found), -1)
        tokens = [token for message in messages for token in message["token_ids"]]
        code, out, err = self.server.run("score", "--token-ids", ",".join(map(str, (0, *tokens))), "--json")
        self.assertEqual(code, 0, err)
        first, *scored = json.loads(out)["log_probs"]
        self.assertIsNone(first)
        as_floats = lambda numbers: struct.pack(f"<{len(numbers)}f", *numbers)  # however many digits their text has
        self.assertEqual(as_floats(scored), as_floats(found))


class Digits(unittest.TestCase):
    def test_the_model_that_ships_draws(self):
        with tempfile.TemporaryDirectory() as folder, Server("--threads", 2, model="models/digits") as server:
            drawn = []
            for name in ("a.png", "b.png"):
                path = pathlib.Path(folder) / name
                code, _, err = server.run("image", "--seed", 7, "--png", path)
                self.assertEqual(code, 0, err)
                drawn.append(read_grey_png(path))
        self.assertEqual(drawn[0], drawn[1])
        self.assertEqual([len(row) for row in drawn[0]], [28] * 28)
        ink = sum(value > 128 for row in drawn[0] for value in row)  # a digit's strokes, on a dark ground
        self.assertTrue(20 < ink < 300, ink)


if __name__ == "__main__":
    unittest.main()
