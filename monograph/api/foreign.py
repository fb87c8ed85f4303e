"""Other programs' files of weights: PyTorch's zip checkpoints, and NumPy's .npz and .npy.

A PyTorch checkpoint holds a pickle, which in general is a program. Here it is read as data:
`_Reader` knows the few instructions and names that build tensors and plain containers, and refuses
all others by name. It calls nothing that the file names. Memory stays within what the file takes.

Format: a zip of uncompressed members <root>/data.pkl, <root>/byteorder and <root>/data/<key>, the
elements of each storage (torch.serialization; PEP 307 for the pickle's instructions).
"""

from __future__ import annotations

import errno
import os
import pickletools
import struct
import zipfile
import zlib
from collections.abc import Iterable
from typing import Any, BinaryIO

import numpy as np

from ..core import dtype as dt
from ..core.dtype import DType
from ..core.errors import FileFormatError
from ..core.shape import numel
from ..tensor import Tensor
from .creation import from_numpy

STORAGES = {
    "FloatStorage": dt.float32, "DoubleStorage": dt.float64, "HalfStorage": dt.float16,
    "BFloat16Storage": dt.bfloat16, "LongStorage": dt.int64, "IntStorage": dt.int32,
    "ShortStorage": dt.int16, "CharStorage": dt.int8, "ByteStorage": dt.uint8,
    "BoolStorage": dt.bool_, "ComplexFloatStorage": dt.complex64,
    "ComplexDoubleStorage": dt.complex128, "UntypedStorage": dt.uint8,
}  # fmt: skip
DTYPES = {d.name: d for d in dt.ALL} | {"half": dt.float16, "float": dt.float32, "long": dt.int64}
LARGEST_PICKLE = 1 << 28  # bytes; it holds names and shapes, the elements are elsewhere
LARGEST_PROGRAM = 5_000_000  # instructions of a pickle; each may make an object
LARGEST_SIZE = 1 << 58  # elements along a dimension, and in steps of them
LARGEST_KEY = 1 << 60  # numbers beyond have the hashes of smaller ones
UNPACKED = (1 << 28, 100)  # bytes that an .npz may unpack to: this many, or so many times its size
DAMAGED = (
    zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError, RuntimeError, EOFError,
    ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError, RecursionError,
)  # fmt: skip


def bytes_left(file: BinaryIO) -> int:
    """How many bytes a file has from where it stands."""
    here = file.tell()
    size = file.seek(0, os.SEEK_END) - here
    file.seek(here)
    return size


def load_zip(file: BinaryIO, name: str) -> Any:
    """What a PyTorch checkpoint or an .npz file holds; FileFormatError if it is damaged."""
    size = bytes_left(file)
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            names = [m.filename for m in members]
            if len(set(names)) != len(names):
                raise FileFormatError(f"{name}: the zip file holds a name twice")
            pickles = [n for n in names if n == "data.pkl" or n.endswith("/data.pkl")]
            if len(pickles) == 1:
                if sum(m.file_size for m in members) > size:
                    raise FileFormatError(
                        f"{name}: the members of the zip file overlap or are compressed; "
                        "those of a PyTorch checkpoint never are"
                    )
                return _Reader(archive, name, pickles[0], size).load()
            if names and all(n.endswith(".npy") for n in names):
                if sum(m.file_size for m in members) > max(UNPACKED[0], UNPACKED[1] * size):
                    raise FileFormatError(
                        f"{name}: its {size} bytes would unpack to more than {UNPACKED[1]} "
                        f"times that, and more than {UNPACKED[0] >> 20} MiB",
                        hint="np.savez writes the same arrays uncompressed",
                    )
                return {n.removesuffix(".npy"): _read_npy(archive.open(n), name, n,
                        archive.getinfo(n).file_size) for n in names}  # fmt: skip
    except FileFormatError:
        raise
    except OSError as error:
        if error.errno != errno.EINVAL:  # a place outside of the file
            raise
        raise _damaged(name, error) from None
    except DAMAGED as error:
        raise _damaged(name, error) from None
    raise FileFormatError(f"{name}: this zip file is neither a PyTorch checkpoint nor an .npz file")


def load_npy(file: BinaryIO, name: str) -> Tensor:
    """The tensor in an .npy file."""
    try:
        return _read_npy(file, name, "the array", bytes_left(file))
    except FileFormatError:
        raise
    except DAMAGED as error:
        raise _damaged(name, error) from None


