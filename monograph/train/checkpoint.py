"""Checkpoints: a directory of safetensors files and a manifest that vouches for them.

    epoch=3.ckpt/
        manifest.json                everything but the tensors, and the checksum of each file
        weights-<n>-<i>.safetensors  the model's state dict, by its own names, in shards
        state-<n>-<i>.safetensors    tensors of optimizers, schedulers, random state, callbacks

No pickles: what a state may hold is listed at `encode`. A new directory appears under its name
when it is complete. An existing one gets new files beside the old; the manifest, renamed into
place, switches from the old to the new in one step. So whatever interrupts a write, the name
stands for a whole checkpoint or for none. Read next: writer.py, which writes in a thread.
"""

from __future__ import annotations

import glob
import hashlib
import json
import math
import os
import shutil
import time
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

import monograph as mg

from ..core.errors import ArgumentTypeError, DataError, FileFormatError
from ..metrics import ExactSum

FORMAT = 2  # 1: one file each for weights and state, named in the manifest without a list
MANIFEST = "manifest.json"
SHARD_BYTES = 1 << 30


def save_checkpoint(path, weights: dict, state: dict) -> None:
    """Write a checkpoint: `weights` (tensors by name) and `state` (see `encode`).

    ArgumentTypeError names what in `state` cannot be written; the name is not touched then.
    """
    tensors: dict[str, Any] = {}
    write_checkpoint(path, weights, tensors, encode(state, tensors))


def write_checkpoint(path, weights: dict, tensors: dict, tree: Any) -> None:
    """save_checkpoint with a state that was encoded: `tree`, and the `tensors` out of it."""
    path = Path(path)
    if path.exists() and not (path / MANIFEST).is_file() and any_entry(path):
        raise DataError(f"save_checkpoint: {path} exists and is not a checkpoint")
    number = f"{time.time_ns():x}-{os.getpid()}"
    parts = {
        kind: {
            f"{kind}-{number}-{i:05}.safetensors": shard for i, shard in enumerate(shards(values))
        }
        for kind, values in (("weights", weights), ("state", tensors))
    }
    if (path / MANIFEST).is_file():
        _replace(path, parts, tree)
    else:
        _create(path, parts, tree)


def shards(tensors: dict) -> list[dict]:
    """The tensors in groups of at most SHARD_BYTES (a tensor that is larger stands alone)."""
    groups: list[dict] = [{}]
    size = 0
    for name, value in tensors.items():
        if groups[-1] and size + value.nbytes > SHARD_BYTES:
            groups.append({})
            size = 0
        groups[-1][name] = value
        size += value.nbytes
    return groups


def _write_parts(folder: Path, parts: dict[str, dict], tree: Any) -> bytes:
    """Write the tensors' files; returns the manifest that vouches for them."""
    sums = {}
    for files in parts.values():
        for name, tensors in files.items():
            mg.save_file(tensors, folder / name)
            sums[name] = _digest(folder / name)
    names = {kind: list(files) for kind, files in parts.items()}
    return _manifest({"format": FORMAT, "files": names, "sha256": sums, "state": tree})


