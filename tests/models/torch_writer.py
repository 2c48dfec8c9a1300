# SPDX-License-Identifier: Apache-2.0
"""Writes files like torch.save's, sound or hostile, opcode by opcode."""

import struct
import zipfile

ITEM_BYTES = {"FloatStorage": 4, "HalfStorage": 2, "BFloat16Storage": 2, "DoubleStorage": 8, "LongStorage": 8,
              "BoolStorage": 1}


class Raw(bytes):
    """Opcodes as they are."""


def function(module, name):
    return Raw(b"c" + module.encode() + b"\n" + name.encode() + b"\n")


def value(x):
    """The opcodes of a value: of plain ones, tuples, lists, dictionaries and Raw."""
    if isinstance(x, Raw):
        return bytes(x)
    if x is None:
        return b"N"
    if x is True or x is False:
        return b"\x88" if x else b"\x89"
    if isinstance(x, int):
        if -2**31 <= x < 2**31:
            return b"J" + struct.pack("<i", x)
        digits = x.to_bytes(16, "little", signed=True)
        return b"\x8a" + bytes([len(digits)]) + digits
    if isinstance(x, str):
        text = x.encode("utf-8", "surrogatepass")
        return b"X" + struct.pack("<I", len(text)) + text
    if isinstance(x, tuple):
        return b"(" + b"".join(map(value, x)) + b"t"
    if isinstance(x, list):
        return b"](" + b"".join(map(value, x)) + b"e"
    return b"}(" + b"".join(value(k) + value(v) for k, v in x.items()) + b"u"


def call(name, *arguments):
    return Raw(value(name) + value(tuple(arguments)) + b"R")


def storage(key, count, kind="FloatStorage"):
    return Raw(value(("storage", function("torch", kind), key, "cpu", count)) + b"Q")


REBUILD = function("torch._utils", "_rebuild_tensor_v2")
ORDERED_DICT = function("collections", "OrderedDict")


def ordered(items):
    """An OrderedDict with the attributes that state_dict() gives it."""
    made = value(call(ORDERED_DICT)) + b"(" + b"".join(value(k) + value(v) for k, v in items.items()) + b"u"
    return Raw(made + value({"_metadata": call(ORDERED_DICT)}) + b"b")


def tensor(stored, offset, shape, stride):
    return call(REBUILD, stored, offset, tuple(shape), tuple(stride), False, call(ORDERED_DICT))


def parameter(made):
    return call(function("torch._utils", "_rebuild_parameter"), made, True, call(ORDERED_DICT))


def pickled(x, protocol=2):
    return b"\x80" + bytes([protocol]) + value(x) + b"."


def write(path, pickle, storages=None, root="archive", extra=None, compression=zipfile.ZIP_STORED):
    """`storages`: key -> bytes. `extra`: record -> bytes."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr(f"{root}/data.pkl", pickle)
        archive.writestr(f"{root}/byteorder", b"little")
        for key, data in (storages or {}).items():
            archive.writestr(f"{root}/data/{key}", data)
        archive.writestr(f"{root}/version", b"3\n")
        for name, data in (extra or {}).items():
            archive.writestr(name, data)


def floats(*numbers):
    return struct.pack(f"<{len(numbers)}f", *numbers)