def _damaged(name: str, error: Exception) -> FileFormatError:
    text = str(error)[:300] or type(error).__name__
    return FileFormatError(f"{name}: the file is damaged: {text}", hint="nothing was loaded")


def _read_npy(file: Any, name: str, member: str, size: int) -> Tensor:
    try:
        version = np.lib.format.read_magic(file)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, fortran, dtype = read(file)
    except Exception as error:  # NumPy lets through whatever its parser raises
        raise FileFormatError(f"{name}: the header of {member} cannot be read: {error}") from None
    if dtype.hasobject or dtype.newbyteorder("=") not in dt.BY_NUMPY:
        raise FileFormatError(f"{name}: {member} is an array of {dtype}, which is not loaded")
    needed = numel(tuple(shape)) * dtype.itemsize
    if needed > size or min(shape, default=0) < 0:
        raise FileFormatError(
            f"{name}: {member} of shape {tuple(shape)} takes {needed} bytes, but has at most {size}"
        )
    data = file.read(needed)
    if len(data) != needed:
        raise FileFormatError(f"{name}: {member} is cut short", hint="nothing was loaded")
    array = np.frombuffer(bytearray(data), dtype).reshape(shape[::-1] if fortran else shape)
    array = array.T if fortran else array
    return from_numpy(np.array(array, dtype.newbyteorder("="), order="C"))


class _Name:
    """Something that the pickle names; what it stands for is decided here, not looked up."""

    def __init__(self, module: str, name: str):
        self.text = f"{module}.{name}"


class _Storage:
    """The elements of one member, as bytes, and the dtype that the pickle gives them."""

    def __init__(self, data: np.ndarray, dtype: DType, count: int):
        self.data, self.dtype, self.count = data, dtype, count


class _Mapping(dict):
    """A dict that may still be given attributes by the pickle (they are dropped)."""

    __slots__ = ()


_MARK = object()
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_PLAIN = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "UNICODE",
    "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
    "STRING", "BINSTRING", "SHORT_BINSTRING",
}  # fmt: skip
_FUNCTIONS = {
    "torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_tensor_v3", "torch._utils._rebuild_parameter",
    "torch._tensor._rebuild_from_type_v2", "collections.OrderedDict", "collections.Counter",
    "torch.Size", "torch.device", "torch.serialization._get_layout", "_codecs.encode",
    "builtins.set", "builtins.frozenset", "__builtin__.set", "__builtin__.frozenset",
}  # fmt: skip
_CLASSES = {"torch.Tensor", "torch.nn.parameter.Parameter"}
_KEYS = {str, int, float, bool, bytes, type(None), frozenset, DType}


