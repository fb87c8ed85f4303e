"""Memory for tensors and arenas: aligned, on huge pages but for small ones, kept between uses.

`empty(shape, dtype)` gives a NumPy array whose memory returns to the pool when the last array on it
is gone, and is given out again without a page fault; `full` fills one. The C library would give
large blocks back to the system and fault every page in anew: several times slower than the copy
itself.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import os
import threading
from typing import Any

import numpy as np

ALIGNMENT = 64
HUGE_PAGE = 2 << 20
_SMALLEST = 256
# Blocks of these sizes are cut from slabs, which take memory as it is touched: on huge pages of its
# own a block of two and a half would take three.
_CUT, _OWN, _SLAB = 16 << 10, 4 * HUGE_PAGE, 32 << 20
_slab: tuple[Any, int, int] | None = None  # memory, offset of what is left, end

_lock = threading.Lock()
_free: dict[int, list[tuple[Any, int]]] = {}  # block bytes -> (memory, offset)
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
    if size > _OWN:
        step = max(HUGE_PAGE, 1 << ((size - 1).bit_length() - 3))
    else:
        step = 1 << max(6, (size - 1).bit_length() - 3)
    return -(-size // step) * step


def touched_bytes(size_bytes: int) -> int:
    """Memory that an array of so many bytes takes when it is written: its block, or, of one with
    pages of its own, the pages that it reaches."""
    if size_bytes > _OWN:
        return -(-size_bytes // HUGE_PAGE) * HUGE_PAGE
    return block_bytes(size_bytes)


def _from_system(size: int) -> tuple[Any, int]:
    """(fresh memory, offset in it that is aligned)."""
    global _slab
    if not _CUT <= size <= _OWN:
        return _pages(size)
    with _lock:
        if _slab is None or _slab[1] + size > _slab[2]:
            memory, start = _pages(_SLAB)
            _slab = memory, start, start + _SLAB
        memory, offset, end = _slab
        _slab = memory, offset + size, end
    return memory, offset


def _pages(size: int) -> tuple[Any, int]:
    """Memory of its own and an aligned offset in it: on huge pages, if it is as large as one."""
    memory: Any
    alignment = HUGE_PAGE if size >= HUGE_PAGE else ALIGNMENT
    if size >= HUGE_PAGE:
        # Private: shared memory, the default, gets no huge pages on most systems.
        flags = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if os.name == "posix" else {}
        memory = mmap.mmap(-1, size + alignment, **flags)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            try:
                memory.madvise(mmap.MADV_HUGEPAGE)
            except OSError:
                pass  # a kernel without huge pages: small ones do
    else:
        memory = bytearray(size + alignment)
    return memory, -np.frombuffer(memory, np.uint8).ctypes.data % alignment


class Block(np.ndarray):
    """Memory of the pool: arrays made of it keep it, and its end gives it back.

    A subclass of ndarray on something that is no array: so NumPy lets views refer to the block, and
    not to what it stands on.
    """

    home: tuple[list[tuple[Any, int]], Any, int] | None = None  # views of a block have none

    def __del__(self) -> None:
        home = self.home
        if home is not None:
            # No lock: append is atomic, and a collection may run this inside of empty().
            home[0].append((home[1], home[2]))


def empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An array of undefined content, aligned to 64 bytes."""
    dtype = np.dtype(dtype)
    return np.ndarray(shape, dtype, _take(math.prod(shape) * dtype.itemsize)[0])


def full(shape: tuple[int, ...], dtype: Any, value: Any) -> np.ndarray:
    """An array of equal elements. Zeros in memory that the system has just given, which holds
    zeros, take no time: whoever uses them first finds them in fresh pages."""
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    if size < _CUT:
        return np.full(shape, value, dtype)
    block, is_fresh = _take(size)
    made = np.ndarray(shape, dtype, block)
    is_zero = type(value) in (int, float) and value == 0 and math.copysign(1, value) == 1
    if not (is_fresh and is_zero):
        np.copyto(made, value, casting="unsafe")
    return made


def _take(size_bytes: int) -> tuple[Block, bool]:
    """Memory of at least so many bytes, and whether nobody has had it before."""
    global _held
    size = block_bytes(size_bytes)
    free = _free.get(size)
    if free is None:
        with _lock:
            free = _free.setdefault(size, [])
    is_fresh = False
    try:
        memory, offset = free.pop()
    except IndexError:
        memory, offset = _from_system(size)
        is_fresh = True
        with _lock:
            _held += size
    block = Block((size,), np.uint8, memory, offset)
    block.home = (free, memory, offset)
    return block, is_fresh


def owns_memory(array: np.ndarray) -> bool:
    """Whether the array is no view: views refer to the array that they were made of."""
    return array.base is None or type(array.base) is Block


_DATA = object.__basicsize__  # where an array keeps the address of its elements: behind its head
_word_at = ctypes.c_ssize_t.from_address


def address_of(array: np.ndarray) -> int:
    """Where the array's first element stands."""
    return _word_at(id(array) + _DATA).value


def _asked(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


if any(address_of(a) != _asked(a) for a in (np.empty(3), np.empty((2, 5), "i1")[1:, ::-2])):
    address_of = _asked  # another interpreter: ask the array itself, which takes longer


def memory_stats() -> dict[str, int]:
    """Bytes taken from the system, and how many of them wait for their next use."""
    cached = sum(size * len(free) for size, free in list(_free.items()))
    return {"held_bytes": _held, "cached_bytes": cached}


def empty_cache() -> None:
    """Give everything that is not in use back to the system. Blocks of a slab stay known, without
    their pages."""
    global _held
    with _lock:
        for size, free in list(_free.items()):
            if _CUT <= size <= _OWN:
                for memory, offset in list(free):
                    _drop_pages(memory, offset, offset + size)
                continue
            while free:
                free.pop()
                _held -= size


def _drop_pages(memory: Any, start: int, end: int) -> None:
    """Give the whole pages between two offsets back; they are zeros when they are touched again."""
    page = mmap.PAGESIZE
    start, end = -(-start // page) * page, end // page * page
    if start < end and hasattr(mmap, "MADV_DONTNEED"):
        memory.madvise(mmap.MADV_DONTNEED, start, end - start)
