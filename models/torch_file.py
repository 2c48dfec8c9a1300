# SPDX-License-Identifier: Apache-2.0
"""The tensors of a file that torch.save wrote, read without torch and without running what is in it.

Such a file is a zip of stored records: ROOT/data.pkl, a pickle that says what there is, and ROOT/data/KEY, the
numbers of each storage. Unpickling a file runs whatever functions it names; here a machine of our own reads the
opcodes and knows the few functions that rebuild tensors, as values of its own. Everything else is refused, and so
are sizes, offsets and strides that do not fit the file. Only the standard library is needed.
"""

import math
import mmap
import os
import pickletools
import sys
import zipfile
import zlib
from dataclasses import dataclass

PICKLE_BYTES_MAX = 64 << 20
RECORD_COUNT_MAX = 1 << 20
ELEMENT_COUNT_MAX = 1 << 48  # of one tensor
RANK_MAX = 8
PIECE_BYTES = 8 << 20
# What a file may expand to: tied tensors share a storage, but a small file must not become a large one.
SHARING_MAX = 4

# torch.KEY -> (the safetensors format's name, bytes of a number)
STORAGE_TYPES = {
    "FloatStorage": ("F32", 4), "HalfStorage": ("F16", 2), "BFloat16Storage": ("BF16", 2),
    "DoubleStorage": ("F64", 8), "LongStorage": ("I64", 8), "IntStorage": ("I32", 4), "ShortStorage": ("I16", 2),
    "CharStorage": ("I8", 1), "ByteStorage": ("U8", 1), "BoolStorage": ("BOOL", 1)}
LEGACY_BEGIN = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
OLD = ("is of PyTorch before 1.6, whose format cannot be read without running it; load it there once and save it again "
       "with torch.save")


class TorchFileError(ValueError):
    """The file is broken, hostile, or not of this format; says which file, what and why."""


@dataclass(frozen=True)
class Storage:
    dtype: str
    item_bytes: int
    key: str
    count: int


@dataclass(frozen=True)
class TorchTensor:
    storage: Storage
    offset: int  # in numbers, like the strides
    shape: tuple
    stride: tuple

    @property
    def dtype(self):
        return self.storage.dtype

    @property
    def count(self):
        return math.prod(self.shape)

    @property
    def bytes(self):
        return self.count * self.storage.item_bytes


class Function:
    """A permitted global of the pickle; `call` makes a value of its arguments."""

    def __init__(self, name, call):
        self.name, self.call = name, call


