"""The gradients that calls of a captured function leave on its tensors, and where arrays stand.

Used by capture_replay.py.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from .ir.op import Aval
from .runtime import buffers
from .runtime.buffers import address_of
from .tensor import Tensor, wrap

SMALL_BYTES = 256


class Grads:
    """The gradients that calls leave on captured tensors; the next call may use their memory.

    owners  (slot, tensor that has the gradient, aval of the gradient)
    given   for each, (slot, owner, gradient, its array, the block under that) of the last call
    """

    def __init__(self, owners: list[tuple[int, Tensor, Aval]]):
        self.owners = owners
        self.given: list[tuple[int, Any, Any, Any, Any]] = [
            (slot, owner, None, None, None) for slot, owner, _ in owners
        ]

    def stand(self) -> list[tuple[Any, str, Any]]:
        """What stands where if none is `taken`, for a Watch ..."""
        owners = [(owner, "_grad", grad) for _, owner, grad, *_ in self.given]
        return owners + [(grad, "_payload", array) for _, _, grad, array, _ in self.given]

    def holders(self) -> list[tuple[Any, int]]:
        """... and how many holders there are: those that `taken` counts, without its own names."""
        held = [((grad, 2), (array, 3), (block, 2)) for _, _, grad, array, block in self.given]
        return [(x, count) for each in held for x, count in each if x is not None]

    def taken(self) -> list[int]:
        """Those that somebody else has replaced, or holds, or whose memory he holds."""
        count = sys.getrefcount
        found = []
        k = 0
        # Holders of a gradient: its owner, `given`, the name here, the argument of `count`; of the
        # array: the gradient, `given`, the call's list, name, argument; of the block: the array,
        # `given`, name, argument.
        for _, owner, grad, array, block in self.given:
            if (
                owner._grad is not grad
                or grad is None
                or grad._payload is not array
                or count(grad) > 4
                or count(array) > 5
                or (block is not None and count(block) > 4)
            ):
                found.append(k)
            k += 1
        return found

    def renew(self, which: list[int], slots: Any, arrays: list[Any]) -> None:
        """New memory for some of them."""
        for k in which:
            slot, owner, aval = self.owners[k]
            array = array_maker(aval)(aval.shape, aval.dtype.numpy)
            slots[slot], arrays[slot] = address_of(array), array
            self.given[k] = (slot, owner, None, array, array.base)

    def give(self, which: list[int]) -> None:
        """Put those of new memory on their owners."""
        for k in which:
            slot, owner, _, array, block = self.given[k]
            owner._grad = grad = wrap(array)
            self.given[k] = (slot, owner, grad, array, block)


def array_maker(aval: Aval) -> Any:
    """What makes arrays for a result: for small ones NumPy itself, which is quicker."""
    return np.empty if aval.size * aval.dtype.itemsize <= SMALL_BYTES else buffers.empty


def span_of(array: np.ndarray) -> tuple[int, int]:
    """The addresses between which the array's elements stand."""
    low = high = address_of(array)
    for n, step in zip(array.shape, array.strides):
        if n == 0:
            return low, low
        low, high = low + min(0, (n - 1) * step), high + max(0, (n - 1) * step)
    return low, high + array.itemsize


def overlap(arrays: Sequence[np.ndarray], changed: set[int]) -> bool:
    """Whether one of `arrays` that is changed (by its id) may share memory with another."""
    reach = reach_changed = 0  # where the spans so far end, and those of changed arrays
    for (start, end), is_changed in sorted((span_of(a), id(a) in changed) for a in arrays):
        if start == end:
            continue
        if start < reach_changed or (is_changed and start < reach):
            return True
        reach = max(reach, end)
        if is_changed:
            reach_changed = max(reach_changed, end)
    return False
