"""Batches from a worker to the main process: a small message and one block of shared memory.

Large arrays are copied into an anonymous block (Linux: memfd) whose descriptor travels over the
pipe. The block has no name, so the kernel frees it with the last process that holds it: nothing is
left behind, however the processes end, and the size of /dev/shm does not matter. The arrays of a
batch stand in the block itself. The main process names the slot that each request may fill, and
gives a slot out again when the last array on it is gone: so nothing is copied, and memory stays
flat however often the blocks are used. Elsewhere than on Linux everything goes through the pipe.
"""

from __future__ import annotations

import io
import mmap
import os
import pickle
from collections import deque
from dataclasses import dataclass
from multiprocessing import reduction

import numpy as np

from .arrays import as_array, is_tensor, to_tensor

SHARES_MEMORY = hasattr(os, "memfd_create")
SMALL_BYTES = 32768  # arrays below travel inside the message: a block costs more than it saves
ALIGNMENT = 64


@dataclass(frozen=True)
class Message:
    """What a worker sends: `body` pickled, the sizes of the arrays that lie in the slot's block."""

    epoch: int
    kind: str  # "batch", "error", "end" or "skipped"
    slot: int
    body: bytes
    sizes: tuple[int, ...] = ()
    block_bytes: int = 0  # above 0: a block of this size follows and replaces the slot's


class Outbox:
    """The worker's end: pickles a value, its large arrays into a block."""

    def __init__(self, connection):
        self._connection = connection
        self._blocks: dict[int, mmap.mmap] = {}

    def send(self, epoch: int, kind: str, value, slot: int) -> None:
        large: list[pickle.PickleBuffer] = []
        body = io.BytesIO()
        _ArrayPickler(body, large).dump(value)  # raises before anything is sent
        arrays = [np.frombuffer(buffer, np.uint8) for buffer in large]
        block, new_block_bytes, descriptor = self._blocks.get(slot), 0, -1
        needed = sum(_aligned(array.nbytes) for array in arrays)
        if needed > (len(block) if block else 0):
            # An eighth more, so that batches of slightly varying size find their block.
            new_block_bytes = -(-(needed + needed // 8) // mmap.PAGESIZE) * mmap.PAGESIZE
            descriptor = os.memfd_create("monograph-batch")
        try:
            if descriptor >= 0:
                os.ftruncate(descriptor, new_block_bytes)
                block = self._blocks[slot] = mmap.mmap(descriptor, new_block_bytes)
            if arrays:
                _copy_into(block, arrays)
            sizes = tuple(array.nbytes for array in arrays)
            message = Message(epoch, kind, slot, body.getvalue(), sizes, new_block_bytes)
            self._connection.send_bytes(pickle.dumps(message))
            if descriptor >= 0:
                reduction.send_handle(self._connection, descriptor, os.getppid())
        finally:
            if descriptor >= 0:
                os.close(descriptor)


class Lease(np.ndarray):
    """The arrays of one batch in a slot: keeps the slot from being filled anew while they live.

    A subclass of ndarray on something that is no array: so NumPy lets views refer to the lease.
    """

    home: tuple[deque, int] | None = None  # views of a lease have none

    def __del__(self) -> None:
        if self.home is not None:
            self.home[0].append(self.home[1])


class Inbox:
    """The main process's end: gives slots out, receives messages, unpacks them."""

    def __init__(self, connection):
        self._connection = connection
        self._blocks: dict[int, mmap.mmap] = {}
        self._free: deque[int] = deque()
        self._slots = 0  # made so far

    def slot(self) -> int:
        """A slot for the next request: one that nobody looks at."""
        if self._free:
            return self._free.popleft()
        self._slots += 1
        return self._slots - 1

    def release(self, slot: int) -> None:
        """Take a slot back."""
        self._free.append(slot)

    def receive(self) -> Message:
        """The next message. EOFError or OSError if the worker is gone."""
        message: Message = pickle.loads(self._connection.recv_bytes())
        if message.block_bytes:
            descriptor = reduction.recv_handle(self._connection)
            try:
                self._blocks[message.slot] = mmap.mmap(descriptor, message.block_bytes)
            finally:
                os.close(descriptor)
        return message

    def unpack(self, message: Message):
        """The value of a message; its large arrays stand in shared memory of their own."""
        if not message.sizes:
            self.release(message.slot)
            return pickle.loads(message.body)
        size = sum(map(_aligned, message.sizes))
        lease = Lease((size,), np.uint8, self._blocks[message.slot])
        lease.home = (self._free, message.slot)
        buffers, offset = [], 0
        for size in message.sizes:
            buffers.append(lease[offset : offset + size])
            offset += _aligned(size)
        return pickle.loads(message.body, buffers=buffers)


class _ArrayPickler(pickle.Pickler):
    """Pickles tensors and plain arrays as buffers; large ones are collected, not written."""

    def __init__(self, file, large: list):
        super().__init__(file, protocol=5, buffer_callback=self._keep_small)
        self._large = large

    def _keep_small(self, buffer: pickle.PickleBuffer) -> bool:
        """Whether the pickler writes the buffer itself."""
        if not SHARES_MEMORY or buffer.raw().nbytes < SMALL_BYTES:
            return True
        self._large.append(buffer)
        return False

    def reducer_override(self, x):
        if is_tensor(x):
            return _make_tensor, (as_array(x),)
        if type(x) is np.ndarray and not x.dtype.hasobject and x.dtype.itemsize:
            flat = np.ascontiguousarray(x).reshape(-1).view(np.uint8)
            return _make_array, (pickle.PickleBuffer(flat), x.dtype, x.shape)
        return NotImplemented


def _make_array(buffer, dtype, shape) -> np.ndarray:
    return np.frombuffer(buffer, np.uint8).view(dtype).reshape(shape)


def _make_tensor(array):
    return to_tensor(array)


def _copy_into(block: mmap.mmap, arrays: list[np.ndarray]) -> None:
    target, offset = np.frombuffer(block, np.uint8), 0
    for array in arrays:
        target[offset : offset + array.nbytes] = array
        offset += _aligned(array.nbytes)


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