class Machine:
    """Runs the opcodes of one pickle. Values are None, bool, int, float, str, tuple, list, dict, Storage,
    TorchTensor and Function; nothing in it can reach anything else."""

    def __init__(self, permitted, load_storage):
        self.permitted, self.load_storage = permitted, load_storage
        self.stack, self.marks, self.memo = [], [], {}

    def run(self, data):
        for opcode, argument, position in pickletools.genops(data):
            step = getattr(self, "op_" + opcode.name, None)
            if step is None:
                raise TorchFileError(f"has the opcode {opcode.name} at byte {position}, which no file of tensors needs")
            step(argument)
            if opcode.name == "STOP":
                return self.pop()
        raise TorchFileError("ends too early")

    def pop(self):
        if not self.stack or (self.marks and len(self.stack) <= self.marks[-1]):
            raise TorchFileError("takes a value that is not there")
        return self.stack.pop()

    def pop_to_mark(self):
        if not self.marks:
            raise TorchFileError("takes values up to a mark that is not there")
        mark = self.marks.pop()
        values = self.stack[mark:]
        del self.stack[mark:]
        return values

    def top(self, kind):
        if not self.stack or not isinstance(self.stack[-1], kind):
            raise TorchFileError(f"adds to something that is no {kind.__name__}")
        return self.stack[-1]

    def push(self, value):
        self.stack.append(value)

    # ---- plain values ----
    def op_PROTO(self, version):
        if not 2 <= version <= 5:
            raise TorchFileError(f"has the pickle protocol {version}, expected 2 to 5")

    def op_FRAME(self, size):
        pass

    def op_STOP(self, _):
        pass

    def op_NONE(self, _):
        self.push(None)

    def op_NEWTRUE(self, _):
        self.push(True)

    def op_NEWFALSE(self, _):
        self.push(False)

    op_BININT = op_BININT1 = op_BININT2 = op_LONG1 = push
    op_BINFLOAT = op_BINUNICODE = op_SHORT_BINUNICODE = op_BINUNICODE8 = push

    # ---- collections ----
    def op_MARK(self, _):
        self.marks.append(len(self.stack))

    def op_EMPTY_TUPLE(self, _):
        self.push(())

    def op_EMPTY_LIST(self, _):
        self.push([])

    def op_EMPTY_DICT(self, _):
        self.push({})

    def op_TUPLE(self, _):
        self.push(tuple(self.pop_to_mark()))

    def tuple_of(self, count):
        values = [self.pop() for _ in range(count)]
        self.push(tuple(reversed(values)))

    def op_TUPLE1(self, _):
        self.tuple_of(1)

    def op_TUPLE2(self, _):
        self.tuple_of(2)

    def op_TUPLE3(self, _):
        self.tuple_of(3)

    def op_APPEND(self, _):
        value = self.pop()
        self.top(list).append(value)

    def op_APPENDS(self, _):
        values = self.pop_to_mark()
        self.top(list).extend(values)

    def set_items(self, values):
        if len(values) % 2 != 0:
            raise TorchFileError("has a key without a value")
        target = self.top(dict)
        for key, value in zip(values[::2], values[1::2]):
            if not isinstance(key, (str, int)):
                raise TorchFileError("has a key that is neither a name nor a number")
            target[key] = value

    def op_SETITEM(self, _):
        value, key = self.pop(), self.pop()
        self.set_items([key, value])

    def op_SETITEMS(self, _):
        self.set_items(self.pop_to_mark())

    # ---- memo ----
    def op_BINPUT(self, index):
        if not self.stack:
            raise TorchFileError("keeps a value that is not there")
        self.memo[index] = self.stack[-1]

    op_LONG_BINPUT = op_BINPUT

    def op_MEMOIZE(self, _):
        self.op_BINPUT(len(self.memo))

    def op_BINGET(self, index):
        if index not in self.memo:
            raise TorchFileError(f"takes value {index}, which it has not kept")
        self.push(self.memo[index])

    op_LONG_BINGET = op_BINGET

    # ---- what would run code elsewhere ----
    def find(self, module, name):
        function = self.permitted.get((module, name))
        if function is None:
            shown = f"{module}.{name}"[:120].encode("ascii", "backslashreplace").decode()
            raise TorchFileError(f"asks for {shown}, which is no part of a file of tensors; it is not run")
        self.push(function)

    def op_GLOBAL(self, names):
        module, _, name = names.partition(" ")
        self.find(module, name)

    def op_STACK_GLOBAL(self, _):
        name, module = self.pop(), self.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise TorchFileError("asks for something without a name")
        self.find(module, name)

    def op_REDUCE(self, _):
        arguments, function = self.pop(), self.pop()
        if not isinstance(function, Function) or not isinstance(arguments, tuple):
            raise TorchFileError("calls something that is no function")
        self.push(function.call(*arguments))

    def op_BUILD(self, _):
        self.pop()  # attributes such as a state_dict's _metadata
        self.top(dict)

    def op_BINPERSID(self, _):
        self.push(self.load_storage(self.pop()))


def whole_numbers(values, what):
    if not isinstance(values, tuple) or len(values) > RANK_MAX or any(
            type(value) is not int or value < 0 for value in values):
        raise TorchFileError(f"has a tensor whose {what} is not a tuple of at most {RANK_MAX} whole numbers")
    return values