class _Reader:
    """The pickle of one checkpoint, followed one instruction after the other."""

    def __init__(self, archive: zipfile.ZipFile, name: str, member: str, size: int):
        self.archive, self.name, self.size = archive, name, size
        self.member, self.root = member, member.removesuffix("data.pkl")
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, np.ndarray] = {}

    def load(self) -> Any:
        if self.root + "byteorder" in self.archive.namelist():
            order = self._bytes(self.root + "byteorder", 16)
            if order != b"little":
                raise self._refused(f"elements in the byte order {order!r}")
        text = self._bytes(self.member, LARGEST_PICKLE)
        for count, (instruction, argument, _) in enumerate(pickletools.genops(text)):
            if count > LARGEST_PROGRAM:
                raise self._refused(f"a pickle of more than {LARGEST_PROGRAM} instructions")
            if instruction.name == "STOP":
                (found,) = self.stack
                return self._finished(found)
            self._do(instruction.name, argument)
        raise FileFormatError(f"{self.name}: the pickle does not end")

    def _bytes(self, member: str, limit: int) -> bytes:
        info = self.archive.getinfo(member)
        if info.compress_type != zipfile.ZIP_STORED or info.file_size > limit:
            raise FileFormatError(
                f"{self.name}: {member} is compressed or too large ({info.file_size} bytes)"
            )
        return self.archive.read(info)

    def _refused(self, what: str) -> FileFormatError:
        return FileFormatError(
            f"{self.name}: the checkpoint holds {what}, which is not loaded",
            hint="only tensors and plain containers are read, and no code is run; save a "
            "state_dict, or convert the file in PyTorch",
        )

    # ---- the machine

    def _do(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in _PLAIN:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in ("PROTO", "FRAME"):
            pass
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif name == "MARK":
            stack.append(_MARK)
        elif name == "POP":
            stack.pop()
        elif name == "POP_MARK":
            self._marked()
        elif name.startswith("EMPTY_"):
            stack.append({"DICT": _Mapping, "LIST": list, "TUPLE": tuple, "SET": set}[name[6:]]())
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(name[-1])
            stack[-count:] = [tuple(self._last(count))]
        elif name in ("TUPLE", "LIST", "FROZENSET"):
            made: Any = {"TUPLE": tuple, "LIST": list, "FROZENSET": self._frozenset}[name]
            stack.append(made(self._marked()))
        elif name == "DICT":
            stack.append(_Mapping(self._pairs(self._marked())))
        elif name in ("APPEND", "APPENDS"):
            items = self._marked() if name == "APPENDS" else [stack.pop()]
            self._top(list).extend(items)
        elif name == "ADDITEMS":
            items = self._marked()
            self._top(set).update(self._keys(items))
        elif name in ("SETITEM", "SETITEMS"):
            items = self._marked() if name == "SETITEMS" else [stack.pop() for _ in range(2)][::-1]
            self._top(_Mapping).update(self._pairs(items))
        elif name == "GLOBAL":
            module, _, what = argument.partition(" ")
            stack.append(self._named(module, what))
        elif name == "STACK_GLOBAL":
            module, what = self._last(2)
            if type(module) is not str or type(what) is not str:
                raise ValueError("the pickle names something by what is no text")
            stack[-2:] = [self._named(module, what)]
        elif name == "BINPERSID":
            stack.append(self._storage(stack.pop()))
        elif name == "REDUCE":
            function, arguments = self._last(2)
            stack[-2:] = [self._call(function, arguments)]
        elif name == "BUILD":
            stack.pop()
            if not isinstance(stack[-1], _Mapping):  # the `_metadata` of a state dict is dropped
                raise self._refused(f"attributes of a {type(stack[-1]).__name__}")
        else:
            raise self._refused(f"the pickle instruction {name}")

    def _last(self, count: int) -> list[Any]:
        found = self.stack[-count:]
        if len(found) != count or any(x is _MARK for x in found):
            raise ValueError("the pickle's stack is too short")
        return found

    def _marked(self) -> list[Any]:
        items: list[Any] = []
        while self.stack[-1] is not _MARK:
            items.append(self.stack.pop())
        self.stack.pop()
        return items[::-1]

    def _top(self, kind: type) -> Any:
        if type(self.stack[-1]) is not kind:
            raise ValueError(f"the pickle adds to a {type(self.stack[-1]).__name__}")
        return self.stack[-1]

    def _keys(self, items: Iterable[Any]) -> list[Any]:
        """The items, if all may be keys: plain, as a hash goes through all that a tuple holds."""
        found = list(items)
        for x in found:
            for part in x if type(x) is tuple else (x,):
                if type(part) is int and abs(part) >= LARGEST_KEY or type(part) not in _KEYS:
                    raise self._refused(f"a {type(part).__name__} as a key, or as a part of one")
        return found

    def _pairs(self, items: list[Any]) -> list[tuple[Any, Any]]:
        return list(zip(self._keys(items[::2]), items[1::2], strict=True))

    def _frozenset(self, items: Iterable[Any] = ()) -> frozenset:
        return frozenset(self._keys(items))

    # ---- what names mean

    def _named(self, module: str, name: str) -> Any:
        text = f"{module}.{name}"
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        if text in _FUNCTIONS or text in _CLASSES:
            return _Name(module, name)
        if module in ("torch", "torch.storage") and name in STORAGES:
            return _Name(module, name)
        raise self._refused(repr(text[:200]))

    def _call(self, function: Any, arguments: Any) -> Any:
        if type(function) is not _Name or function.text not in _FUNCTIONS:
            raise self._refused(f"a call of {getattr(function, 'text', type(function).__name__)}")
        if type(arguments) is not tuple:
            raise ValueError("the pickle calls without a tuple of arguments")
        what = function.text.rpartition(".")[2]
        if what in ("_rebuild_tensor", "_rebuild_tensor_v2"):
            return self._tensor(*arguments[:4])
        if what == "_rebuild_tensor_v3":
            return self._tensor(*arguments[:4], dtype=arguments[6])
        if what == "_rebuild_parameter":
            if not isinstance(arguments[0], Tensor):
                raise ValueError("a parameter is not a tensor")
            return arguments[0]
        if what == "_rebuild_from_type_v2":
            inner, kind, inside, _ = arguments
            if type(kind) is not _Name or kind.text not in _CLASSES:
                what = getattr(kind, "text", type(kind).__name__)
                raise self._refused(f"a tensor of the class {what}")
            return self._call(inner, inside)
        if what in ("OrderedDict", "Counter"):
            given = arguments[0] if arguments else {}
            pairs = list(given.items() if type(given) is _Mapping else given)
            return _Mapping(self._pairs([x for key, value in pairs for x in (key, value)]))
        if what in ("set", "frozenset"):
            return (set if what == "set" else frozenset)(self._keys(*arguments[:1] or ((),)))
        if what == "Size":
            return tuple(arguments[0])
        if what == "device":
            if any(type(a) not in (str, int) for a in arguments):
                raise ValueError("a device that is no text and number")
            return ":".join(str(a) for a in arguments)
        if what == "encode":
            text, coding = arguments
            if coding != "latin1":
                raise self._refused("bytes in another coding than latin1")
            return text.encode("latin1")
        return None  # a layout: all tensors here are dense

    def _storage(self, reference: Any) -> _Storage:
        kind, cls, key, _, count = reference
        kinds = (type(cls), type(key), type(count))
        if kind != "storage" or kinds != (_Name, str, int) or not 0 <= count < LARGEST_SIZE:
            raise ValueError("the pickle refers to something that is no storage")
        dtype = STORAGES[cls.text.rpartition(".")[2]]
        if key not in self.storages:
            data = self._bytes(f"{self.root}data/{key}", self.size)
            self.storages[key] = np.frombuffer(bytearray(data), np.uint8)
        data_of = self.storages[key]
        if count * dtype.itemsize > data_of.size:
            raise FileFormatError(
                f"{self.name}: storage {key} has {data_of.size} bytes; {count} elements of "
                f"{dtype.name} take {count * dtype.itemsize}",
                hint="nothing was loaded",
            )
        return _Storage(data_of, dtype, count)

    def _tensor(self, storage: Any, offset: Any, size: Any, stride: Any, dtype: Any = None) -> Any:
        if type(storage) is not _Storage:
            raise ValueError("a tensor without a storage")
        dtype = storage.dtype if dtype is None else dtype
        size, stride = tuple(size), tuple(stride)
        if not isinstance(dtype, DType) or len(size) != len(stride) or len(size) > 64:
            raise ValueError("a tensor without a dtype, or with other strides than sizes")
        if any(type(n) is not int or not 0 <= n < LARGEST_SIZE for n in (offset, *size, *stride)):
            raise ValueError("a tensor whose size, stride or offset is no number or out of range")
        available = storage.count * storage.dtype.itemsize // dtype.itemsize
        count = numel(size)
        last = offset + sum((n - 1) * s for n, s in zip(size, stride)) if count else 0
        if count and last >= available:
            raise FileFormatError(
                f"{self.name}: a tensor of size {size}, stride {stride} and offset {offset} does "
                f"not fit its storage of {available} elements",
                hint="nothing was loaded",
            )
        # Strides of 0 may make anything of a few bytes.
        if count * dtype.itemsize > 16 * self.size + (1 << 20):
            raise self._refused(f"a tensor of size {size} that repeats {available} elements")
        flat = storage.data[: available * dtype.itemsize].view(dtype.numpy)
        if dtype is dt.bool_ and flat.size and flat.view(np.uint8).max() > 1:
            raise FileFormatError(f"{self.name}: a bool storage has bytes other than 0 and 1")
        steps = tuple(s * dtype.itemsize for s in stride)
        view = np.lib.stride_tricks.as_strided(flat[offset:], size, steps) if count else None
        return from_numpy(np.empty(size, dtype.numpy) if view is None else view)

    def _finished(self, found: Any) -> Any:
        """The result, if all in it is data."""
        seen: set[int] = set()
        waiting = [found]
        while waiting:
            x = waiting.pop()
            if isinstance(x, (_Name, _Storage)) or x is _MARK:
                raise self._refused(f"a bare {getattr(x, 'text', 'storage')}")
            if isinstance(x, (dict, list, tuple, set, frozenset)) and id(x) not in seen:
                seen.add(id(x))
                waiting.extend(x)
                waiting.extend(x.values() if isinstance(x, dict) else ())
        return found
