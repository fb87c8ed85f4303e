"""Tensors in files: safetensors, written whole or not at all, checked before anything is loaded.

    save(obj, path)     a state dict, or nested dicts, lists and tuples of tensors and plain values
    load(path)          the same structure

A flat dict of tensors is an ordinary safetensors file that any reader takes. Other structures keep
their form as JSON in the file's metadata. Nothing is ever pickled. Format: 8 bytes length, a JSON
header {name: {dtype, shape, data_offsets}}, then the elements (huggingface.co/docs/safetensors).
"""

from __future__ import annotations

import json
import os
import reprlib
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..core import dtype as dt
from ..core.device import usable
from ..core.dtype import DType, as_dtype
from ..core.errors import ArgumentTypeError, FileFormatError
from ..core.shape import numel
from ..tensor import Tensor, wrap
from .foreign import bytes_left, load_npy, load_zip

DTYPES = {
    "BOOL": dt.bool_, "U8": dt.uint8, "I8": dt.int8, "U16": dt.uint16, "I16": dt.int16,
    "U32": dt.uint32, "I32": dt.int32, "U64": dt.uint64, "I64": dt.int64,
    "F16": dt.float16, "BF16": dt.bfloat16, "F32": dt.float32, "F64": dt.float64,
    "C64": dt.complex64,
}  # fmt: skip
LARGEST_HEADER = 100_000_000  # bytes; the limit that the format's own library sets
LARGEST_COUNT = 1 << 58  # elements, empty dimensions counted as 1: what NumPy can address
SHOWN = 50  # problems that a message lists
PAIRS = "monograph.complex128"  # metadata key of the names of pairs of F64 that stand for them
ORDER = "monograph.order"  # metadata key of the names of a flat dict as they came
STRUCTURE = "monograph.structure"  # metadata key of what is not a flat dict of tensors


def save(obj: Any, f: Any) -> None:
    """Write tensors to the file `f` (a path or an open binary file) as safetensors.

    obj  a state dict, or any nesting of dicts (keys str or int), lists, tuples, tensors, numbers,
         strings, dtypes and None, such as {"model": ..., "optimizer": ..., "epoch": 3}

    A path is written whole or not at all.

    The content is written beside `f`, flushed to the disk and renamed, so that an interruption
    leaves the old file. ArgumentTypeError names what cannot be saved.
    """
    if _is_flat(obj):
        save_file(obj, f, {ORDER: json.dumps(list(obj))})
        return
    tensors: dict[str, Any] = {}
    structure = _describe(obj, "", tensors)
    save_file(tensors, f, {STRUCTURE: json.dumps(structure)})


def load(f: Any, map_location: Any = None, *, weights_only: bool = True) -> Any:
    """What is in the file `f` (a path or an open binary file), which its first bytes tell.

    safetensors  what `save` wrote, or the dict of tensors in any such file
    PyTorch      a checkpoint of torch.save (.pt, .pth): tensors, dicts, lists, tuples, numbers,
                 strings and the like. No code is run; all else in it is refused by name
                 (foreign.py). Parameters come as plain tensors, ordered dicts as dicts.
    NumPy        .npz as a dict of tensors, .npy as one

    FileFormatError, with all that is wrong, if the file is damaged; then nothing was loaded.
    Everything is loaded to the CPU.
    """
    usable(map_location, "load")
    with _opened(f, "load") as (file, name):
        first = file.read(6)
        file.seek(-len(first), os.SEEK_CUR)
        if first[:4] == b"PK\x03\x04":
            return load_zip(file, name)
        if first == b"\x93NUMPY":
            return load_npy(file, name)
        tensors, metadata = _read(file, name)
    text = metadata.get(STRUCTURE)
    if text is None:
        return _ordered(tensors, metadata.get(ORDER), name)
    try:
        return _rebuild(json.loads(text), tensors)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FileFormatError(
            f"{name}: the description of the structure is damaged: {error!r}",
            hint="load_file() gives the tensors by name",
        ) from None