def _digest(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None


def any_entry(path: Path) -> bool:
    """Whether `path` is a file or a directory with something in it."""
    return not path.is_dir() or next(path.iterdir(), None) is not None


def _create(path: Path, parts: dict[str, dict], tree: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    for left_over in path.parent.glob(f".{glob.escape(path.name)}.part*"):
        shutil.rmtree(left_over, ignore_errors=True)  # of a writer that was killed
    partial = path.with_name(f".{path.name}.part{os.getpid()}")
    partial.mkdir()
    try:
        _write_through(partial / MANIFEST, _write_parts(partial, parts, tree))
        _sync_directory(partial)
        os.rename(partial, path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    _sync_directory(path.parent)


def _replace(path: Path, parts: dict[str, dict], tree: Any) -> None:
    before = {entry.name for entry in path.iterdir()} - {MANIFEST}
    partial = path / f".{MANIFEST}.part"
    try:
        _write_through(partial, _write_parts(path, parts, tree))
        os.replace(partial, path / MANIFEST)
    except BaseException:
        partial.unlink(missing_ok=True)
        written = {name for files in parts.values() for name in files}
        if not written & set(_read_manifest(path)["sha256"]):  # the old manifest still stands
            for name in written:
                (path / name).unlink(missing_ok=True)
        raise
    _sync_directory(path)
    for name in before:
        if name.endswith((".safetensors", ".part")):
            (path / name).unlink(missing_ok=True)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None


def _write_through(path: Path, content: bytes) -> None:
    """Write a file and wait until the disk has it."""
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    """Wait until the disk has the names in a directory (where the system can say so)."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def remove_checkpoint(path) -> None:
    """Delete a checkpoint: its name disappears first, so that half of one is never left."""
    path = Path(path)
    if (path / MANIFEST).is_file():
        doomed = path.with_name(f".{path.name}.part{os.getpid()}")
        shutil.rmtree(doomed, ignore_errors=True)
        os.rename(path, doomed)
        shutil.rmtree(doomed, ignore_errors=True)


def _manifest(content: dict) -> bytes:
    body = json.dumps(content, indent=1, sort_keys=False, allow_nan=False)
    checksum = hashlib.sha256(body.encode()).hexdigest()
    return json.dumps({"manifest_sha256": checksum, "content": body}).encode()


def load_checkpoint(path) -> tuple[dict, dict]:
    """(weights, state) of a checkpoint, as they were saved.

    DataError if there is none; FileFormatError if a file is missing, cut short or altered.
    """
    path = Path(path)
    if not (path / MANIFEST).is_file():
        raise DataError(
            f"load_checkpoint: {path} is not a checkpoint"
            + ("" if path.exists() else ": there is no such directory"),
            hint=f"a checkpoint is a directory with a {MANIFEST}",
        )
    content = verify_checkpoint(path)
    parts: dict[str, dict] = {}
    for part, names in content["files"].items():
        parts[part] = {}
        for name in names:
            parts[part].update(mg.load_file(path / name))
    return parts["weights"], decode(content["state"], parts["state"])


def verify_checkpoint(path) -> dict:
    """The manifest of a checkpoint whose files are all there and as they were written."""
    path = Path(path)
    content = _read_manifest(path)
    for name, expected in content["sha256"].items():
        if _digest(path / name) != expected:
            raise FileFormatError(
                f"{path.name}/{name}: the checksum is not the one in the manifest",
                hint="the file is cut short or altered; nothing was loaded",
            )
    return content


def read_position(path) -> tuple[int, int, int] | None:
    """(steps, epochs, batches of the epoch) of the training in a checkpoint; None: weights only."""
    state = _read_manifest(Path(path))["state"]
    if "optimizers" not in state:
        return None
    return state["global_step"], state["epoch"], state["batches_done"]


def remove_left_overs(directory) -> None:
    """Delete what writers left in a directory when they were killed."""
    for path in Path(directory).glob(".*.part*"):
        owner = path.name.rpartition(".part")[2]
        if owner.isdigit() and int(owner) != os.getpid() and not _is_running(int(owner)):
            shutil.rmtree(path, ignore_errors=True)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's; or a system that cannot say
        pass
    return True


def _read_manifest(path: Path) -> dict:
    try:
        outer = json.loads(_read(path / MANIFEST))
        body = outer["content"]
        whole = hashlib.sha256(body.encode()).hexdigest() == outer["manifest_sha256"]
    except (ValueError, KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise FileFormatError(
            f"{path.name}/{MANIFEST}: damaged: it does not match its own checksum",
            hint="the file is cut short or altered; nothing was loaded",
        )
    content = json.loads(body)
    if content["format"] not in (1, FORMAT):
        raise FileFormatError(
            f"{path.name}/{MANIFEST}: format {content['format']}, this version reads 1 to {FORMAT}",
            hint="a newer version of monograph wrote it",
        )
    if content["format"] == 1:
        content["files"] = {part: [name] for part, name in content["files"].items()}
    return content


def encode(value: Any, tensors: dict[str, Any], place: str = "state") -> Any:
    """`value` as JSON; its tensors and arrays go into `tensors` by their place.

    A state may hold None, bools, numbers, strings, lists, tuples, dicts, sets and Counters of such
    (keys may be any of these scalars), tensors and NumPy arrays.
    """
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, (np.bool_, np.integer, np.floating)) and not isinstance(value, float):
        return encode(value.item(), tensors, place)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {"$float": repr(float(value))}
    if isinstance(value, (mg.Tensor, np.ndarray)):
        name = place if place not in tensors else f"{place}#{len(tensors)}"
        tensors[name] = value
        return {"$tensor" if isinstance(value, mg.Tensor) else "$array": name}
    if isinstance(value, ExactSum):
        return {"$ExactSum": [str(value.units), encode(value.special, tensors, place)]}
    if isinstance(value, list):
        return [encode(v, tensors, f"{place}.{i}") for i, v in enumerate(value)]
    for kind, name in ((tuple, "$tuple"), (set, "$set"), (frozenset, "$frozenset")):
        if isinstance(value, kind) and type(value) is kind:
            items = [encode(v, tensors, f"{place}.{i}") for i, v in enumerate(value)]
            return {name: items}
    if type(value) in (dict, OrderedDict, Counter):
        if type(value) is dict and all(type(k) is str and k[:1] != "$" for k in value):
            return {k: encode(v, tensors, f"{place}.{k}") for k, v in value.items()}
        pairs = [
            [encode(k, tensors, f"{place}.key"), encode(v, tensors, f"{place}.{k}")]
            for k, v in value.items()
        ]
        return {f"${type(value).__name__}": pairs}
    raise ArgumentTypeError(
        f"save_checkpoint: {place} holds {type(value).__name__}, which cannot be written",
        hint="a state may hold None, bools, numbers, strings, lists, tuples, dicts, sets, tensors "
        "and arrays; state_dict() of the object that owns it is the place to choose what to keep",
    )


_MAKERS: dict[str, Any] = {
    "$tuple": tuple,
    "$set": set,
    "$frozenset": frozenset,
    "$float": float,
    "$dict": dict,
    "$OrderedDict": OrderedDict,
    "$ExactSum": lambda pair: ExactSum(int(pair[0]), pair[1]),
    "$Counter": lambda pairs: Counter(dict(pairs)),
}


def decode(tree: Any, tensors: dict[str, Any]) -> Any:
    """The value that `encode` was given."""
    if isinstance(tree, list):
        return [decode(v, tensors) for v in tree]
    if not isinstance(tree, dict):
        return tree
    if len(tree) == 1:
        (name, inside), *_ = tree.items()
        if name == "$tensor":
            return tensors[inside]
        if name == "$array":
            return tensors[inside].numpy()
        if name in _MAKERS:
            return _MAKERS[name](decode(inside, tensors))
    return {k: decode(v, tensors) for k, v in tree.items()}
