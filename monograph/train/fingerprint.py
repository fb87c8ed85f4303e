"""What a run is made of: hashes of its code and of its data, for checkpoints.

Code is the source files in which the classes of the model and the data are defined, but for
installed packages. Data is looked at from outside: the arrays that a data set holds and the files
that it names, of large ones a part; no sample is fetched, so nothing of a run changes by it.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import site
import sysconfig
from pathlib import Path
from typing import Any

import numpy as np

import monograph as mg

from ..core.errors import PACKAGE_DIR

LOOKED_AT = 1 << 20  # bytes of an array or a file that are hashed, taken evenly
DEPTH, ITEMS = 6, 1000  # of nested objects, and of lists in them


def code_hashes(*things: Any) -> dict[str, str]:
    """file name -> SHA-256 of the files that define the classes of these objects and of the modules
    in them; files of one name are told apart by numbers."""
    files: set[str] = set()
    for thing in things:
        parts = thing.modules() if isinstance(thing, mg.nn.Module) else [thing]
        for kind in {base for part in parts for base in type(part).__mro__}:
            try:
                file = inspect.getsourcefile(kind)
            except (TypeError, OSError):
                continue
            if file and _is_own(file):
                files.add(file)
    found: dict[str, str] = {}
    for file in sorted(files):
        name, number = os.path.basename(file), 1
        while name in found:
            number += 1
            name = f"{os.path.basename(file)} ({number})"
        found[name] = hashlib.sha256(Path(file).read_bytes()).hexdigest()
    return found


def _is_own(file: str) -> bool:
    """Whether a file is the user's: exists, and is of no installed package."""
    paths = sysconfig.get_paths()
    installed = [PACKAGE_DIR, paths["stdlib"], paths["purelib"], paths["platlib"]]
    installed += [*site.getsitepackages(), site.getusersitepackages()]
    return os.path.isfile(file) and not any(file.startswith(folder) for folder in installed)


def data_hash(loader: Any) -> str | None:
    """SHA-256 of what a loader's data set holds; None where there is nothing to look at.

    Arrays count with dtype, shape and evenly spaced parts, files with their size and such parts,
    other values that can be written down as they are. A change in a part of a large file that is
    not looked at is not seen.
    """
    dataset = getattr(loader, "dataset", loader)
    digest = hashlib.sha256()
    return digest.hexdigest() if _add(digest, dataset, DEPTH, set()) else None


def _add(digest: Any, value: Any, depth: int, seen: set[int]) -> bool:
    """Take a value in; whether there was something to take."""
    if isinstance(value, mg.Tensor):
        value = value.detach().numpy()
    if isinstance(value, np.ndarray):
        return _add_array(digest, value)
    if isinstance(value, Path) or (isinstance(value, str) and os.path.isfile(value)):
        return _add_file(digest, Path(value))
    if isinstance(value, (bool, int, float, str, bytes, range, slice, type(None))):
        digest.update(repr(value).encode())
        return False  # sizes and names alone say nothing of data
    if depth == 0 or id(value) in seen or callable(value) and not hasattr(value, "__getitem__"):
        return False
    seen.add(id(value))
    digest.update(type(value).__name__.encode())
    if isinstance(value, dict):
        parts = [x for pair in list(value.items())[:ITEMS] for x in pair]
    elif isinstance(value, (list, tuple)):
        digest.update(str(len(value)).encode())
        parts = list(value[:ITEMS])
    else:
        own = getattr(value, "__dict__", {})
        parts = [x for name in sorted(own) for x in (name, own[name])]
    taken = [_add(digest, part, depth - 1, seen) for part in parts]
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], (int, float, str)):
        digest.update(repr(value[-ITEMS:]).encode())
        return True
    return any(taken)


def _add_array(digest: Any, array: np.ndarray) -> bool:
    digest.update(f"{array.dtype}{array.shape}".encode())
    if not array.size or array.dtype == object:
        return False
    rows = array if array.ndim else array[None]
    every = max(1, array.nbytes // LOOKED_AT)
    digest.update(np.ascontiguousarray(rows[::every]).tobytes())
    digest.update(np.ascontiguousarray(rows[-1:]).tobytes())
    return True


def _add_file(digest: Any, path: Path) -> bool:
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            digest.update(f"{path.name}{size}".encode())
            parts = 16
            for k in range(parts):
                file.seek(max(0, size - LOOKED_AT // parts) * k // (parts - 1))
                digest.update(file.read(LOOKED_AT // parts))
    except OSError:  # a directory, or gone
        digest.update(path.name.encode())
        return False
    return True
