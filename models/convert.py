#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes model.safetensors, which eddy-server reads, of PyTorch's .bin and .pth files.

  models/convert.py FOLDER                a Hugging Face folder: pytorch_model.bin, or the shards that
                                          pytorch_model.bin.index.json lists
  models/convert.py MODEL.pth --out DIR   a file of torch.save, for example an official RWKV checkpoint; DIR is made
                                          where it is not there

The files are read safely: no code that a file names is ever run, and neither torch nor any other package is needed.
Numbers keep their type and bits (F32, F16, BF16); tensors of integers are left out, since weights are none. The
result appears whole or not at all. A folder without config.json gets one where the tensors themselves tell the
sizes: official RWKV-6 and RWKV-7 checkpoints. Files of PyTorch before 1.6 are refused: load and save them there once.

Then: eddy-server --model DIR
"""

import argparse
import contextlib
import json
import os
import pathlib
import shutil
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from torch_file import SHARING_MAX, TorchFile, TorchFileError, TorchTensor  # noqa: E402

FLOATS = ("F32", "F16", "BF16")
INDEX = "pytorch_model.bin.index.json"
NAME_BYTES_MAX = 1024
SHARD_COUNT_MAX = 1024
INDEX_BYTES_MAX = 16 << 20
# What goes along into another folder.
COPIED = ("config.json", "generation_config.json", "special_tokens_map.json", "added_tokens.json", "LICENSE")


class ConvertError(ValueError):
    """Said to the person as it is."""


class Progress:
    """One line on a terminal that tells how far it is; nothing elsewhere."""

    def __init__(self, all_bytes, stream=sys.stderr):
        self.all_bytes, self.stream = max(all_bytes, 1), stream
        self.done_bytes, self.shown = 0, 0.0

    def advance(self, count):
        self.done_bytes += count
        if self.stream.isatty() and (time.monotonic() - self.shown > 0.1 or self.done_bytes >= self.all_bytes):
            self.shown = time.monotonic()
            share = self.done_bytes / self.all_bytes
            bar = "#" * int(20 * share)
            self.stream.write(f"\r[{bar:-<20}] {int(100 * share):3d} %  {self.done_bytes / 2**30:.2f} of "
                              f"{self.all_bytes / 2**30:.2f} GiB")
            self.stream.flush()

    def end(self):
        if self.stream.isatty() and self.shown:
            self.stream.write("\r" + " " * 60 + "\r")
            self.stream.flush()


def state_dict(content, path, key):
    """The tensors of what was saved; they may lie one dictionary deeper, beside an optimiser's state."""
    if not isinstance(content, dict):
        raise ConvertError(f"{path} holds no dictionary of tensors")
    if key is not None:
        if not isinstance(content.get(key), dict):
            raise ConvertError(f"{path} has no dictionary {key!r}; it has {', '.join(map(repr, list(content)[:20]))}")
        return content[key]
    if any(isinstance(value, TorchTensor) for value in content.values()):
        return content
    inner = [name for name, value in content.items()
             if isinstance(value, dict) and any(isinstance(v, TorchTensor) for v in value.values())]
    if len(inner) == 1:
        return content[inner[0]]
    if inner:
        raise ConvertError(f"{path} has tensors in {', '.join(map(repr, inner))}; name one with --key")
    raise ConvertError(f"{path} holds no tensor")


