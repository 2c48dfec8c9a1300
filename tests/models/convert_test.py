# SPDX-License-Identifier: Apache-2.0
"""models/convert.py: the tensors of PyTorch's files, bit for bit, and no code of hostile ones."""

import contextlib
import io
import json
import os
import pathlib
import random
import struct
import sys
import tempfile
import unittest
import zipfile

from tests.models import torch_writer as w

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "models"))

import convert  # noqa: E402
import torch_file  # noqa: E402


def read_safetensors(path):
    """{name: (dtype, shape, bytes)}"""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + length])
    tensors, end = {}, 0
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            tensors[name] = (entry["dtype"], entry["shape"], data[8 + length + begin:8 + length + end])
    assert 8 + length + end == len(data)
    return tensors


class ConvertCase(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.file = self.folder / "model.pth"

    def write(self, content, storages=None, **options):
        w.write(self.file, w.pickled(content), storages, **options)

    def convert(self, **options):
        lines = convert.convert(self.file, **options)
        return read_safetensors(self.folder / "model.safetensors"), "\n".join(lines)

    def refusal(self, path=None, **options):
        with self.assertRaises((torch_file.TorchFileError, convert.ConvertError)) as caught:
            convert.convert(path or self.file, **options)
        self.assertFalse([p for p in self.folder.iterdir() if "safetensors" in p.name])
        message = str(caught.exception)
        self.assertLess(len(message), 2000)
        return message


class Sound(ConvertCase):
    def test_keeps_types_shapes_and_bits(self):
        f32, f16, bf16 = os.urandom(24), os.urandom(12), os.urandom(4)
        self.write(w.ordered({
            "a": w.tensor(w.storage("0", 6), 0, (2, 3), (3, 1)),
            "b": w.tensor(w.storage("1", 6, "HalfStorage"), 2, (4,), (1,)),
            "c": w.parameter(w.tensor(w.storage("2", 2, "BFloat16Storage"), 0, (1, 1, 2), (2, 2, 1))),
            "scalar": w.tensor(w.storage("0", 6), 5, (), ()),
            "none": w.tensor(w.storage("0", 6), 6, (0, 3), (3, 1))}), {"0": f32, "1": f16, "2": bf16})
        tensors, said = self.convert()
        self.assertEqual(tensors, {
            "a": ("F32", [2, 3], f32), "b": ("F16", [4], f16[4:]), "c": ("BF16", [1, 1, 2], bf16),
            "scalar": ("F32", [], f32[20:]), "none": ("F32", [0, 3], b"")})
        self.assertIn("5 tensors, 40 bytes", said)
        self.assertIn("there is no config.json", said)

    def test_views_are_written_row_by_row(self):
        numbers = list(range(24))
        stored = w.storage("0", 24)
        self.write({
            "turned": w.tensor(stored, 0, (4, 6), (1, 4)), "columns": w.tensor(stored, 1, (4, 2), (6, 1)),
            "axes": w.tensor(stored, 0, (2, 3, 4), (4, 8, 1)), "steps": w.tensor(stored, 3, (3,), (7,))},
            {"0": w.floats(*numbers)})
        tensors, _ = self.convert()
        self.assertEqual(tensors["turned"][2], w.floats(*[r + 4 * c for r in range(4) for c in range(6)]))
        self.assertEqual(tensors["columns"][2], w.floats(1, 2, 7, 8, 13, 14, 19, 20))
        self.assertEqual(tensors["axes"][2],
                         w.floats(*[4 * a + 8 * b + c for a in range(2) for b in range(3) for c in range(4)]))
        self.assertEqual(tensors["steps"][2], w.floats(3, 10, 17))

    def test_tied_tensors_are_both_written(self):
        stored = w.storage("7", 2)
        self.write({"a": w.tensor(stored, 0, (2,), (1,)), "b": w.tensor(stored, 0, (2,), (1,))}, {"7": w.floats(1, 2)})
        tensors, _ = self.convert()
        self.assertEqual(tensors["a"], tensors["b"])

    def test_newer_protocols(self):
        text = b"\x8c\x05torch\x94\x8c\x0cFloatStorage\x94\x93\x94"
        identity = b"(\x8c\x07storage" + text + b"\x8c\x010\x8c\x03cpuK\x01tQ"
        rebuild = b"\x8c\x0ctorch._utils\x8c\x12_rebuild_tensor_v2\x93"
        body = b"}\x94\x8c\x01x" + rebuild + b"(" + identity + b"K\x00K\x01\x85K\x01\x85\x89}tRs."
        pickle = b"\x80\x04\x95" + struct.pack("<Q", len(body)) + body
        w.write(self.file, pickle, {"0": w.floats(5)})
        self.assertEqual(self.convert()[0]["x"], ("F32", [1], w.floats(5)))

    def test_takes_the_dictionary_with_the_tensors(self):
        x = w.tensor(w.storage("0", 1), 0, (1,), (1,))
        self.write({"epoch": 3, "lr": [1, 2], "state_dict": w.ordered({"x": x})}, {"0": w.floats(1)})
        self.assertEqual(list(self.convert()[0]), ["x"])
        os.remove(self.folder / "model.safetensors")
        self.write({"model": {"x": x}, "ema": {"y": x}}, {"0": w.floats(1)})
        self.assertIn("name one with --key", self.refusal())
        self.assertIn("no dictionary 'other'; it has 'model', 'ema'", self.refusal(key="other"))
        self.assertEqual(list(self.convert(key="ema")[0]), ["y"])

    def test_integers_are_left_out_and_named(self):
        self.write({"x": w.tensor(w.storage("0", 1), 0, (1,), (1,)),
                    "ids": w.tensor(w.storage("1", 1, "LongStorage"), 0, (1,), (1,))},
                   {"0": w.floats(1), "1": bytes(8)})
        tensors, said = self.convert()
        self.assertEqual(list(tensors), ["x"])
        self.assertIn("left out, as weights are no integers: ids (I64)", said)

    def test_an_existing_result_is_kept_unless_told(self):
        self.write({"x": w.tensor(w.storage("0", 1), 0, (1,), (1,))}, {"0": w.floats(1)})
        goal = self.folder / "model.safetensors"
        goal.write_bytes(b"old")
        with self.assertRaisesRegex(convert.ConvertError, "is there already; --force replaces it"):
            convert.convert(self.file)
        self.assertEqual(goal.read_bytes(), b"old")
        self.assertEqual(list(self.convert(force=True)[0]), ["x"])

    def test_another_folder_gets_what_belongs_to_the_model(self):
        self.write({"x": w.tensor(w.storage("0", 1), 0, (1,), (1,))}, {"0": w.floats(1)})
        for name in ("config.json", "tokenizer.json", "rwkv_vocab_v20230424.txt", "training_args.bin"):
            (self.folder / name).write_text("{}")
        out = self.folder / "deep" / "out"
        said = "\n".join(convert.convert(self.file, out))
        self.assertEqual(sorted(p.name for p in out.iterdir()),
                         ["config.json", "model.safetensors", "rwkv_vocab_v20230424.txt", "tokenizer.json"])
        self.assertNotIn("no config.json", said)

    def test_the_command_line(self):
        self.write({"x": w.tensor(w.storage("0", 1), 0, (1,), (1,))}, {"0": w.floats(1)})
        for arguments, code, told in (([str(self.file)], 0, "1 tensors"),
                                      ([str(self.folder / "none")], 1, "none does not exist")):
            with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
                self.assertEqual(convert.main(arguments), code)
            self.assertIn(told, out.getvalue())
        with contextlib.redirect_stdout(io.StringIO()) as out, self.assertRaises(SystemExit):
            convert.main(["--help"])
        self.assertIn("no code that a file names is ever run", out.getvalue())


class Shards(ConvertCase):
    def setUp(self):
        super().setUp()
        for number, name in enumerate("ab"):
            w.write(self.folder / f"pytorch_model-0000{number + 1}-of-00002.bin",
                    w.pickled({name: w.tensor(w.storage("0", 1), 0, (1,), (1,))}), {"0": w.floats(number)})

    def index(self, weight_map):
        (self.folder / convert.INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))

    def test_become_one_file(self):
        self.index({"a": "pytorch_model-00001-of-00002.bin", "b": "pytorch_model-00002-of-00002.bin"})
        convert.convert(self.folder)
        self.assertEqual(read_safetensors(self.folder / "model.safetensors"),
                         {"a": ("F32", [1], w.floats(0)), "b": ("F32", [1], w.floats(1))})

    def test_must_fit_their_index(self):
        first, second = "pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"
        self.index({"a": first, "b": first})
        self.assertIn("1 tensors are in one of them only, such as 'b'", self.refusal(self.folder))
        for file in ("../x.bin", "/etc/passwd", "", 3, None, "a\0.bin", "model.txt", "d/x.bin"):
            self.index({"a": file})
            self.assertIn("expected the name of a file in the same folder", self.refusal(self.folder))
        for text in ("", "[]", "{}", '{"weight_map": 3}', "[" * 100000, '{"weight_map": {}}'):
            (self.folder / convert.INDEX).write_text(text)
            self.assertRegex(self.refusal(self.folder), "no JSON with a weight_map|lists 0 files")
        self.index({"a": first, "b": "missing.bin"})
        with self.assertRaises(FileNotFoundError):
            convert.convert(self.folder)
        w.write(self.folder / second, w.pickled({"a": w.tensor(w.storage("0", 1), 0, (1,), (1,))}),
                {"0": w.floats(9)})
        self.index({"a": first, "b": second})
        self.assertIn("a is in", self.refusal(self.folder))