def rebuild_tensor(storage, offset, shape, stride, *rest):
    """torch._utils._rebuild_tensor and _v2; what else they are given (gradients, hooks) is no part of the numbers."""
    if not isinstance(storage, Storage) or len(rest) > 3:
        raise TorchFileError("has a tensor without a storage")
    shape, stride = whole_numbers(shape, "shape"), whole_numbers(stride, "stride")
    (offset,) = whole_numbers((offset,), "offset")
    if len(shape) != len(stride):
        raise TorchFileError(f"has a tensor of shape {list(shape)} with {len(stride)} strides")
    count = 1
    for size in shape:
        count *= max(size, 1)
        if count > ELEMENT_COUNT_MAX:
            raise TorchFileError(f"has a tensor of shape {list(shape)}, more than {ELEMENT_COUNT_MAX} numbers")
    if 0 not in shape:
        last = offset + sum((size - 1) * step for size, step in zip(shape, stride))
        if last >= storage.count:
            raise TorchFileError(f"has a tensor of shape {list(shape)} from number {offset} on with strides "
                                 f"{list(stride)}, but its storage {storage.key} has {storage.count} numbers")
        reach = 0  # of the axes with smaller strides
        for step, size in sorted((step, size) for step, size in zip(stride, shape) if size > 1):
            if step <= reach:
                raise TorchFileError(f"has a tensor of shape {list(shape)} with strides {list(stride)}, "
                                     "whose numbers overlap; save a contiguous copy of it")
            reach += (size - 1) * step
    return TorchTensor(storage, offset, shape, stride)


def rebuild_parameter(tensor, *rest):
    if not isinstance(tensor, TorchTensor) or len(rest) > 3:
        raise TorchFileError("has a parameter without a tensor")
    return tensor


def ordered_dict(*arguments):
    if arguments:
        raise TorchFileError("makes a dictionary of something else")
    return {}


def no_call(*arguments):
    raise TorchFileError("calls a storage's type")


PERMITTED = {
    ("torch._utils", "_rebuild_tensor"): Function("tensor", rebuild_tensor),
    ("torch._utils", "_rebuild_tensor_v2"): Function("tensor", rebuild_tensor),
    ("torch._utils", "_rebuild_parameter"): Function("parameter", rebuild_parameter),
    ("collections", "OrderedDict"): Function("dictionary", ordered_dict)}
PERMITTED.update({("torch", name): Function(name, no_call) for name in STORAGE_TYPES})