class Source:
    """The tensors of one or more files, by name. `left_out` names those that are no weights."""

    def __init__(self):
        self.tensors, self.left_out, self.files = {}, [], []

    def add(self, file, key, wanted=None):
        """Those of one open file; with `wanted` exactly these names."""
        self.files.append(file)
        found = set()
        for name, value in state_dict(file.content, file.path, key).items():
            if not isinstance(value, TorchTensor):
                continue
            check_name(name, file.path)
            found.add(name)
            if value.dtype == "F64":
                raise ConvertError(f"{file.path}: {name} has numbers of 64 bits; save it with .float()")
            if value.dtype not in FLOATS:
                self.left_out.append(f"{name} ({value.dtype})")
                continue
            if len(value.shape) > 4:
                raise ConvertError(f"{file.path}: {name} has {len(value.shape)} dimensions, at most 4 are supported")
            if name in self.tensors:
                raise ConvertError(f"{file.path}: {name} is in {self.tensors[name][0].path}, too")
            self.tensors[name] = (file, value)
        if wanted is not None and found != wanted:
            differ = sorted(found ^ wanted)
            raise ConvertError(f"{file.path} does not fit {INDEX}: {len(differ)} tensors are in one of them only, "
                               f"such as {differ[0]!r}")

    def check(self):
        if not self.tensors:
            raise ConvertError("there is no tensor of F32, F16 or BF16")
        stored = sum(info.file_size for file in self.files for info in file.records.values())
        written = sum(tensor.bytes for _, tensor in self.tensors.values())
        if written > SHARING_MAX * stored:
            raise ConvertError(f"the tensors have {written} bytes of {stored} in the files: too many share a storage")


def check_name(name, path):
    if not isinstance(name, str) or not name or name == "__metadata__" or len(name) > NAME_BYTES_MAX:
        raise ConvertError(f"{path} has a tensor named {str(name)[:80]!r}, which no model has")
    try:
        name.encode()
    except UnicodeError:
        raise ConvertError(f"{path} has a tensor whose name is not Unicode") from None


def read_index(path):
    """{file name: names of its tensors}"""
    text = path.read_bytes() if path.stat().st_size <= INDEX_BYTES_MAX else None
    try:
        weight_map = json.loads(text)["weight_map"]
        pairs = list(weight_map.items())
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError):
        raise ConvertError(f"{path} is no JSON with a weight_map of tensor names and files") from None
    shards = {}
    for name, file in pairs:
        if not isinstance(file, str) or not file.endswith((".bin", ".pth", ".pt")) or file != os.path.basename(file) \
                or "\0" in file:
            raise ConvertError(f"{path} says that {name[:80]!r} is in {str(file)[:80]!r}, expected the name of a file "
                               "in the same folder")
        shards.setdefault(file, set()).add(name)
    if not 1 <= len(shards) <= SHARD_COUNT_MAX:
        raise ConvertError(f"{path} lists {len(shards)} files, expected 1 to {SHARD_COUNT_MAX}")
    return shards


def checkpoints(path):
    """[(file, its tensors' names or None)] and the folder of the rest."""
    if not path.exists():
        raise ConvertError(f"{path} does not exist")
    if not path.is_dir():
        return [(path, None)], path.parent
    if (path / "pytorch_model.bin").exists():
        return [(path / "pytorch_model.bin", None)], path
    if (path / INDEX).exists():
        return [(path / file, names) for file, names in sorted(read_index(path / INDEX).items())], path
    single = sorted(path.glob("*.pth"))
    if len(single) == 1:
        return [(single[0], None)], path
    raise ConvertError(f"{path} has neither pytorch_model.bin nor {INDEX}" +
                       (f", and {len(single)} files .pth: name one" if single else ""))


def size_of(source, name, axis):
    if name not in source.tensors:
        raise ConvertError(f"{name} is missing: this is no complete RWKV checkpoint")
    shape = source.tensors[name][1].shape
    if len(shape) <= axis:
        raise ConvertError(f"{name} has {len(shape)} dimensions, expected more than {axis}")
    return shape[axis]