class Rwkv(ConvertCase):
    def model(self, shapes):
        content, storages = {}, {}
        for i, (name, shape) in enumerate(shapes.items()):
            count, stride = 1, []
            for size in reversed(shape):
                stride.insert(0, count)
                count *= size
            content[name] = w.tensor(w.storage(str(i), count, "BFloat16Storage"), 0, shape, stride)
            storages[str(i)] = bytes(2 * count)
        self.write(content, storages)
        convert.convert(self.file, self.folder / "out")
        return json.loads((self.folder / "out" / "config.json").read_text())

    def test_seven_tells_its_sizes(self):
        shapes = {"emb.weight": (11, 8), "blocks.0.att.r_k": (2, 4), "blocks.0.ffn.key.weight": (24, 8)}
        shapes |= {f"blocks.{layer}.att.{letter}1": (8, rank) for layer in (0, 1)
                   for letter, rank in (("w", 3), ("a", 5), ("g", 6), ("v", 2))}
        self.assertEqual(self.model(shapes), {
            "model_type": "rwkv7", "vocab_size": 11, "hidden_size": 8, "num_hidden_layers": 2, "intermediate_size": 24,
            "head_dim": 4, "decay_low_rank_dim": 3, "a_low_rank_dim": 5, "gate_low_rank_dim": 6, "v_low_rank_dim": 2,
            "norm_eps": 1e-5, "tie_word_embeddings": False, "bos_token_id": 0, "eos_token_id": 0})

    def test_six_tells_its_sizes(self):
        config = self.model({"emb.weight": (11, 8), "blocks.0.att.time_maa_w1": (8, 15),
                             "blocks.0.att.time_maa_w2": (5, 3, 8), "blocks.0.att.time_decay_w1": (8, 7),
                             "blocks.0.att.time_faaaa": (2, 4), "blocks.0.ffn.key.weight": (28, 8)})
        self.assertEqual((config["model_type"], config["head_size"], config["proj_low_rank_dim"],
                          config["gate_low_rank_dim"], config["intermediate_size"]), ("rwkv6", 4, 3, 7, 28))

    def test_what_is_missing_is_named(self):
        with self.assertRaisesRegex(convert.ConvertError, "blocks.0.ffn.key.weight is missing"):
            self.model({"emb.weight": (11, 8), "blocks.0.att.r_k": (2, 4)})
        with self.assertRaisesRegex(convert.ConvertError, "RWKV-5 or older"):
            self.model({"emb.weight": (11, 8), "blocks.0.att.time_decay": (8,), "blocks.0.ffn.key.weight": (24, 8)})
        with self.assertRaisesRegex(convert.ConvertError, "emb.weight has 1 dimensions"):
            self.model({"emb.weight": (8,), "blocks.0.att.r_k": (2, 4), "blocks.0.ffn.key.weight": (24, 8)})