class TorchFile:
    """One open file. `content` is what was saved: tensors in dictionaries, lists and plain values."""

    def __init__(self, path):
        self.path = os.fspath(path)
        self.file = self.map = None
        self.records, self.checked = {}, set()
        try:
            self.open()
        except TorchFileError as error:
            self.close()
            raise TorchFileError(f"{self.path} {error}") from None
        except (zipfile.BadZipFile, NotImplementedError, ValueError, KeyError, EOFError, OverflowError,
                MemoryError, TypeError, UnicodeError) as error:
            self.close()
            raise TorchFileError(f"{self.path} is broken: {error}") from None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        for opened in (self.map, self.file):
            try:
                if opened is not None:
                    opened.close()
            except BufferError:  # somebody still looks at a piece; it goes with the last look
                pass

    def open(self):
        self.file = open(self.path, "rb")
        head = self.file.read(265)
        if head.startswith(LEGACY_BEGIN) or head[257:262] == b"ustar":
            raise TorchFileError(OLD)
        if not head.startswith(b"PK\x03\x04"):
            raise TorchFileError("is not a file of torch.save")
        self.map = mmap.mmap(self.file.fileno(), 0, access=mmap.ACCESS_READ)
        self.root = root = self.read_directory()
        if root + "constants.pkl" in self.records:
            raise TorchFileError("is a TorchScript program; save its state_dict() with torch.save")
        byte_order = bytes(self.record(root + "byteorder")) if root + "byteorder" in self.records else b"little"
        if byte_order != b"little":
            raise TorchFileError("has big-endian numbers, expected little-endian ones")
        pickle = self.record(root + "data.pkl")
        if len(pickle) > PICKLE_BYTES_MAX:
            raise TorchFileError(f"has a data.pkl of {len(pickle)} bytes, at most {PICKLE_BYTES_MAX} are accepted")
        self.content = Machine(PERMITTED, self.load_storage).run(bytes(pickle))

    def read_directory(self):
        """Where each record lies; returns the folder they are in."""
        with zipfile.ZipFile(self.file) as archive:
            infos = archive.infolist()
        if len(infos) > RECORD_COUNT_MAX:
            raise TorchFileError(f"has {len(infos)} records, at most {RECORD_COUNT_MAX} are accepted")
        for info in infos:
            if info.filename in self.records:
                raise TorchFileError(f"has the record {info.filename[:120]!r} twice")
            if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 or info.file_size != info.compress_size:
                raise TorchFileError(f"has a compressed record {info.filename[:120]!r}, which torch.save never writes")
            self.records[info.filename] = info
        pickles = [name for name in self.records if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(pickles) != 1:
            raise TorchFileError(f"has {len(pickles)} records data.pkl, expected one: it is not of torch.save")
        return pickles[0][:-len("data.pkl")]

    def record(self, name):
        """The bytes of a record, checked against its checksum once."""
        info = self.records[name]
        at = info.header_offset
        header = self.map[at:at + 30]
        if at < 0 or len(header) != 30 or not header.startswith(b"PK\x03\x04"):
            raise TorchFileError(f"has no record where its directory says {name[:120]!r} is")
        begin = at + 30 + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        if begin + info.file_size > len(self.map):
            raise TorchFileError(f"is truncated: the record {name[:120]!r} goes beyond its end")
        data = memoryview(self.map)[begin:begin + info.file_size]
        if name not in self.checked:
            checksum = 0
            for piece in range(0, len(data), PIECE_BYTES):
                checksum = zlib.crc32(data[piece:piece + PIECE_BYTES], checksum)
            if checksum != info.CRC:
                raise TorchFileError(f"is damaged: the checksum of the record {name[:120]!r} is another")
            self.checked.add(name)
        return data

    def load_storage(self, identity):
        if not isinstance(identity, tuple) or len(identity) != 5 or identity[0] != "storage":
            raise TorchFileError("has a storage of an unknown form")
        _, kind, key, _, count = identity
        if not isinstance(kind, Function) or kind.name not in STORAGE_TYPES or not isinstance(key, str):
            raise TorchFileError("has a storage of an unknown form")
        info = self.records.get(f"{self.root}data/{key}")
        dtype, item_bytes = STORAGE_TYPES[kind.name]
        if info is None:
            raise TorchFileError(f"has no storage {key[:40]!r}, which its data.pkl needs")
        if type(count) is not int or count < 0 or info.file_size != count * item_bytes:
            raise TorchFileError(f"has {info.file_size} bytes in storage {key[:40]!r}, expected {count} numbers of "
                                 f"{item_bytes} bytes")
        return Storage(dtype, item_bytes, key, count)

    def pieces(self, tensor):
        """The tensor's numbers row by row, as they are in memory, in pieces of at most some MiB."""
        if tensor.count == 0:
            return
        try:
            data = self.record(f"{self.root}data/{tensor.storage.key}")
        except TorchFileError as error:
            raise TorchFileError(f"{self.path} {error}") from None
        item_bytes = tensor.storage.item_bytes
        axes = [(size, step) for size, step in zip(tensor.shape, tensor.stride) if size > 1]
        block = 1  # numbers that lie together, of the last axes
        while axes and axes[-1][1] == block:
            block *= axes.pop()[0]
        if not axes or block > 1:
            for start in starts(axes, tensor.offset):
                for begin in range(start * item_bytes, (start + block) * item_bytes, PIECE_BYTES):
                    yield data[begin:min(begin + PIECE_BYTES, (start + block) * item_bytes)]
            self.map.madvise(mmap.MADV_DONTNEED)  # the file's pages, which would add up in memory
            return
        # Single numbers: slices with a step of the last axis.
        size, step = axes.pop()
        numbers = data.cast({1: "B", 2: "H", 4: "I", 8: "Q"}[item_bytes])
        for start in starts(axes, tensor.offset):
            yield numbers[start:start + (size - 1) * step + 1:step].tobytes()


def starts(axes, offset):
    """The first number of each of what the axes [(size, stride)] count, in row-major order."""
    if not axes:
        yield offset
        return
    size, step = axes[0]
    for i in range(size):
        yield from starts(axes[1:], offset + i * step)


assert sys.byteorder == "little", "numbers are copied as they are"
