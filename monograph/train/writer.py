"""Writing checkpoints in a thread, so that training waits for no more than a copy in memory."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

import monograph as mg

from ..runtime import buffers
from ..runtime.threads import get_num_threads
from .checkpoint import encode, remove_checkpoint, write_checkpoint

LARGE_BYTES = 1 << 20  # arrays that threads copy side by side
PAGE = 4096


class CheckpointWriter:
    """Writes one checkpoint at a time, in a thread.

    `save` copies what is to be written and returns; if the checkpoint before is still being
    written it waits for that first. What goes wrong is raised by the next `save` or `wait`.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._preparing: threading.Thread | None = None
        self._prepared: list[np.ndarray] = []

    def prepare(self, tensors: Iterable[Any]) -> None:
        """Have memory for copies of these ready: new memory is several times slower to copy into,
        since the system clears each page when it is first touched. A thread touches it now."""
        kinds = [(x.shape, _dtype(x)) for x in tensors if x.nbytes >= LARGE_BYTES]
        if not kinds or self._preparing is not None:
            return
        self._preparing = threading.Thread(target=self._touch, args=(kinds,), name="staging")
        self._preparing.start()

    def _touch(self, kinds: list[tuple[Any, Any]]) -> None:
        for shape, dtype in kinds:
            array = buffers.empty(shape, dtype)
            array.reshape(-1).view(np.uint8)[::PAGE] = 0
            self._prepared.append(array)

    def save(self, path: Any, weights: dict, state: dict, replaced: Iterable[Any] = ()) -> None:
        """Write a checkpoint (see save_checkpoint); when it stands, delete those it replaces."""
        self.wait()
        tensors: dict[str, Any] = {}
        tree = encode(state, tensors)
        job = (Path(path), _copies(weights), _copies(tensors), tree, list(replaced))
        # Not a daemon: a program that ends waits until its last checkpoint stands.
        self._thread = threading.Thread(target=self._write, args=job, name="checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Until all that was saved stands on the disk. Raises what went wrong."""
        if self._preparing is not None:
            self._preparing.join()
            self._preparing = None
            self._prepared.clear()  # to the pool of memory, where the copies take it
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _write(self, path: Path, weights: dict, tensors: dict, tree: Any, replaced: list) -> None:
        try:
            write_checkpoint(path, weights, tensors, tree)
            for old in replaced:
                remove_checkpoint(old)
        except BaseException as error:  # told to the thread that trains
            error.add_note(f"  while the checkpoint {path} was written")
            self._error = error


def _dtype(x: Any) -> Any:
    return x.dtype.numpy if isinstance(x, mg.Tensor) else x.dtype


def _copies(tensors: dict[str, Any]) -> dict[str, np.ndarray]:
    """Copies of tensors and arrays, in memory that later copies use again."""
    made: dict[str, np.ndarray] = {}
    large: list[tuple[np.ndarray, np.ndarray]] = []
    for name, value in tensors.items():
        source = value.detach().numpy() if isinstance(value, mg.Tensor) else value
        copy = made[name] = buffers.empty(source.shape, source.dtype)
        if source.nbytes >= LARGE_BYTES:
            large.append((copy, source))
        else:
            np.copyto(copy, source)
    if len(large) > 1:  # new memory is slow to touch: each thread takes the next array
        with ThreadPoolExecutor(get_num_threads()) as threads:
            list(threads.map(lambda pair: np.copyto(*pair), large))
    else:
        for copy, source in large:
            np.copyto(copy, source)
    return made