class Hostile(ConvertCase):
    def refuse(self, content, message, count=4):
        self.write(content, {"0": bytes(4 * count)})
        self.assertIn(message, self.refusal())

    def test_no_function_is_run(self):
        marker = self.folder / "run"
        for module, name, arguments in (
                ("os", "system", (f"touch {marker}",)), ("posix", "system", (f"touch {marker}",)),
                ("builtins", "eval", (f"open({str(marker)!r}, 'w')",)), ("builtins", "getattr", ("", "join")),
                ("subprocess", "Popen", (["touch", str(marker)],)), ("torch", "load", ("x",)),
                ("torch._utils", "_rebuild_tensor_v2.__globals__", ()), ("torch", "nn.Module", ()),
                ("collections", "defaultdict", ()), ("\x1b[31m", "x" * 5000, ())):
            with self.subTest(name=name[:20]):
                self.refuse({"x": w.call(w.function(module, name), *arguments)}, "it is not run")
        self.assertFalse(marker.exists())
        # Names from the stack, too.
        w.write(self.file, b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.")
        self.assertIn("asks for os.system", self.refusal())

    def test_opcodes_that_no_tensor_needs(self):
        for pickle, name in ((b"\x80\x02(I1\nios\nsystem\n.", "INT"), (b"\x80\x02)\x81.", "NEWOBJ"),
                             (b"\x80\x02\x82\x01.", "EXT1"), (b"\x80\x02Px\n.", "PERSID"),
                             (b"\x80\x02(ios\nsystem\n.", "INST"), (b"\x80\x02(o.", "OBJ"),
                             (b"\x80\x04\x8f.", "EMPTY_SET"),
                             (b"\x80\x05\x96" + struct.pack("<Q", 1 << 60) + b".", "")):
            with self.subTest(name=name):
                w.write(self.file, pickle)
                self.assertRegex(self.refusal(), f"has the opcode {name} at byte" if name else "is broken")

    def test_broken_stacks(self):
        for body in (b".", b"R.", b"s.", b"u.", b"t.", b"0.", b"(.", b"(\x85.", b"}(Nu.", b"}(NNu.", b"](e.e",
                     b"q\x00.", b"h\x05.", b"Nb.", b"}Nb.", b"Ja", b"", b"\x85.", b"N)R.", b"}))s.",
                     b"X\xff\xff\xff\xffab.",
                     b"]Ns.", b"}Na.", b"((t))s.", b"j\xff\xff\xff\xff.", b"\x8c\x01a\x93.", b"NN\x93.", b"NQ.",
                     b"\x8b\xff\xff\xff\x7f."):
            with self.subTest(body=body):
                w.write(self.file, b"\x80\x02" + body)
                self.refusal()
        w.write(self.file, b"\x80\x02" + b"(" * 100000 + b"t" * 100000 + b".")  # deep, and no dictionary
        self.assertIn("holds no dictionary", self.refusal())
        w.write(self.file, b"\x80\x02}" + b"(" * 100000 + b"t" * 100000 + b"Ns.")  # a key that would be hashed
        self.assertIn("neither a name nor a number", self.refusal())

    def test_sizes_offsets_and_strides(self):
        stored = w.storage("0", 4)
        for offset, shape, stride, message in (
                (0, (5,), (1,), "has 4 numbers"), (1, (4,), (1,), "has 4 numbers"),
                (0, (2, 2), (3, 1), "has 4 numbers"),
                (-1, (1,), (1,), "whole numbers"), (0, (-1,), (1,), "whole numbers"), (0, (2,), (-1,), "whole numbers"),
                (3, (2,), (-1,), "whole numbers"), (0, (2,), (0,), "overlap"), (0, (1 << 40,), (0,), "overlap"),
                (0, (2, 2), (1, 1), "overlap"), (0, (2, 3), (1, 1), "overlap"), (0, (3, 2), (1, 0), "overlap"),
                (0, (1 << 62, 4), (0, 0), "more than"), (0, (0, 1 << 62, 4), (0, 0, 0), "more than"),
                (1 << 100, (1,), (1,), "has 4 numbers"), (0, (2,), (1 << 100,), "has 4 numbers"),
                (0, (1,), (1, 1), "with 2 strides"), (0, (1,) * 9, (1,) * 9, "whole numbers"),
                (True, (1,), (1,), "whole numbers"), (0, [1], (1,), "whole numbers"), (0, (None,), (1,), "whole"),
                (0, ("a",), (1,), "whole numbers"), (None, (1,), (1,), "whole numbers")):
            with self.subTest(offset=offset, shape=shape, stride=stride):
                made = w.call(w.REBUILD, stored, offset, tuple(shape) if shape != [1] else shape, stride, False, None)
                self.refuse({"x": made}, message)

    def test_storages(self):
        for identity, message in (
                (("storage", w.function("torch", "FloatStorage"), "0", "cpu", 5), "expected 5 numbers"),
                (("storage", w.function("torch", "FloatStorage"), "0", "cpu", -1), "expected -1 numbers"),
                (("storage", w.function("torch", "HalfStorage"), "0", "cpu", 4), "expected 4 numbers of 2"),
                (("storage", w.function("torch", "FloatStorage"), "1", "cpu", 4), "has no storage '1'"),
                (("storage", w.function("torch", "FloatStorage"), "../data.pkl", "cpu", 4), "has no storage"),
                (("storage", "FloatStorage", "0", "cpu", 4), "unknown form"), (("module", None), "unknown form"),
                (("storage", w.ORDERED_DICT, "0", "cpu", 4), "unknown form"), ("0", "unknown form"),
                (("storage", w.function("torch", "FloatStorage"), 0, "cpu", 4), "unknown form"),
                (("storage", w.function("torch", "FloatStorage"), "0", "cpu", "4"), "numbers")):
            with self.subTest(identity=identity):
                made = w.call(w.REBUILD, w.Raw(w.value(identity) + b"Q"), 0, (1,), (1,), False, None)
                self.refuse({"x": made}, message)
        self.refuse({"x": w.call(w.function("torch", "FloatStorage"), 1 << 40)}, "calls a storage's type")
        self.refuse({"x": w.call(w.REBUILD, None, 0, (), ())}, "without a storage")
        self.refuse({"x": w.call(w.REBUILD)}, "is broken")
        self.refuse({"x": w.parameter({})}, "without a tensor")
        self.refuse({"x": w.call(w.ORDERED_DICT, [("a", 1)])}, "makes a dictionary of something else")

    def test_names(self):
        for name in ("", "__metadata__", "a" * 2000, "\ud800"):
            self.write({name: w.tensor(w.storage("0", 1), 0, (1,), (1,))}, {"0": bytes(4)})
            self.refusal()
        self.write({3: w.tensor(w.storage("0", 1), 0, (1,), (1,))}, {"0": bytes(4)})
        self.assertIn("has a tensor named '3'", self.refusal())

    def test_a_small_file_does_not_become_a_large_one(self):
        stored = w.storage("0", 1000)
        self.write({str(i): w.tensor(stored, 0, (1000,), (1,)) for i in range(50)}, {"0": bytes(4000)})
        self.assertIn("too many share a storage", self.refusal())

    def test_types_that_are_no_weights(self):
        self.write({"x": w.tensor(w.storage("0", 1, "DoubleStorage"), 0, (1,), (1,))}, {"0": bytes(8)})
        self.assertIn("x has numbers of 64 bits", self.refusal())
        self.write({"x": w.tensor(w.storage("0", 1, "BoolStorage"), 0, (1,), (1,))}, {"0": bytes(1)})
        self.assertIn("there is no tensor of F32, F16 or BF16", self.refusal())
        self.write({"x": w.tensor(w.storage("0", 1), 0, (1,) * 5, (1,) * 5)}, {"0": bytes(4)})
        self.assertIn("at most 4 are supported", self.refusal())
        self.write({"a": 3, "b": [1]})
        self.assertIn("holds no tensor", self.refusal())

    def test_other_formats(self):
        self.file.write_bytes(torch_file.LEGACY_BEGIN + bytes(100))
        self.assertIn("of PyTorch before 1.6", self.refusal())
        self.file.write_bytes(bytes(257) + b"ustar" + bytes(300))
        self.assertIn("of PyTorch before 1.6", self.refusal())
        for data in (b"", b"PK", b"\x80\x04K\x01.", bytes(1000), b"PK\x03\x04" + bytes(100)):
            self.file.write_bytes(data)
            self.assertRegex(self.refusal(), "not a file of torch.save|is broken|empty")
        self.write({}, extra={"archive/constants.pkl": b""})
        self.assertIn("TorchScript", self.refusal())
        self.write({}, extra={"other/data.pkl": b""})
        self.assertIn("2 records data.pkl", self.refusal())
        self.write({}, {"0": bytes(100)}, compression=zipfile.ZIP_DEFLATED)
        self.assertIn("compressed record", self.refusal())

    def test_big_endian_files(self):
        with zipfile.ZipFile(self.file, "w") as archive:
            archive.writestr("a/data.pkl", w.pickled({}))
            archive.writestr("a/byteorder", "big")
        self.assertIn("big-endian", self.refusal())

    def test_every_cut_and_many_flips_are_read_or_refused(self):
        self.write(w.ordered({"a": w.tensor(w.storage("0", 6), 0, (2, 3), (1, 2)),
                              "b": w.parameter(w.tensor(w.storage("1", 3, "HalfStorage"), 1, (2,), (1,)))}),
                   {"0": bytes(range(24)), "1": bytes(range(6))})
        sound = self.file.read_bytes()
        for size in range(0, len(sound), 7):
            self.file.write_bytes(sound[:size])
            self.refusal()
        chance = random.Random(5)
        refused = 0
        for _ in range(int(os.environ.get("EDDY_FUZZ_ITERATIONS", 400))):
            data = bytearray(sound)
            for _ in range(chance.randint(1, 3)):
                data[chance.randrange(len(data))] = chance.randrange(256)
            self.file.write_bytes(data)
            try:
                convert.convert(self.file, force=True)
            except (torch_file.TorchFileError, convert.ConvertError):
                refused += 1
            self.assertFalse(list(self.folder.glob("*.unfinished-*")))
        self.assertGreater(refused, 0)

    def test_many_wrong_pickles_are_read_or_refused(self):
        sound = w.pickled(w.ordered({"a": w.tensor(w.storage("0", 6), 0, (2, 3), (1, 2)),
                                     "b": w.parameter(w.tensor(w.storage("0", 6), 1, (2,), (1,)))}))
        chance = random.Random(6)
        refused = 0
        for _ in range(int(os.environ.get("EDDY_FUZZ_ITERATIONS", 400))):
            data = bytearray(sound)
            for _ in range(chance.randint(1, 3)):
                at = chance.randrange(len(data))
                if chance.random() < 0.5:
                    data[at] = chance.randrange(256)
                elif chance.random() < 0.5:
                    data[at:at + chance.randrange(20)] = b""
                else:
                    data[at:at] = bytes(chance.choice(b"(t}]useR.NQbqh\x85\x86\x87\x88J") for _ in range(3))
                if not data:
                    break
            w.write(self.file, bytes(data), {"0": bytes(24)})  # with right checksums
            try:
                convert.convert(self.file, force=True)
            except (torch_file.TorchFileError, convert.ConvertError):
                refused += 1
        self.assertGreater(refused, 0)


if __name__ == "__main__":
    unittest.main()
