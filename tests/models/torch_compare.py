#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""models/convert.py against PyTorch itself: what torch.save wrote, converted, has the bits that torch.load gives.

    python3 -m venv venv && venv/bin/pip install torch numpy
    venv/bin/python tests/models/torch_compare.py [--rounds N]

Saves dictionaries of tensors of every kind that checkpoints have (types, views, shared storages, parameters, empty
and scalar tensors, modules' state_dicts, pickle protocols) in random order and number, and compares all of them.
No part of tests/run, which needs no PyTorch.
"""

import argparse
import collections
import json
import pathlib
import struct
import sys
import tempfile
import warnings

import torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "models"))

import convert  # noqa: E402

TYPES = {torch.float32: ("F32", torch.int32), torch.float16: ("F16", torch.int16),
         torch.bfloat16: ("BF16", torch.int16)}


def tensors_of(dtype, generator):
    def normal(*shape):
        return torch.randn(*shape, generator=generator).to(dtype)

    whole = normal(40, 24)
    bits = torch.randint(-2**15, 2**15, (500,), generator=generator, dtype=torch.int16)
    views = {
        "whole": whole, "transposed": whole.t(), "rows": whole[3:17], "columns": whole[:, 5:9],
        "steps": whole[::3, ::2], "one_column": whole[:, 2], "permuted": normal(4, 5, 6).permute(2, 0, 1),
        "axes": normal(2, 3, 4, 5).transpose(1, 3), "narrow": normal(9, 9).narrow(0, 2, 3), "scalar": normal(1)[0],
        "empty": normal(0, 3), "ones": normal(1, 1, 24), "same_storage": whole.view(24, 40),
        "last": whole.flatten()[-1:], "parameter": torch.nn.Parameter(normal(7, 5)),
        "parameter_view": torch.nn.Parameter(normal(6, 8).t()), "no_gradient": torch.nn.Parameter(normal(3), False)}
    if dtype != torch.float32:
        views["any_bits"] = bits.view(dtype)  # with infinities and NaNs
    return views


def module_state(generator):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.nn.Sequential(torch.nn.Linear(8, 6), torch.nn.LayerNorm(6), torch.nn.Conv1d(6, 6, 4, groups=6),
                                     torch.nn.GRU(6, 4))
        module[0].weight.data = torch.randn(6, 8, generator=generator)
        return module.state_dict()


def read_safetensors(path):
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + length])
    header.pop("__metadata__")
    return {name: (entry["dtype"], entry["shape"], data[8 + length:][slice(*entry["data_offsets"])])
            for name, entry in header.items()}


def compare(saved, path, folder):
    (folder / "model.safetensors").unlink(missing_ok=True)
    convert.convert(path, folder)
    converted = read_safetensors(folder / "model.safetensors")
    loaded = torch.load(path, weights_only=False)  # our own file; its safe loading knows protocol 2 only
    assert set(converted) == set(saved) == set(loaded), set(converted) ^ set(saved)
    for name, tensor in loaded.items():
        kind, integers = TYPES[tensor.dtype]
        bits = tensor.detach().contiguous().reshape(-1).view(integers).numpy().tobytes()
        assert converted[name] == (kind, list(tensor.shape), bits), name
    return len(converted)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    count = files = 0
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        path = folder / "model.pth"
        for seed in range(rounds):
            generator = torch.Generator().manual_seed(seed)
            everything = [(f"{kind}.{key}", tensor) for dtype, (kind, _) in TYPES.items()
                          for key, tensor in tensors_of(dtype, generator).items()]
            order = torch.randperm(len(everything), generator=generator).tolist()
            chosen = [everything[i] for i in order[:1 + seed * 7 % len(everything)]]
            for state in (dict(everything), collections.OrderedDict(chosen), module_state(generator)):
                for protocol in (2, 3, 4, 5):
                    torch.save(state, path, pickle_protocol=protocol)
                    count += compare(state, path, folder)
                    files += 1
        torch.save({"w": torch.ones(2)}, path, _use_new_zipfile_serialization=False)
        try:
            convert.convert(path, folder, force=True)
            raise AssertionError("the old format was read")
        except convert.TorchFileError as error:
            assert "before 1.6" in str(error), error
    print(f"PyTorch {torch.__version__}: {files} files, {count} tensors, all the same bits; the old format is refused")


if __name__ == "__main__":
    main()
