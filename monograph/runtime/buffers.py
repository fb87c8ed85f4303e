"""Memory for tensors and arenas: aligned, on huge pages where large, kept between uses.

`empty(shape, dtype)` gives a NumPy array whose memory returns to the pool when the last array on it
is gone, and is given out again without a page fault. The C library would give large blocks back to
the system and fault every page in anew: several times slower than the copy itself.
"""

from __future__ import annotations

import math
import mmap
import os
import threading
from typing import Any

import numpy as np

ALIGNMENT = 64
HUGE_PAGE = 2 << 20
_SMALLEST = 256

_lock = threading.Lock()
_free: dict[int, list[tuple[int, Any]]] = {}  # block bytes -> (address, owner)
_held = 0  # bytes taken from the system


def _after_fork_in_child() -> None:
    """Another thread of the parent may have held the lock."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def block_bytes(size_bytes: int) -> int:
    """The size class: four steps per doubling, so that at most a quarter is unused."""
    size = max(size_bytes, _SMALLEST)
    if size > HUGE_PAGE:
        step = max(HUGE_PAGE, 1 << ((size - 1).bit_length() - 3))
    else:
        step = 1 << max(6, (size - 1).bit_length() - 3)
    return -(-size // step) * step


def _from_system(size: int) -> tuple[int, Any]:
    """(aligned address, owner) of fresh memory."""
    if size >= HUGE_PAGE:
        region = mmap.mmap(-1, size + HUGE_PAGE)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            try:
                region.madvise(mmap.MADV_HUGEPAGE)
            except OSError:
                pass  # a kernel without huge pages: small ones do
        start = np.frombuffer(region, np.uint8).ctypes.data
        return -(-start // HUGE_PAGE) * HUGE_PAGE, region
    owner = np.empty(size + ALIGNMENT, np.uint8)
    start = owner.ctypes.data
    return -(-start // ALIGNMENT) * ALIGNMENT, owner


class Block:
    """A piece of memory; NumPy arrays made of it keep it, and its end gives it back to the pool."""

    __slots__ = ("address", "size", "_owner", "__array_interface__")

    def __init__(self, size_bytes: int):
        global _held
        size = block_bytes(size_bytes)
        with _lock:
            free = _free.get(size)
            found = free.pop() if free else None
            if found is None:
                _held += size
        self.size = size
        self.address, self._owner = found or _from_system(size)
        self.__array_interface__ = {
            "shape": (size_bytes,),
            "typestr": "|u1",
            "data": (self.address, False),
            "version": 3,
        }

    def __del__(self) -> None:
        owner = getattr(self, "_owner", None)
        if owner is None or _free is None:  # failed half-way, or the interpreter is ending
            return
        # No lock: append is atomic, and a collection may run this inside of Block().
        _free.setdefault(self.size, []).append((self.address, owner))


def empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An array of undefined content, aligned to 64 bytes."""
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    flat = np.asarray(Block(size))
    return np.ndarray(shape, dtype, buffer=flat)


def memory_stats() -> dict[str, int]:
    """Bytes taken from the system, and how many of them wait for their next use."""
    cached = sum(size * len(free) for size, free in list(_free.items()))
    return {"held_bytes": _held, "cached_bytes": cached}


def empty_cache() -> None:
    """Give everything that is not in use back to the system."""
    global _held
    with _lock:
        for size, free in list(_free.items()):
            while free:
                free.pop()
                _held -= size
