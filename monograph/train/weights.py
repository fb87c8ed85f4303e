"""Tensors in files: the safetensors format, written so that a broken write leaves no trace.

`save_file` and `load_file` are for weights; checkpoint.py keeps a whole training run.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

import monograph as mg

from ..core.errors import ArgumentTypeError, DataError, FileFormatError

_DTYPES = {
    "BOOL": np.bool_,
    "U8": np.uint8,
    "U16": np.uint16,
    "U32": np.uint32,
    "U64": np.uint64,
    "I8": np.int8,
    "I16": np.int16,
    "I32": np.int32,
    "I64": np.int64,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "F32": np.float32,
    "F64": np.float64,
}


def save_file(tensors: Mapping, path, metadata: Mapping[str, str] | None = None) -> None:
    """Write named tensors (or arrays) as one safetensors file, whole or not at all.

    tensors   {name: tensor}, such as `model.state_dict()`
    metadata  texts to keep beside them

    The file is written under another name, flushed to the disk and renamed.
    """
    write_atomically(Path(path), serialize(tensors, metadata))


def load_file(path) -> dict:
    """The tensors of a safetensors file, by name; `model.load_state_dict` takes them.

    DataError if there is no such file, FileFormatError if it is damaged or of another format.
    """
    return {name: mg.from_numpy(array) for name, array in deserialize(read(path), path).items()}


def serialize(tensors: Mapping, metadata: Mapping[str, str] | None = None) -> bytes:
    """The bytes of a safetensors file."""
    arrays = {}
    for name, value in tensors.items():
        if not isinstance(name, str) or not isinstance(value, (mg.Tensor, np.ndarray)):
            raise ArgumentTypeError(
                f"save_file: needs tensors by name, got {type(value).__name__} under {name!r}"
            )
        array = value.detach().numpy() if isinstance(value, mg.Tensor) else value
        arrays[name] = np.array(array, order="C", copy=True, subok=False)
    return safetensors.numpy.save(arrays, dict(metadata) if metadata else None)


def deserialize(content: bytes, path) -> dict[str, np.ndarray]:
    """The arrays, each in memory of its own, in the content of a safetensors file."""
    name = Path(path).name
    try:
        entries = safetensors.deserialize(content)
    except safetensors.SafetensorError as error:
        raise FileFormatError(
            f"{name}: not a whole safetensors file: {error}",
            hint="the file is cut short or altered, as after an interrupted copy; "
            "nothing was loaded",
        ) from None
    arrays = {}
    for key, entry in entries:
        if entry["dtype"] not in _DTYPES:
            raise FileFormatError(f"{name}: tensor {key!r} has the unknown dtype {entry['dtype']}")
        flat = np.frombuffer(entry["data"], _DTYPES[entry["dtype"]])
        arrays[key] = flat.reshape(entry["shape"]).copy()
    return arrays


def read(path) -> bytes:
    """The content of a file; DataError if there is none."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that at any moment its name stands for the old content or for the new."""
    partial = path.with_name(f".{path.name}.part{os.getpid()}")
    try:
        write_through(partial, content)
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def write_through(path: Path, content: bytes) -> None:
    """Write a file and wait until the disk has it."""
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    """Wait until the disk has the names in a directory (where the system can say so)."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:  # Windows opens no directories
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