def rwkv_config(source):
    """What the tensors of an official RWKV checkpoint say of themselves; None for other models."""
    names = source.tensors
    if "emb.weight" not in names or not any(name.startswith("blocks.0.att.") for name in names):
        return None
    att, ffn = "blocks.0.att.", "blocks.0.ffn."
    layers = 1 + max(int(name.split(".")[1]) for name in names
                     if name.startswith("blocks.") and name.split(".")[1].isdecimal())
    config = {"vocab_size": size_of(source, "emb.weight", 0), "hidden_size": size_of(source, "emb.weight", 1),
              "num_hidden_layers": layers, "intermediate_size": size_of(source, ffn + "key.weight", 0)}
    if att + "r_k" in names:
        config = {"model_type": "rwkv7", **config, "head_dim": size_of(source, att + "r_k", 1)}
        for letter, key in (("w", "decay"), ("a", "a"), ("g", "gate")):
            config[key + "_low_rank_dim"] = size_of(source, att + letter + "1", 1)
        if layers > 1:
            config["v_low_rank_dim"] = size_of(source, "blocks.1.att.v1", 1)
    elif att + "time_maa_w1" in names:
        config = {"model_type": "rwkv6", **config, "head_size": size_of(source, att + "time_faaaa", 1),
                  "proj_low_rank_dim": size_of(source, att + "time_maa_w2", 1),
                  "gate_low_rank_dim": size_of(source, att + "time_decay_w1", 1)}
    else:
        raise ConvertError("this is RWKV-5 or older, which is not served; only RWKV-6 and RWKV-7 are")
    return {**config, "norm_eps": 1e-5, "tie_word_embeddings": False, "bos_token_id": 0, "eos_token_id": 0}


@contextlib.contextmanager
def unfinished(path):
    """A new file beside `path` that becomes it, whole and on the disk, or goes away."""
    beside = path.with_name(f"{path.name}.unfinished-{os.getpid()}")
    try:
        with open(beside, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.remove(beside)


def write_safetensors(source, path):
    # Wider types first, so that all numbers are aligned.
    order = sorted(source.tensors, key=lambda name: (-source.tensors[name][1].storage.item_bytes, name))
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name in order:
        tensor = source.tensors[name][1]
        header[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [at, at + tensor.bytes]}
        at += tensor.bytes
    text = json.dumps(header, ensure_ascii=True, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % 64)
    progress = Progress(at)
    try:
        with unfinished(path) as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for name in order:
                torch_file, tensor = source.tensors[name]
                for piece in torch_file.pieces(tensor):
                    file.write(piece)
                    progress.advance(len(piece))
    finally:
        progress.end()
    return at


def copy_others(source, target):
    for path in source.iterdir():
        named = path.name in COPIED or "vocab" in path.name or path.name.startswith(("tokenizer", "merges"))
        if named and path.is_file() and not (target / path.name).exists():
            shutil.copyfile(path, target / path.name)


def convert(path, out=None, key=None, force=False):
    """Returns the lines to tell."""
    parts, folder = checkpoints(path)
    target = out or folder
    goal = target / "model.safetensors"
    if goal.exists() and not force:
        raise ConvertError(f"{goal} is there already; --force replaces it")
    with contextlib.ExitStack() as stack:
        source = Source()
        for file, names in parts:
            source.add(stack.enter_context(TorchFile(file)), key, names)
        source.check()
        config = None if (folder / "config.json").exists() or (target / "config.json").exists() \
            else rwkv_config(source)
        target.mkdir(parents=True, exist_ok=True)
        written = write_safetensors(source, goal)
        if config is not None:
            with unfinished(target / "config.json") as file:
                file.write((json.dumps(config, indent=2) + "\n").encode())
    if target.resolve() != folder.resolve():
        copy_others(folder, target)
    lines = [f"{goal}: {len(source.tensors)} tensors, {written} bytes"]
    if source.left_out:
        lines.append(f"left out, as weights are no integers: {', '.join(source.left_out[:20])}"
                     + (f" and {len(source.left_out) - 20} more" if len(source.left_out) > 20 else ""))
    if config is not None:
        lines.append(f"{target / 'config.json'}: {config['model_type']} of {config['num_hidden_layers']} layers, as "
                     "the tensors say; put a tokenizer beside it to be served text")
    elif not (target / "config.json").exists():
        lines.append(f"there is no config.json: {target} needs that of the model to be served")
    return lines


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path, metavar="FOLDER|FILE", help="what to convert")
    parser.add_argument("--out", type=pathlib.Path, metavar="DIR", help="where to; default: the folder of the model")
    parser.add_argument("--key", help="the dictionary to take, where a file of torch.save holds several")
    parser.add_argument("--force", action="store_true", help="replace a model.safetensors that is there")
    options = parser.parse_args(arguments)
    try:
        print("\n".join(convert(options.model, options.out, options.key, options.force)))
    except (ConvertError, TorchFileError, OSError) as error:
        print(f"convert.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