def save_file(tensors: Mapping[str, Any], filename: Any, metadata: Any = None) -> None:
    """Write a dict of tensors (or arrays) as safetensors to a path, whole, or to an open file.

    metadata  texts by name, kept in the file's header
    """
    arrays = {}
    for name, value in tensors.items():
        if not isinstance(name, str) or not isinstance(value, (Tensor, np.ndarray)):
            raise ArgumentTypeError(
                f"save_file: needs tensors by name, got {type(value).__name__} under {name!r}"
            )
        array = value.detach()._array("save_file") if isinstance(value, Tensor) else value
        if array.dtype not in dt.BY_NUMPY:
            raise ArgumentTypeError(f"save_file: {name!r} is an array of {array.dtype}")
        arrays[name] = np.array(array, order="C", copy=None)
    metadata = dict(metadata or {})
    wide = sorted(name for name, a in arrays.items() if a.dtype == np.complex128)
    if wide:  # which the format has not
        metadata[PAIRS] = json.dumps(wide)
        arrays |= {name: arrays[name][..., None].view(np.float64) for name in wide}
    import safetensors.numpy  # only here: importing it takes longer than any module of ours

    if hasattr(filename, "write"):
        filename.write(safetensors.numpy.save(arrays, metadata or None))
        return
    path = Path(_path(filename, "save"))
    handle, partial = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    try:
        os.close(handle)
        safetensors.numpy.save_file(arrays, partial, metadata or None)
        _sync(partial)
        os.chmod(partial, _mode_of(path))
        os.replace(partial, path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise
    if hasattr(os, "O_DIRECTORY"):
        _sync(path.parent)


def load_file(filename: Any, device: Any = None) -> dict[str, Tensor]:
    """The tensors of a safetensors file, by name, in their order in the file.

    FileFormatError, with all that is wrong, if the file is damaged; then nothing was loaded.
    """
    usable(device, "load_file")
    with _opened(filename, "load_file") as (file, name):
        return _read(file, name)[0]


def _path(f: Any, operation: str) -> Any:
    if isinstance(f, (str, os.PathLike)):
        return f
    raise ArgumentTypeError(
        f"{operation}: needs a path or an open binary file, got {type(f).__name__}",
        hint="save(obj, path): what is saved comes first" if operation == "save" else None,
    )


@contextmanager
def _opened(f: Any, operation: str) -> Iterator[tuple[BinaryIO, str]]:
    """(a file that is read from where it stands, what errors call it)."""
    if not hasattr(f, "read"):
        with open(_path(f, operation), "rb") as file:
            yield file, Path(f).name
        return
    name = getattr(f, "name", None)
    if not hasattr(f, "seek") or isinstance(f.read(0), str):
        raise ArgumentTypeError(f"{operation}: the file must be open for binary reading, with seek")
    yield f, Path(name).name if isinstance(name, str) else "the file"


def _mode_of(path: Path) -> int:
    """Permissions of the file that is replaced, or those that a new file would have."""
    if path.exists():
        return path.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def _sync(path: Any) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _is_flat(obj: Any) -> bool:
    return isinstance(obj, Mapping) and all(
        isinstance(k, str) and isinstance(v, (Tensor, np.ndarray)) for k, v in obj.items()
    )


def _describe(x: Any, place: str, tensors: dict[str, Any]) -> Any:
    """JSON for a structure; its tensors are put into `tensors` under the names of their places."""
    if isinstance(x, (Tensor, np.ndarray)):
        name = place or "value"
        while name in tensors:
            name += "'"
        tensors[name] = x
        return {"tensor": name}
    if isinstance(x, Mapping):
        pairs = []
        for key, value in x.items():
            if type(key) not in (str, int):
                raise ArgumentTypeError(
                    f"save: keys must be str or int, got {key!r} in {place or 'the object'}"
                )
            pairs.append([key, _describe(value, f"{place}.{key}" if place else str(key), tensors)])
        return {"dict": pairs}
    if isinstance(x, (list, tuple)):
        items = [
            _describe(v, f"{place}.{i}" if place else str(i), tensors) for i, v in enumerate(x)
        ]
        return {"list" if isinstance(x, list) else "tuple": items}
    if isinstance(x, DType):
        return {"dtype": x.name}
    if isinstance(x, np.generic):
        x = x.item()
    if x is None or isinstance(x, (bool, int, float, str)):
        return {"value": x}
    raise ArgumentTypeError(
        f"save: {place or 'the object'} is a {type(x).__name__}, which is not saved",
        hint="files hold dicts, lists, tuples, tensors, numbers, strings, dtypes and None",
    )


def _ordered(tensors: dict[str, Tensor], text: str | None, file: str) -> dict[str, Tensor]:
    """The tensors in the order of the dict that was saved, where the file tells it."""
    if text is None:
        return tensors
    try:
        names = json.loads(text)
        if sorted(names) == sorted(tensors) and len(set(names)) == len(names):
            return {name: tensors[name] for name in names}
    except (ValueError, TypeError, RecursionError):
        pass
    raise FileFormatError(f"{file}: {ORDER} in the metadata does not list the tensors")


def _rebuild(x: Any, tensors: dict[str, Tensor]) -> Any:
    ((kind, content),) = x.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {k: _rebuild(v, tensors) for k, v in content}
    if kind in ("list", "tuple"):
        items = [_rebuild(v, tensors) for v in content]
        return items if kind == "list" else tuple(items)
    if kind == "dtype":
        return as_dtype(content)
    if kind == "value":
        return content
    raise ValueError(f"unknown kind {kind!r}")


# Reading


def _read(file: BinaryIO, title: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """(tensors, metadata) of what follows in a file, if it is whole."""
    size = bytes_left(file)
    begin = file.tell()
    header, start = _header(file, size, title)
    metadata, layout = _checked(header, size - start, title)
    tensors = {}
    for name, dtype, shape, offset in layout:
        array = np.empty(shape, dtype.numpy)
        file.seek(begin + start + offset)
        if array.size and not _fill(file, array.reshape(-1).view(np.uint8)):
            raise FileFormatError(f"{title}: tensor {name!r} could not be read whole")
        if dtype is dt.bool_ and array.size and array.view(np.uint8).max() > 1:
            raise FileFormatError(
                f"{title}: tensor {name!r} is BOOL, but has bytes other than 0 and 1",
                hint="nothing was loaded",
            )
        tensors[name] = wrap(array)
    for name in _pair_names(metadata, title):
        pairs = tensors[name]._payload if name in tensors else np.empty(0)
        if pairs.dtype != np.float64 or pairs.shape[-1:] != (2,):
            raise FileFormatError(f"{title}: {name!r} is said to hold pairs of F64")
        tensors[name] = wrap(pairs.view(np.complex128)[..., 0])
    return tensors, metadata


def _fill(file: Any, bytes_: np.ndarray) -> bool:
    """Whether the file had enough to fill the array."""
    if hasattr(file, "readinto"):
        return file.readinto(bytes_) == bytes_.size
    found = file.read(bytes_.size)
    bytes_[: len(found)] = np.frombuffer(found, np.uint8)
    return len(found) == bytes_.size


def _pair_names(metadata: dict[str, str], file: str) -> list[str]:
    try:
        names = json.loads(metadata.get(PAIRS, "[]"))
    except (ValueError, RecursionError):
        names = None
    if not isinstance(names, list) or len({*map(str, names)}) != len(names):
        raise FileFormatError(f"{file}: {PAIRS} in the metadata is not a list of names")
    return [str(n) for n in names]


def _header(file: BinaryIO, size: int, name: str) -> tuple[dict, int]:
    """(the header, where the elements start)."""
    first = file.read(8)
    if first[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        raise FileFormatError(
            f"{name}: this is a pickle or zip file, not safetensors",
            hint="load() reads PyTorch's zip checkpoints; the older format, a bare pickle, must be "
            "written anew with torch.save",
        )
    if len(first) < 8:
        raise FileFormatError(f"{name}: holds {size} bytes; a safetensors file has 8 at least")
    length = int.from_bytes(first, "little")
    if length > LARGEST_HEADER:
        raise FileFormatError(
            f"{name}: the header is announced as {length} bytes; {LARGEST_HEADER} are allowed",
            hint="this is probably not a safetensors file",
        )
    if length > size - 8:
        raise FileFormatError(
            f"{name}: the header is announced as {length} bytes, but the file holds only "
            f"{size - 8} after the first 8",
            hint="the file is cut short, as after an interrupted copy; nothing was loaded",
        )
    try:
        header = json.loads(file.read(length).decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{name}: the header cannot be read: {error}") from None
    if not isinstance(header, dict):
        raise FileFormatError(f"{name}: the header is no JSON object")
    return header, 8 + length


def _unique(pairs: list[tuple[str, Any]]) -> dict:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name[:200]!r} occurs twice")
        found[name] = value
    return found


def _is_sizes(x: Any) -> bool:
    return isinstance(x, list) and all(type(n) is int and 0 <= n < 1 << 62 for n in x)


def _checked(header: dict, available: int, name: str) -> tuple[dict[str, str], list]:
    """(metadata, [(tensor name, dtype, shape, offset)]) or FileFormatError with all problems."""
    problems: list[str] = []
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or any(not isinstance(v, str) for v in metadata.values()):
        problems.append("__metadata__ is not an object of strings")
    layout, spans = [], []
    missing = 0
    for key, entry in header.items():
        if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
            problems.append(f"tensor {key!r} has no dtype, shape and data_offsets, or has more")
            continue
        code, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
        dtype = DTYPES.get(code) if isinstance(code, str) else None
        if dtype is None:
            shown = reprlib.repr(code)
            problems.append(f"tensor {key!r} has dtype {shown}; known are {', '.join(DTYPES)}")
        if (
            not _is_sizes(shape)
            or len(shape) > 64
            or numel(max(n, 1) for n in shape) >= LARGEST_COUNT
        ):
            problems.append(f"tensor {key!r} has shape {reprlib.repr(shape)}")
            continue
        if not _is_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
            problems.append(f"tensor {key!r} has data_offsets {reprlib.repr(offsets)}")
            continue
        begin, end = offsets
        if dtype is not None and end - begin != numel(shape) * dtype.itemsize:
            problems.append(
                f"tensor {key!r} of shape {tuple(shape)} and dtype {code} takes "
                f"{numel(shape) * dtype.itemsize} bytes, but has {end - begin}"
            )
        elif end > available:
            missing = max(missing, end - available)
            problems.append(
                f"tensor {key!r} ends at byte {end} of the data, but the file holds only "
                f"{available}"
            )
        spans.append((begin, end, key))
        layout.append((key, dtype, tuple(shape), begin))
    if not problems:
        problems = _gaps(sorted(spans), available)
    if problems:
        text = problems[0] if len(problems) == 1 else f"{len(problems)} problems:"
        lines = "".join(f"\n    {p}" for p in problems[:SHOWN]) if len(problems) > 1 else ""
        lines += f"\n    and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        hint = f"{missing} bytes are missing, as after an interrupted copy; " if missing else ""
        raise FileFormatError(f"{name}: {text}{lines}", hint=f"{hint}nothing was loaded")
    return metadata, layout


def _gaps(spans: list[tuple[int, int, str]], available: int) -> list[str]:
    """What is wrong with the order of tensors in the data: they must follow without gaps."""
    problems, at, last = [], 0, ""
    for begin, end, key in spans:
        if begin < at:
            problems.append(
                f"tensors {last!r} and {key!r} overlap: bytes {begin} to {min(at, end)} of the "
                "data belong to both"
            )
        elif begin > at:
            problems.append(f"bytes {at} to {begin} of the data belong to no tensor")
        if end >= at:
            at, last = end, key
    if at < available:
        problems.append(f"bytes {at} to {available} of the data belong to no tensor")
    return problems
