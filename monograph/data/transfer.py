"""Batches from a worker to the main process: a small message and one block of shared memory.

Large arrays are copied into an anonymous block (Linux: memfd) whose descriptor travels over the
pipe. The block has no name, so the kernel frees it with the last process that holds it: nothing is
left behind, however the processes end, and the size of /dev/shm does not matter. A worker reuses
`slots` blocks in turn; the main process copies a batch out before it asks for the one that will
overwrite it. Elsewhere than on Linux everything goes through the pipe.
"""

from __future__ import annotations

import io
import mmap
import os
import pickle
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
    kind: str  # "batch", "error" or "end"
    body: bytes
    sizes: tuple[int, ...] = ()
    block_bytes: int = 0  # above 0: a block of this size follows and replaces the slot's


class Outbox:
    """The worker's end: pickles a value, its large arrays into the next slot's block."""

    def __init__(self, connection, slots: int):
        self._connection = connection
        self._blocks: list[mmap.mmap | None] = [None] * slots
        self._sent = 0

    def send(self, epoch: int, kind: str, value) -> None:
        large: list[pickle.PickleBuffer] = []
        body = io.BytesIO()
        _ArrayPickler(body, large).dump(value)  # raises before anything is sent
        arrays = [np.frombuffer(buffer, np.uint8) for buffer in large]
        slot = self._sent % len(self._blocks)
        block, new_block_bytes, descriptor = self._blocks[slot], 0, -1
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
            message = Message(epoch, kind, body.getvalue(), sizes, new_block_bytes)
            self._connection.send_bytes(pickle.dumps(message))
            self._sent += 1
            if descriptor >= 0:
                reduction.send_handle(self._connection, descriptor, os.getppid())
        finally:
            if descriptor >= 0:
                os.close(descriptor)


class Inbox:
    """The main process's end: receives messages in order, later unpacks them in the same order."""

    def __init__(self, connection, slots: int):
        self._connection = connection
        self._blocks: list[mmap.mmap | None] = [None] * slots
        self._received = 0

    def receive(self) -> tuple[Message, int]:
        """The next message and its slot. EOFError or OSError if the worker is gone."""
        message: Message = pickle.loads(self._connection.recv_bytes())
        slot = self._received % len(self._blocks)
        if message.block_bytes:
            descriptor = reduction.recv_handle(self._connection)
            try:
                self._blocks[slot] = mmap.mmap(descriptor, message.block_bytes, prot=mmap.PROT_READ)
            finally:
                os.close(descriptor)
        self._received += 1
        return message, slot

    def unpack(self, message: Message, slot: int):
        """The value of a message, with arrays in memory of their own."""
        buffers, offset = [], 0
        if message.sizes:
            block = np.frombuffer(self._blocks[slot], np.uint8)
            for size in message.sizes:
                buffers.append(block[offset : offset + size].copy())
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
